"""The one door to Prodigy's SQL database (SQLite, PostgreSQL, MySQL and MariaDB)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, delete, func, insert, select

from include.base.errors import AuthError, Conflict, InvalidInput, NotFound, Refused
from include.systems.prodigy.appending import append, check_name, named_dataset
from include.systems.prodigy.content import parse_content, row_digest
from include.systems.prodigy.counting import count_rows
from include.systems.prodigy.database import Database, exact
from include.systems.prodigy.errors import SYSTEM, unlike
from include.systems.prodigy.new_rows import NewRows
from include.systems.prodigy.rights import REQUIREMENTS, rights_of
from include.systems.prodigy.rows import BATCH, linked_pieces, linked_rows, plain_rows
from include.systems.prodigy.settings import Settings
from include.systems.prodigy.values import (
    AddResult,
    Counts,
    DatasetInfo,
    Piece,
    Rights,
    Row,
    RowListing,
    Watermark,
)

__all__ = ["ProdigyClient"]

log = logging.getLogger(__name__)

PIECE_ROWS = 2500
"""How many stored rows are given out at a time, at most."""

LOOKUP = 500
"""How many ids or names go into one IN list; SQLite once allowed 999."""

Item = TypeVar("Item")


class ProdigyClient:
    """Read answers from Prodigy's database, and append tasks, decisions and versions to it.

    The tables belong to Prodigy: none is created or altered, no row is ever updated, and nothing is written under a
    session, for sessions are people's. Rows are deleted by :meth:`unlink` and :meth:`delete_examples` alone, which no
    DAG calls: they take a retention decision, and a right that Labelops needs for nothing else.

    A statement that deadlocked is tried again a few times, and somebody else's lock is waited for, up to 30 seconds;
    everything else is left to the task's retry policy. Connections are opened when needed and held for one statement
    or one transaction, never while the caller works on a row: so a Prodigy that saves to the same SQLite file waits for
    some thousand rows to be read or written at most, well under the five seconds after which it gives up.

    Prodigy links an answer twice, to the dataset and to the session of the person; what Labelops adds has one link,
    the dataset's, as nobody gave it in a session. Content is compact ASCII JSON with its keys in the order given, byte
    for byte as Prodigy writes it; on PostgreSQL and SQLite the ids are taken as the database itself would.

    :param settings: where the database is; nothing is opened before the first call.
    """

    def __init__(self, settings: Settings) -> None:
        self._database = Database(settings)

    # --- what the account may do -----------------------------------------------------------------------------------

    @staticmethod
    def requirements() -> tuple[str, ...]:
        """Return what the account needs: the first for reports, the first three for everything that DAGs do."""
        return REQUIREMENTS

    def rights(self) -> Rights:
        """Tell what the account may do, by trying each right on no row at all; nothing is left behind.

        On SQLite the file's and its folder's permissions count: a write makes a journal beside the file.

        :raises LabelopsError: when the database cannot be reached, or is not Prodigy's.
        """
        return rights_of(self._database)

    def check(self) -> str:
        """Return a sentence that says what is there and what the account may do.

        :raises AuthError: the account lacks what the DAGs need (read and insert); the message names it.
        :raises LabelopsError: when the database cannot be reached, or is not Prodigy's.
        """
        schema = self._database.schema()
        self._database.refuse_unknown_required()
        rights = self.rights()
        if not rights.read:
            raise AuthError(f"Prodigy's database: missing: {', '.join(rights.missing)}", system=SYSTEM)
        flag, everything = schema.dataset.c.session, select(func.count()).select_from(schema.dataset)
        with self._database.reading() as conn:
            datasets, sessions = (
                conn.scalar(everything.where(flag == schema.session_flag(session))) for session in (False, True)
            )
        may = ["read", *(["insert"] if rights.insert else []), *(["delete"] if rights.delete else [])]
        said = (
            f"Prodigy's tables on {self._database.dialect}: {datasets} datasets, {sessions} sessions; "
            f"may {' and '.join(may)}"
        )
        if not rights.insert:
            lacks = [right for right in rights.missing if not right.startswith("delete")]
            said += f"; missing for adding tasks, decisions and versions: {', '.join(lacks)}"
        if schema.structured:
            said += f"; not readable: {', '.join(schema.structured)}"
        if not rights.insert:
            raise AuthError(said, system=SYSTEM)
        return said

    # --- reading ---------------------------------------------------------------------------------------------------

    def datasets(self, *, sessions: bool = False) -> list[DatasetInfo]:
        """Return the named datasets, or the sessions, oldest first."""
        schema = self._database.schema()
        flag = schema.dataset.c.session
        return self._infos(select(schema.dataset).where(flag == schema.session_flag(sessions)))

    def sessions(self, dataset: str | None = None) -> list[DatasetInfo]:
        """Return the sessions, oldest first: all of them, or those in which a dataset's examples were answered.

        After a dataset was dropped its examples stay under their sessions, which only the whole list shows.
        """
        if dataset is None:
            return self.datasets(sessions=True)
        schema = self._database.schema()
        dataset_id = self._database.id_of(dataset)
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
        table = self._database.schema().dataset
        found = exact(self._infos(select(table).where(table.c.name == name)), name)
        return None if found is None else found.meta

    def _infos(self, wanted: Select[Any]) -> list[DatasetInfo]:
        table = self._database.schema().dataset
        with self._database.reading() as conn:
            found = conn.execute(wanted.order_by(table.c.created, table.c.id)).all()
        return [_info(row) for row in found]

    def exists(self, dataset: str) -> bool:
        """Tell whether a named dataset exists.

        :raises Unsupported: when it may be in a newer storage that cannot be read.
        """
        return self._database.id_of(dataset) is not None

    def watermark(self, dataset: str) -> Watermark:
        """Return count and highest link id; (0, 0) for a dataset that is not there.

        The pair tells whether to look, not what changed: SQLite gives ids anew after a drop, and elsewhere a
        transaction that began earlier can commit a lower id later.
        """
        return self.watermarks([dataset])[dataset]

    def watermarks(self, datasets: Iterable[str]) -> dict[str, Watermark]:
        """Return the watermark of each dataset, with one statement for all: cheap enough to ask every minute."""
        names = list(dict.fromkeys(datasets))
        schema = self._database.schema()
        found: dict[str, Watermark] = {}
        with self._database.reading() as conn:
            for some in _chunks(names):
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
                self._database.refuse_structured(name)
        return {name: found.get(name, Watermark(0, 0)) for name in names}

    def rows(self, dataset: str, *, after: int = 0, batch: int = BATCH) -> Iterator[Row]:
        """Stream a dataset's rows in link order, each once, holding at most ``batch`` of them and about 8 MB.

        No transaction stays open between two batches, so a long pass never blocks Prodigy. A row whose content is not a
        JSON object comes with empty ``content`` and its ``raw`` bytes, so that one bad row does not end the pass;
        :func:`include.annotation.answers.read_answer` says what is wrong with it.

        :param after: only links with a higher id.
        """
        dataset_id = self._database.id_of(dataset)
        if dataset_id is not None:
            yield from linked_rows(self._database, dataset_id, after, batch)

    def rows_of_session(self, session: str, *, after: int = 0, batch: int = BATCH) -> Iterator[Row]:
        """Stream the rows that a session is linked to, as :meth:`rows`: also those whose dataset was dropped.

        Each comes with this session's name; nothing, where there is no session of this name.
        """
        session_id = self._database.id_of(session, session=True)
        if session_id is not None:
            for row in linked_rows(self._database, session_id, after, batch):
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
        database, columns = self._database, self._database.schema().stored
        for rows, found in linked_pieces(
            database, dataset_id, *columns, after=after, upto=upto, within=within, batch=PIECE_ROWS, sessions=sessions
        ):
            yield Piece(rows, found)
            del rows, found

    def newest(self, dataset: str | None, *, session: str | None = None) -> Watermark:
        """Return count and highest id of the links that :meth:`pieces` would go through now.

        With both a dataset and a session, the count is the session's.

        :raises NotFound: when there is no such dataset or session.
        """
        link = self._database.schema().link
        counted = select(func.count(link.c.id), func.max(link.c.id)).where(
            link.c.dataset_id == self._scope(dataset, session)[0]
        )
        with self._database.reading() as conn:
            count, last = conn.execute(counted).one()
        return Watermark(int(count), int(last or 0))

    def _scope(self, dataset: str | None, session: str | None) -> tuple[int, int | None]:
        """Return whose links are gone through, and what their examples must be linked to as well."""
        if dataset is None and session is None:
            raise InvalidInput("found neither a dataset nor a session; allowed: one of them, or both")
        dataset_id = self._known(dataset, session=False) if dataset is not None else None
        if session is None:
            assert dataset_id is not None
            return dataset_id, None
        # A session's links are fewer, and nearly all of them are the dataset's.
        return self._known(session, session=True), dataset_id

    def _known(self, name: str, *, session: bool) -> int:
        found = self._database.id_of(name, session=session)
        if found is None:
            what = "session" if session else "dataset"
            names = [one.name for one in self.datasets(sessions=session)]
            listed = ", ".join(names[-20:]) + (f" and {len(names) - 20} older ones" if len(names) > 20 else "")
            raise NotFound(
                f"{what} {name!r} is not in Prodigy's database; there are: {listed or 'none'}", system=SYSTEM
            )
        return found

    def new_rows(self, dataset: str, *, resume: str | None = None) -> RowListing:
        """Stream the rows of a dataset that were not given out before, in link order, and notice what became of those.

        Read to the end, the listing's ``state`` gives only what is new to the next call. Each row comes at least once;
        an item may come a second time where something changed. The state remembers the newest
        hundred rows one by one, with a digest of their content, and sums up the older ones in up to 64 ranges of link
        ids: their number and a checksum over link, example, both hashes and the length of the content. A resumed call
        reads these columns of all rows (no content) in short statements, about a second for a million rows.

        Noticed, told as ``findings``, and the rows of that range given out anew: rows that are gone; rows added below
        the newest one read, by a transaction that began earlier and was committed later (they come alone if they lie
        among the newest hundred, else with all of their range); another row under a link that SQLite gave out again;
        a dataset that was dropped, or dropped and made anew. Not noticed: an older row's content that was changed to
        another of the same length, with its hashes kept (:meth:`example_digests` shows that); a change that was taken
        back in between.

        :param resume: ``state`` of an earlier listing of the same dataset.
        :raises InvalidInput: for a state that is none, was changed, belongs to another dataset, was taken later than
            this machine's time, or is about links past the newest one with nothing left of what it saw (the database
            is an older copy, or another).
        """
        return NewRows(self._database, dataset, resume)

    def counts(self, dataset: str) -> Counts:
        """Count a dataset's rows by annotator, answer, label and day; no row is held, and none is left out.

        PostgreSQL and MySQL count in the server, some ten thousand links a statement; where a row among those is not
        JSON to the server, they are read and counted here, so that the answer is the same. On SQLite all are: its JSON
        functions, which run in this process anyway, are slower than reading the content (4.2 against 3.2 µs a row for
        four fields). Rows that come while it is counted may be in it or not.
        """
        dataset_id = self._database.id_of(dataset)
        return Counts(0, {}) if dataset_id is None else count_rows(self._database, dataset, dataset_id)

    def example_digests(self, example_ids: Iterable[int]) -> Iterator[tuple[int, str | None]]:
        """Yield each example's id with the SHA-256 of its stored bytes, None where it is gone; in the order given."""
        for some in _chunks(example_ids):
            found = self._digests(some)
            for example_id in some:
                yield example_id, found.get(example_id)

    def _digests(self, ids: Sequence[int]) -> dict[int, str]:
        """Return the SHA-256 of some examples' stored bytes, of those that are there."""
        schema = self._database.schema()
        table = schema.example
        there = table.c.id.in_(ids)
        name = self._database.dialect
        on_server = {
            "postgresql": func.encode(func.sha256(table.c.content), "hex"),
            "mysql": func.sha2(table.c.content, 256),
        }.get(name)
        found: dict[int, str] = {}
        with self._database.reading() as conn:
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

    # --- appending -------------------------------------------------------------------------------------------------

    def add_tasks(self, dataset: str, tasks: Iterable[Mapping[str, Any]], *, batch: int = BATCH) -> AddResult:
        """Append the tasks that the dataset does not hold yet, by ``labelops.task_id``; it is created if absent.

        Each batch is one transaction under a lock on the dataset, inside which the rows that others linked meanwhile
        are read first: so two writers, or a retry beside an orphan of the first try, never insert a task twice.
        Hashes and the order of keys are kept as given.

        :raises InvalidInput: for a task without hashes or id, or larger than the column; the batches before it stay.
        :raises Refused: when the dataset is a session.
        """
        return append(self._database, dataset, tasks, "task_id", batch)

    def add_decisions(self, dataset: str, decisions: Iterable[Mapping[str, Any]], *, batch: int = BATCH) -> AddResult:
        """Append the decision rows that the dataset does not hold yet, by ``labelops.decision_id``; as `add_tasks`."""
        return append(self._database, dataset, decisions, "decision_id", batch)

    def link(self, dataset: str, example_ids: Iterable[int], meta: Mapping[str, Any]) -> int:
        """Make ``dataset`` hold exactly these examples, in this order (created if absent); return the links made.

        Everything is one transaction. What is linked already is left, so the call may be repeated.

        :raises Conflict: when the dataset holds other examples too.
        :raises NotFound: when an example is not there.
        :raises Refused: when the dataset is a session.
        """
        wanted = list(dict.fromkeys(example_ids))
        schema = self._database.schema()
        check_name(dataset)
        self._database.refuse_new_structured(dataset)
        self._database.refuse_unknown_required()

        def linked(conn: Connection) -> int:
            dataset_id = named_dataset(conn, schema, dataset, meta)
            held = set(conn.scalars(select(schema.link.c.example_id).where(schema.link.c.dataset_id == dataset_id)))
            extra = held - set(wanted)
            if extra:
                raise Conflict(
                    f"dataset {dataset} holds {len(extra)} examples that do not belong to it, such as {min(extra)}; "
                    "nothing was linked",
                    system=SYSTEM,
                )
            missing = [example_id for example_id in wanted if example_id not in held]
            for some in _chunks(missing):
                there = set(conn.scalars(select(schema.example.c.id).where(schema.example.c.id.in_(some))))
                absent = [example_id for example_id in some if example_id not in there]
                if absent:
                    raise NotFound(f"dataset {dataset}: there is no example {absent[0]} to link", system=SYSTEM)
                conn.execute(insert(schema.link), [{"example_id": e, "dataset_id": dataset_id} for e in some])
            return len(missing)

        made = self._database.transaction(linked, dataset=dataset)
        if made:
            log.info("Linked %s examples to the Prodigy dataset %s", made, dataset)
        return made

    # --- removing, on a person's decision ---------------------------------------------------------------------------

    def unlink(self, dataset: str) -> int:
        """Remove a dataset and its links as Prodigy's drop does, in one transaction; return the number of links.

        The examples stay in the database: those of a session are still linked to it, and others can be found by id
        only. Whoever has to destroy content needs :meth:`delete_examples` as well. No DAG calls this: it takes a
        retention decision. A dataset that is not there is no error, so the call may be repeated.

        :raises Refused: when the name is a session's.
        :raises AuthError: naming the right that is missing; nothing was removed.
        """
        schema = self._database.schema()
        self._database.refuse_new_structured(dataset)
        table, link = schema.dataset, schema.link

        def unlinked(conn: Connection) -> int | None:
            found = exact(
                conn.execute(select(table.c.id, table.c.name, table.c.session).where(table.c.name == dataset)).all(),
                dataset,
            )
            if found is None:
                return None
            if found.session:
                raise Refused(f"dataset {dataset} is a session: sessions belong to people, Labelops never removes them")
            links = conn.scalar(select(func.count()).select_from(link).where(link.c.dataset_id == found.id))
            conn.execute(delete(link).where(link.c.dataset_id == found.id))
            conn.execute(delete(table).where(table.c.id == found.id))
            return int(links or 0)

        removed = self._database.transaction(unlinked, dataset=dataset, right="delete from dataset and link")
        if removed is not None:
            log.info("Removed the Prodigy dataset %s and its %s links; its examples stay", dataset, removed)
        return removed or 0

    def delete_examples(self, example_ids: Iterable[int]) -> int:
        """Delete examples and every link to them, those of sessions and versions too; return how many were deleted.

        Each few hundred are one transaction, so that Prodigy's own saves get their turn: a call that was cut short is
        repeated with the same ids. No DAG calls this: it takes a retention decision. On SQLite the ids of deleted
        rows may be given out again, and the bytes stay in the file's free pages until it is vacuumed.

        :raises AuthError: naming the right that is missing; nothing was deleted.
        """
        schema = self._database.schema()
        example, link = schema.example, schema.link
        removed = 0
        for some in _chunks(example_ids):

            def deleted(conn: Connection, some: list[int] = some) -> int:
                conn.execute(delete(link).where(link.c.example_id.in_(some)))
                return int(conn.execute(delete(example).where(example.c.id.in_(some))).rowcount)

            removed += self._database.transaction(deleted, right="delete from link and example")
        if removed:
            log.info("Deleted %s examples and their links from Prodigy's database", removed)
        return removed


def _info(row: Any) -> DatasetInfo:
    if type(row.name) is not str:
        raise unlike(f"dataset {row.id}", "name", "text", row.name)
    try:
        created = datetime.fromtimestamp(row.created, UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise unlike(f"dataset {row.id}", "created", "seconds since 1970", row.created) from error
    return DatasetInfo(row.id, row.name, created, bool(row.session), _meta(row.name, row.meta))


def _meta(name: str, stored: Any) -> Mapping[str, Any]:
    try:
        return parse_content(stored)
    except InvalidInput as error:
        log.warning("The meta of the Prodigy dataset %s cannot be read (%s) and is taken as empty", name, error)
        return {}


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cut items into pieces that fit into one IN list."""
    waiting = iter(items)
    while some := list(islice(waiting, LOOKUP)):
        yield some
