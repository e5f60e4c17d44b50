"""Reading datasets, sessions and rows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import func, select

from include.annotation.answers import parse_content, row_digest
from include.base.errors import InvalidInput
from include.systems.prodigy import DatasetInfo, Row, Watermark
from labelops.hooks.prodigy.database import Database
from labelops.hooks.prodigy.engine import make_engine
from labelops.hooks.prodigy.statements import LOOKUP, as_row, chunks, pieces, sessions_of, sizes_of, stored_rows

__all__ = ["Reading"]


class Reading(Database):
    """What is there."""

    def datasets(self, *, sessions: bool = False) -> list[DatasetInfo]:
        """Return the named datasets, or the sessions, oldest first."""
        schema = self._tables()
        table = schema.dataset
        wanted = select(table).where(table.c.session == schema.session_flag(sessions))
        with self._reading() as conn:
            found = conn.execute(wanted.order_by(table.c.created, table.c.id)).all()
        return [
            DatasetInfo(
                row.id, row.name, datetime.fromtimestamp(row.created, UTC), sessions, self._meta(row.name, row.meta)
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

    def rows(self, dataset: str, *, after: int = 0, batch: int = 1000) -> Iterator[Row]:
        """Stream a dataset's rows in link order, each once, holding at most ``batch`` of them and about 8 MB.

        No transaction stays open between two batches, so a long pass never blocks Prodigy. A row whose content is not a
        JSON object comes with empty ``content`` and its ``raw`` bytes, so that one bad row does not end the pass;
        :func:`include.annotation.answers.read_answer` says what is wrong with it.

        :param after: only links with a higher id.
        """
        dataset_id = self._dataset_id(dataset)
        if dataset_id is None:
            return
        schema = self._tables()
        while True:
            with self._reading() as conn:
                sizes = conn.execute(sizes_of(schema, dataset_id, after, batch)).all()
            if not sizes:
                return
            for first, last in pieces(sizes):
                with self._reading() as conn:
                    stored = list(conn.execute(stored_rows(schema, dataset_id, first, last)))
                    sessions = sessions_of(conn, schema, dataset_id, first, last)
                while stored:
                    yield as_row(stored.pop(), sessions)
            after = sizes[-1][0]

    def example_digests(self, example_ids: Iterable[int]) -> Iterator[tuple[int, str | None]]:
        """Yield each example's id with the SHA-256 of its stored bytes, None where it is gone; in the order given."""
        schema = self._tables()
        table = schema.example
        waiting = iter(example_ids)
        while some := list(islice(waiting, LOOKUP)):
            found: dict[int, str] = {}
            with self._reading() as conn:
                size = func.length(table.c.content)
                sizes = conn.execute(select(table.c.id, size).where(table.c.id.in_(some)).order_by(table.c.id)).all()
            for first, last in pieces(sizes):
                with self._reading() as conn:
                    piece = select(table.c.id, table.c.content).where(
                        table.c.id.in_(some), table.c.id.between(first, last)
                    )
                    found.update({row.id: row_digest(row.content) for row in conn.execute(piece)})
            for example_id in some:
                yield example_id, found.get(example_id)

    def _meta(self, name: str, stored: Any) -> Mapping[str, Any]:
        try:
            return parse_content(stored)
        except InvalidInput as error:
            self.log.warning(
                "The meta of the Prodigy dataset %s cannot be read (%s) and is taken as empty", name, error
            )
            return {}
