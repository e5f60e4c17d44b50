"""Reading datasets, sessions and rows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Select, func, select

from include.annotation.answers import parse_content, row_digest
from include.base.errors import InvalidInput, NotFound
from include.systems.prodigy.values import Altered, DatasetInfo, Piece, Row, Watermark
from labelops.hooks.prodigy.database import Database
from labelops.hooks.prodigy.engine import make_engine
from labelops.hooks.prodigy.errors import SYSTEM
from labelops.hooks.prodigy.statements import (
    BATCH,
    LOOKUP,
    as_row,
    chunks,
    exact,
    linked_pieces,
    plain_rows,
    sessions_of,
)

__all__ = ["Reading"]

PIECE_ROWS = 2500
"""How many stored rows are given out at a time, at most."""


class Reading(Database):
    """What is there."""

    def datasets(self, *, sessions: bool = False) -> list[DatasetInfo]:
        """Return the named datasets, or the sessions, oldest first."""
        table = self._tables().dataset
        return self._infos(select(table).where(table.c.session == self._tables().session_flag(sessions)))

    def sessions(self, dataset: str | None = None) -> list[DatasetInfo]:
        """Return the sessions, oldest first: all of them, or those in which a dataset's examples were answered.

        After a dataset was dropped its examples stay under their sessions, which only the whole list shows.
        """
        if dataset is None:
            return self.datasets(sessions=True)
        schema = self._tables()
        dataset_id = self._dataset_id(dataset)
        if dataset_id is None:
            return []
        link, other = schema.link, schema.link.alias("other")
        answered = (
            select(other.c.dataset_id)
            .join_from(link, other, other.c.example_id == link.c.example_id)
            .where(link.c.dataset_id == dataset_id)
            .distinct()
        )
        table = schema.dataset
        return self._infos(select(table).where(table.c.session == schema.session_flag(True), table.c.id.in_(answered)))

    def meta(self, name: str) -> Mapping[str, Any] | None:
        """Return the metadata of a dataset or session, None where there is none of this name."""
        table = self._tables().dataset
        found = exact(self._infos(select(table).where(table.c.name == name)), name)
        return None if found is None else found.meta

    def _infos(self, wanted: Select[Any]) -> list[DatasetInfo]:
        table = self._tables().dataset
        with self._reading() as conn:
            found = conn.execute(wanted.order_by(table.c.created, table.c.id)).all()
        return [
            DatasetInfo(
                row.id,
                row.name,
                datetime.fromtimestamp(row.created, UTC),
                bool(row.session),
                self._meta(row.name, row.meta),
            )
            for row in found
        ]

    def exists(self, dataset: str) -> bool:
        """Tell whether a named dataset exists.

        :raises Unsupported: when it may be in a newer storage that cannot be read.
        """
        return self._dataset_id(dataset) is not None

    def watermark(self, dataset: str) -> Watermark:
        """Return count and highest link id; (0, 0) for a dataset that is not there.

        The pair tells whether to look, not what changed: SQLite gives ids anew after a drop, and elsewhere a
        transaction that began earlier can commit a lower id later.
        """
        return self.watermarks([dataset])[dataset]

    def watermarks(self, datasets: Iterable[str]) -> dict[str, Watermark]:
        """Return the watermark of each dataset, with one statement for all: cheap enough to ask every minute."""
        names = list(dict.fromkeys(datasets))
        schema = self._tables()
        found: dict[str, Watermark] = {}
        with self._reading() as conn:
            for some in chunks(names, LOOKUP):
                counted = (
                    select(schema.dataset.c.name, func.count(schema.link.c.id), func.max(schema.link.c.id))
                    .select_from(schema.dataset.outerjoin(schema.link, schema.link.c.dataset_id == schema.dataset.c.id))
                    .where(schema.dataset.c.name.in_(some), schema.dataset.c.session == schema.session_flag(False))
                    .group_by(schema.dataset.c.id, schema.dataset.c.name)
                )
                for name, count, last in conn.execute(counted):
                    found[name] = Watermark(int(count), int(last or 0))
        for name in names:
            if name not in found:
                self._refuse_structured(schema, name)
        return {name: found.get(name, Watermark(0, 0)) for name in names}

    async def watermarks_async(self, datasets: Iterable[str]) -> dict[str, Watermark]:
        """Do as :meth:`watermarks`, for a trigger: the event loop is not held up while the database answers."""
        if self._engine is None:
            self._engine = make_engine(await self.aget_connection(self.prodigy_conn_id), self.prodigy_conn_id)
        return await asyncio.to_thread(self.watermarks, list(datasets))

    def rows(self, dataset: str, *, after: int = 0, batch: int = BATCH) -> Iterator[Row]:
        """Stream a dataset's rows in link order, each once, holding at most ``batch`` of them and about 8 MB.

        No transaction stays open between two batches, so a long pass never blocks Prodigy. A row whose content is not a
        JSON object comes with empty ``content`` and its ``raw`` bytes, so that one bad row does not end the pass;
        :func:`include.annotation.answers.read_answer` says what is wrong with it.

        :param after: only links with a higher id.
        """
        dataset_id = self._dataset_id(dataset)
        if dataset_id is not None:
            yield from self._linked(dataset_id, after, batch)

    def rows_of_session(self, session: str, *, after: int = 0, batch: int = BATCH) -> Iterator[Row]:
        """Stream the rows that a session is linked to, as :meth:`rows`: also those whose dataset was dropped.

        Each comes with this session's name; nothing, where there is no session of this name.
        """
        schema = self._tables()
        table = schema.dataset
        wanted = select(table.c.id, table.c.name).where(
            table.c.name == session, table.c.session == schema.session_flag(True)
        )
        with self._reading() as conn:
            found = exact(conn.execute(wanted).all(), session)
        if found is not None:
            for row in self._linked(found.id, after, batch):
                yield row if row.session == session else replace(row, session=session)

    def pieces(
        self,
        dataset: str | None,
        *,
        session: str | None = None,
        after: int = 0,
        upto: int | None = None,
        sessions: bool = False,
    ) -> Iterator[Piece]:
        """Stream stored rows, unread, in link order: of a dataset, of a session, or of a session within a dataset.

        Each piece holds at most 2,500 rows and about 8 MB, and is read by a short statement of its own.

        :param after, upto: only links with a higher id, and up to that one; with a session, of the session's.
        :param sessions: also look up each row's session.
        :raises NotFound: when there is no such dataset or session.
        """
        dataset_id, within = self._scope(dataset, session)
        schema = self._tables()
        example = schema.example
        columns = (example.c.id, example.c.input_hash, example.c.task_hash)

        def named(conn: Connection, first: int, last: int) -> dict[int, str]:
            return sessions_of(conn, schema, dataset_id, first, last)

        for rows, found in linked_pieces(
            self._reading, schema, dataset_id, *columns,
            after=after, upto=upto, batch=PIECE_ROWS, within=within, beside=named if sessions else None,
        ):  # fmt: skip
            yield Piece(rows, found or {})
            del rows, found

    def newest(self, dataset: str | None, *, session: str | None = None) -> Watermark:
        """Return count and highest id of the links that :meth:`pieces` would go through now.

        With both a dataset and a session, the count is the session's.

        :raises NotFound: when there is no such dataset or session.
        """
        link = self._tables().link
        counted = select(func.count(link.c.id), func.max(link.c.id)).where(
            link.c.dataset_id == self._scope(dataset, session)[0]
        )
        with self._reading() as conn:
            count, last = conn.execute(counted).one()
        return Watermark(int(count), int(last or 0))

    def _scope(self, dataset: str | None, session: str | None) -> tuple[int, int | None]:
        """Return whose links are gone through, and what their examples must be linked to as well."""
        if dataset is None and session is None:
            raise InvalidInput("found neither a dataset nor a session; allowed: one of them, or both")
        dataset_id = self._known(dataset, sessions=False) if dataset is not None else None
        if session is None:
            assert dataset_id is not None
            return dataset_id, None
        # A session's links are fewer, and nearly all of them are the dataset's.
        return self._known(session, sessions=True), dataset_id

    def _known(self, name: str, *, sessions: bool) -> int:
        if not sessions:
            dataset_id = self._dataset_id(name)
            if dataset_id is not None:
                return dataset_id
        there = self.datasets(sessions=sessions)
        found = exact(there, name)
        if found is None:
            what = "session" if sessions else "dataset"
            names = [one.name for one in there]
            listed = ", ".join(names[-20:]) + (f" and {len(names) - 20} older ones" if len(names) > 20 else "")
            raise NotFound(
                f"{what} {name!r} is not in Prodigy's database; there are: {listed or 'none'}", system=SYSTEM
            )
        return int(found.id)

    def _linked(self, dataset_id: int, after: int = 0, batch: int = BATCH, upto: int | None = None) -> Iterator[Row]:
        schema = self._tables()
        example = schema.example
        columns = (example.c.id, example.c.input_hash, example.c.task_hash)

        def sessions(conn: Connection, first: int, last: int) -> dict[int, str]:
            return sessions_of(conn, schema, dataset_id, first, last)

        for rows, named in linked_pieces(
            self._reading, schema, dataset_id, *columns, after=after, upto=upto, batch=batch, beside=sessions
        ):
            # What was given out is not held any more.
            rows.reverse()
            while rows:
                yield as_row(rows.pop(), named)

    def example_digests(self, example_ids: Iterable[int]) -> Iterator[tuple[int, str | None]]:
        """Yield each example's id with the SHA-256 of its stored bytes, None where it is gone; in the order given."""
        waiting = iter(example_ids)
        while some := list(islice(waiting, LOOKUP)):
            found = self._digests(some)
            for example_id in some:
                yield example_id, found.get(example_id)

    def altered(self, dataset: str, seen: Iterable[tuple[int, str]]) -> Iterator[Altered]:
        """Yield what of the examples seen before is no longer as it was, in the order given.

        Nothing is held but some hundred examples at a time, and on PostgreSQL and MySQL no content leaves the server.

        :param seen: example ids with the SHA-256 of their stored bytes, as :class:`Row`'s ``raw`` had it.
        :return: with ``found`` None for an example that is gone; ``linked`` tells whether the dataset still holds it.
        """
        schema = self._tables()
        link = schema.link
        dataset_id = self._dataset_id(dataset)
        waiting = iter(seen)
        while some := list(islice(waiting, LOOKUP)):
            ids = [example_id for example_id, _ in some]
            digests = self._digests(ids)
            linked: set[int] = set()
            if dataset_id is not None:
                with self._reading() as conn:
                    held = select(link.c.example_id).where(link.c.dataset_id == dataset_id, link.c.example_id.in_(ids))
                    linked = {row[0] for row in plain_rows(conn, held)}
            for example_id, digest in some:
                found = digests.get(example_id)
                if found != digest or example_id not in linked:
                    yield Altered(example_id, digest, found, example_id in linked)

    def _digests(self, ids: Sequence[int]) -> dict[int, str]:
        """Return the SHA-256 of some examples' stored bytes, of those that are there."""
        schema = self._tables()
        table = schema.example
        there = table.c.id.in_(ids)
        name = self.get_conn().dialect.name
        on_server = {
            "postgresql": func.encode(func.sha256(table.c.content), "hex"),
            "mysql": func.sha2(table.c.content, 256),
        }.get(name)
        found: dict[int, str] = {}
        with self._reading() as conn:
            if on_server is not None and not schema.content_is_text:
                found.update(plain_rows(conn, select(table.c.id, on_server).where(there)))
            elif name == "sqlite":
                for example_id, content in plain_rows(conn, select(table.c.id, table.c.content).where(there)):
                    found[example_id] = row_digest(content)
            else:
                for example_id in ids:
                    one = select(table.c.content).where(table.c.id == example_id)
                    found.update((example_id, row_digest(content)) for (content,) in plain_rows(conn, one))
        return found

    def _meta(self, name: str, stored: Any) -> Mapping[str, Any]:
        try:
            return parse_content(stored)
        except InvalidInput as error:
            self.log.warning(
                "The meta of the Prodigy dataset %s cannot be read (%s) and is taken as empty", name, error
            )
            return {}
