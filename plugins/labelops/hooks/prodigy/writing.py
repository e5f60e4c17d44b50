"""Appending tasks, decisions and links."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Insert, Table, insert, select
from sqlalchemy.exc import IntegrityError

from include.annotation.answers import parse_content, stored_bytes
from include.annotation.seen import SeenNames
from include.base.errors import Conflict, InvalidInput, InvalidReply, NotFound, Refused
from include.systems.prodigy import AddResult, Watermark
from labelops.hooks.prodigy.database import Database
from labelops.hooks.prodigy.errors import SYSTEM, Again
from labelops.hooks.prodigy.schema import Schema
from labelops.hooks.prodigy.statements import (
    LOOKUP,
    PIECE_BYTES,
    chunks,
    count_upto,
    exact,
    pieces,
    sizes_of,
    stored_rows,
    watermark_of,
)

__all__ = ["Writing"]

STATEMENT_BYTES = 512 * 1024
"""How much content one INSERT carries, unless a single row is larger."""

_SESSION_NAME = re.compile(r"\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}\Z")


class Writing(Database):
    """What is appended."""

    def add_tasks(self, dataset: str, tasks: Iterable[Mapping[str, Any]], *, batch: int = 1000) -> AddResult:
        """Append the tasks that the dataset does not hold yet, by ``labelops.task_id``; it is created if absent.

        Each batch is one transaction under a lock on the dataset, inside which the rows that others linked meanwhile
        are read first: so two writers, or a retry beside an orphan of the first try, never insert a task twice.
        Hashes and the order of keys are kept as given.

        :raises InvalidInput: for a task without hashes or id, or larger than the column; the batches before it stay.
        :raises Refused: when the dataset is a session.
        """
        return self._append(dataset, tasks, "task_id", batch)

    def add_decisions(self, dataset: str, decisions: Iterable[Mapping[str, Any]], *, batch: int = 1000) -> AddResult:
        """Append the decision rows that the dataset does not hold yet, by ``labelops.decision_id``; as `add_tasks`."""
        return self._append(dataset, decisions, "decision_id", batch)

    def link(self, dataset: str, example_ids: Iterable[int], meta: Mapping[str, Any]) -> int:
        """Make ``dataset`` hold exactly these examples, in this order (created if absent); return the links made.

        Everything is one transaction. What is linked already is left, so the call may be repeated.

        :raises Conflict: when the dataset holds other examples too.
        :raises NotFound: when an example is not there.
        :raises Refused: when the dataset is a session.
        """
        wanted = list(dict.fromkeys(example_ids))
        schema = self._tables()
        check_name(dataset)
        self._refuse_new_structured(schema, dataset)

        def linked(conn: Connection) -> int:
            dataset_id = self._locked_dataset(conn, schema, dataset, meta)
            held = set(conn.scalars(select(schema.link.c.example_id).where(schema.link.c.dataset_id == dataset_id)))
            extra = held - set(wanted)
            if extra:
                raise Conflict(
                    f"dataset {dataset} holds {len(extra)} examples that do not belong to it, such as {min(extra)}; "
                    "nothing was linked",
                    system=SYSTEM,
                )
            missing = [example_id for example_id in wanted if example_id not in held]
            for some in chunks(missing, LOOKUP):
                there = set(conn.scalars(select(schema.example.c.id).where(schema.example.c.id.in_(some))))
                absent = [example_id for example_id in some if example_id not in there]
                if absent:
                    raise NotFound(f"dataset {dataset}: there is no example {absent[0]} to link", system=SYSTEM)
                conn.execute(insert(schema.link), [{"example_id": e, "dataset_id": dataset_id} for e in some])
            return len(missing)

        made = self._transaction(linked)
        if made:
            self.log.info("Linked %s examples to the Prodigy dataset %s", made, dataset)
        return made

    def _append(self, dataset: str, items: Iterable[Mapping[str, Any]], key: str, batch: int) -> AddResult:
        check_name(dataset)
        waiting = iter(items)
        first = next(waiting, None)
        if first is None:
            return AddResult(0, 0)
        schema = self._tables()
        self._refuse_new_structured(schema, dataset)
        prepared = (_prepare(item, key, dataset, schema.content_bytes) for item in chain([first], waiting))
        inserted = present = 0
        with SeenNames() as seen:
            appender = _Appender(self, schema, dataset, key, seen)
            for some in by_size(prepared, batch):
                new = appender.append(some)
                inserted += new
                present += len(some) - new
        if inserted:
            self.log.info("Inserted %s rows into the Prodigy dataset %s; %s were there", inserted, dataset, present)
        return AddResult(inserted, present)

    def _locked_dataset(self, conn: Connection, schema: Schema, name: str, meta: Mapping[str, Any]) -> int:
        """Return the id of a named dataset, created if absent, with its row locked until the transaction ends.

        On SQLite the transaction itself holds the only write lock. On PostgreSQL the lock is FOR NO KEY UPDATE, which
        the foreign keys of Prodigy's own inserts do not wait for.
        """
        table = schema.dataset
        found = self._lock(conn, table, name)
        if found is None:
            values = {
                "name": name,
                "created": int(datetime.now(UTC).timestamp()),
                "meta": json.dumps(meta, separators=(",", ":")).encode("ascii"),
                "session": schema.session_flag(False),
            }
            try:
                conn.execute(insert(table), [values])
            except IntegrityError as error:
                raise Again(f"dataset {name} was created by somebody else at the same moment") from error
            found = self._lock(conn, table, name)
        if found is None:
            raise InvalidReply(f"dataset {name} is not there right after it was created", system=SYSTEM)
        if found.session:
            raise Refused(f"dataset {name} is a session: sessions belong to people, Labelops never writes them")
        return int(found.id)

    def _lock(self, conn: Connection, table: Table, name: str) -> Any:
        wanted = select(table.c.id, table.c.name, table.c.session).where(table.c.name == name)
        found = conn.execute(wanted.with_for_update(key_share=True)).all()
        same = exact(found, name)
        if found and same is None:
            # MySQL's default collation takes names that differ in case or accents for one.
            raise Conflict(
                f"the database cannot tell dataset {name} from its dataset {found[0].name}: choose another name",
                system=SYSTEM,
            )
        return same


class _Appender:
    """Appends prepared rows to one dataset, knowing which names it holds."""

    def __init__(self, hook: Writing, schema: Schema, dataset: str, key: str, seen: SeenNames) -> None:
        self._hook = hook
        self._schema = schema
        self._dataset = dataset
        self._key = key
        self._seen = seen
        self._horizon: Watermark | None = None

    def append(self, rows: Sequence[_Prepared]) -> int:
        """Insert the rows whose name is new, in one transaction; return how many."""
        while True:
            if self._horizon is None:
                self._read_all()
            done = self._hook._transaction(lambda conn: self._append(conn, rows))
            if done is not None:
                horizon, names, inserted = done
                # Only what was committed is remembered, so a failed batch can be tried again.
                self._seen.update(names)
                self._horizon = horizon
                return inserted
            self._seen.clear()
            self._horizon = None

    def _read_all(self) -> None:
        """Read the names of all rows up to a horizon taken under the lock.

        Under the lock no other writer of ours is between its first insert and its commit, so every row it adds later
        has a link id above the horizon. Without it, a batch committed late could lie below and be missed.
        """
        horizon = self._hook._transaction(
            lambda conn: watermark_of(
                conn, self._schema, self._hook._locked_dataset(conn, self._schema, self._dataset, {})
            )
        )
        dataset_id = self._hook._dataset_id(self._dataset)
        if dataset_id is not None:
            # One short transaction per piece: an open one would keep Prodigy from committing on SQLite.
            for names in self._names(self._hook._reading, dataset_id, 0, horizon.last_link):
                self._seen.update(names)
        self._horizon = horizon

    def _append(self, conn: Connection, rows: Sequence[_Prepared]) -> tuple[Watermark, list[str], int] | None:
        """Return the new horizon, the names now known and how many were inserted; None when rows vanished."""
        schema, horizon = self._schema, self._horizon
        assert horizon is not None
        dataset_id = self._hook._locked_dataset(conn, schema, self._dataset, {})
        if conn.dialect.name == "sqlite" and count_upto(conn, schema, dataset_id, horizon.last_link) != horizon.count:
            # Rows were dropped, and SQLite hands their ids out again: what is above the horizon says nothing any more.
            return None
        others: list[str] = []
        for names in self._names(lambda: nullcontext(conn), dataset_id, horizon.last_link, None):
            others.extend(names)
        taken = set(others)
        new: dict[str, _Prepared] = {}
        for row in rows:
            if row.name not in taken and row.name not in self._seen:
                new.setdefault(row.name, row)
        if new:
            _insert(conn, schema, dataset_id, list(new.values()))
        return watermark_of(conn, schema, dataset_id), [*others, *new], len(new)

    def _names(
        self,
        connected: Callable[[], AbstractContextManager[Connection]],
        dataset_id: int,
        after: int,
        upto: int | None,
    ) -> Iterator[list[str]]:
        while True:
            with connected() as conn:
                sizes = conn.execute(sizes_of(self._schema, dataset_id, after, 1000, upto)).all()
            if not sizes:
                return
            for first, last in pieces(sizes):
                with connected() as conn:
                    stored = conn.execute(stored_rows(self._schema, dataset_id, first, last)).all()
                yield [name for row in stored if (name := _name_in(row.content, self._key)) is not None]
            after = sizes[-1][0]


@dataclass(frozen=True)
class _Prepared:
    name: str
    input_hash: int
    task_hash: int
    content: bytes


def _prepare(item: Mapping[str, Any], key: str, dataset: str, limit: int | None) -> _Prepared:
    labelops = item.get("labelops")
    name = labelops.get(key) if isinstance(labelops, Mapping) else None
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"{dataset}: a row without labelops.{key} is refused; found {name!r:.80}")
    for column in ("_input_hash", "_task_hash"):
        found = item.get(column)
        if isinstance(found, bool) or not isinstance(found, int) or not -(2**31) <= found < 2**31:
            raise InvalidInput(
                f"{dataset}, {key} {name}: {column}: found {found!r:.40}; allowed: a signed 32-bit number"
            )
    try:
        content = json.dumps(item, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{dataset}, {key} {name}: not JSON ({error})") from error
    if limit is not None and len(content) > limit:
        raise InvalidInput(
            f"{dataset}, {key} {name}: the row has {len(content)} bytes, but the column example.content holds {limit}: "
            "have it widened to LONGBLOB (or max_allowed_packet raised), or make the record shorter"
        )
    return _Prepared(name, item["_input_hash"], item["_task_hash"], content)


def _insert(conn: Connection, schema: Schema, dataset_id: int, rows: Sequence[_Prepared]) -> None:
    # Several small statements: MySQL refuses one that is longer than its packet.
    for some in by_size(rows, len(rows), STATEMENT_BYTES):
        _insert_some(conn, schema, dataset_id, some)


def _insert_some(conn: Connection, schema: Schema, dataset_id: int, rows: Sequence[_Prepared]) -> None:
    values = [{"input_hash": row.input_hash, "task_hash": row.task_hash, "content": row.content} for row in rows]
    if conn.dialect.insert_returning:
        statement = insert(schema.example).returning(schema.example.c.id, sort_by_parameter_order=True)
        ids = list(conn.scalars(statement, values))
    else:
        # MySQL itself (unlike MariaDB) cannot return the ids of several rows.
        ids = [_inserted_id(conn, insert(schema.example).values(**one)) for one in values]
    conn.execute(insert(schema.link), [{"example_id": example_id, "dataset_id": dataset_id} for example_id in ids])


def by_size(rows: Iterable[_Prepared], batch: int, size: int = PIECE_BYTES) -> Iterator[list[_Prepared]]:
    """Gather rows into batches of at most ``batch`` rows and about ``size`` bytes; each is given out when full."""
    some: list[_Prepared] = []
    held = 0
    for row in rows:
        some.append(row)
        held += len(row.content)
        if len(some) >= batch or held >= size:
            yield some
            some, held = [], 0
    if some:
        yield some


def _inserted_id(conn: Connection, statement: Insert) -> int:
    key = conn.execute(statement).inserted_primary_key
    if key is None:
        raise InvalidReply("the database did not tell the id of the example it inserted", system=SYSTEM)
    return int(key[0])


def _name_in(content: Any, key: str) -> str | None:
    raw = stored_bytes(content)
    if b'"labelops"' not in raw:
        return None
    try:
        labelops = parse_content(raw).get("labelops")
    except InvalidInput:
        return None
    name = labelops.get(key) if isinstance(labelops, dict) else None
    return name if isinstance(name, str) else None


def check_name(name: str) -> None:
    if not name or len(name) > 255 or any(c in ", " or not c.isprintable() for c in name):
        raise InvalidInput(f"dataset: found {name!r:.80}; allowed: 1 to 255 characters without comma and space")
    if _SESSION_NAME.match(name):
        raise InvalidInput(f"dataset: found {name!r}, which is how Prodigy names a session")
