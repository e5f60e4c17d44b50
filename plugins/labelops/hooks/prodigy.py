"""The one door to Prodigy's SQL database (SQLite, PostgreSQL, MySQL and MariaDB)."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, TypeVar
from urllib.parse import quote

from airflow.sdk import BaseHook
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Insert,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    create_engine,
    event,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeEngine

from include.annotation.answers import parse_content, row_digest, stored_bytes
from include.annotation.seen import SeenNames
from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    LabelopsError,
    NotFound,
    OutsideError,
    Refused,
    Unavailable,
    Unsupported,
)
from include.systems.prodigy import AddResult, DatasetInfo, Row, Watermark

__all__ = ["ProdigyHook", "database_error"]

SYSTEM = "prodigy"
PIECE_BYTES = 8 * 1024 * 1024
"""How much content is read or written by one statement, unless a single row is larger."""

STATEMENT_BYTES = 512 * 1024
"""How much content one INSERT carries, unless a single row is larger."""

LOOKUP = 500
"""How many ids go into one IN list; SQLite once allowed 999."""

LOCK_SECONDS = 30
"""How long a statement waits for somebody else's lock."""

TRANSACTION_TRIES = 5

ENGINES = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
EXTRA = {
    "sqlite": {"engine", "path"},
    "postgresql": {"engine", "sslmode", "sslrootcert", "sslcert", "sslkey", "options", "application_name"},
    "mysql": {
        "engine",
        "unix_socket",
        "ssl_ca",
        "ssl_cert",
        "ssl_key",
        "ssl_verify_cert",
        "ssl_verify_identity",
        "ssl_disabled",
    },
}
EXTRA["mariadb"] = EXTRA["mysql"]

COLUMNS = {
    "dataset": {"id", "name", "created", "meta", "session"},
    "example": {"id", "input_hash", "task_hash", "content"},
    "link": {"id", "example_id", "dataset_id"},
}

_SESSION_NAME = re.compile(r"\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}\Z")

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Stored(LargeBinary):
    """Bytes that are read as they come: on SQLite some rows hold text where others hold bytes."""

    def result_processor(self, dialect: Any, coltype: Any) -> None:
        """Convert nothing."""


@dataclass(frozen=True)
class Schema:
    """What the database turned out to look like.

    :param content_bytes: the most bytes that ``example.content`` holds, None where there is no such limit.
    :param structured: tables of a newer storage that Labelops does not know.
    """

    dataset: Table
    example: Table
    link: Table
    content_bytes: int | None
    structured: tuple[str, ...]
    session_is_boolean: bool

    def session_flag(self, session: bool) -> Any:
        """Return ``session`` as the column wants it: PostgreSQL has a boolean, SQLite and MySQL a number."""
        return session if self.session_is_boolean else int(session)


class ProdigyHook(BaseHook):
    """Read answers from Prodigy's database, and append tasks, decisions and versions to it.

    The tables belong to Prodigy: none is created or altered, no row is ever updated or deleted, and nothing is written
    under a session, for sessions are people's. A statement that deadlocked is tried again a few times; everything
    else is left to the task's retry policy. Connections are opened when needed and held for one statement or
    one transaction, never while the caller works on a row.

    The connection: ``host`` (for SQLite the path of the file), ``schema`` (the database), ``login``, ``password``,
    ``port``, and in ``extra`` the ``engine``: ``sqlite`` (the default), ``postgresql``, ``mysql`` or ``mariadb``; for
    SQLite also ``path`` instead of the host, else the driver's own TLS settings.

    :param prodigy_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "prodigy_conn_id"
    default_conn_name = "prodigy_default"
    conn_type = "prodigy"
    hook_name = "Prodigy database"

    def __init__(self, prodigy_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.prodigy_conn_id = prodigy_conn_id
        self._engine: Engine | None = None
        self._schema: Schema | None = None

    def get_conn(self) -> Engine:
        """Return the SQLAlchemy engine, made on first use; it has not connected yet.

        :raises InvalidInput: when the connection is not filled in as the class says.
        """
        if self._engine is None:
            self._engine = _engine(self.get_connection(self.prodigy_conn_id), self.prodigy_conn_id)
        return self._engine

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the account may do what Labelops needs, and which right is missing if not."""
        try:
            schema = self._tables()
            with self._reading() as conn:
                counts = {
                    session: conn.scalar(
                        select(func.count())
                        .select_from(schema.dataset)
                        .where(schema.dataset.c.session == schema.session_flag(session))
                    )
                    for session in (False, True)
                }
                for table in (schema.example, schema.link):
                    conn.execute(select(table.c.id).limit(1)).all()
            self._check_write_rights(schema)
        except LabelopsError as error:
            return False, str(error)
        said = (
            f"Prodigy's tables on {self.get_conn().dialect.name}: {counts[False]} datasets, {counts[True]} sessions; "
            "may read and insert"
        )
        if schema.structured:
            said += f"; not readable: {', '.join(schema.structured)}"
        return True, said

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
            for some in _chunks(names, LOOKUP):
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
            self._engine = _engine(await self.aget_connection(self.prodigy_conn_id), self.prodigy_conn_id)
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
                sizes = conn.execute(_sizes(schema, dataset_id, after, batch)).all()
            if not sizes:
                return
            for first, last in _pieces(sizes):
                with self._reading() as conn:
                    stored = list(conn.execute(_stored(schema, dataset_id, first, last)))
                    sessions = _sessions(conn, schema, dataset_id, first, last)
                while stored:
                    yield _row(stored.pop(), sessions)
            after = sizes[-1][0]

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
        _check_name(dataset)
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
            for some in _chunks(missing, LOOKUP):
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
            for first, last in _pieces(sizes):
                with self._reading() as conn:
                    piece = select(table.c.id, table.c.content).where(
                        table.c.id.in_(some), table.c.id.between(first, last)
                    )
                    found.update({row.id: row_digest(row.content) for row in conn.execute(piece)})
            for example_id in some:
                yield example_id, found.get(example_id)

    # ---- writing

    def _append(self, dataset: str, items: Iterable[Mapping[str, Any]], key: str, batch: int) -> AddResult:
        _check_name(dataset)
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
            for some in _by_size(prepared, batch):
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
                raise _Again(f"dataset {name} was created by somebody else at the same moment") from error
            found = self._lock(conn, table, name)
        if found is None:
            raise InvalidReply(f"dataset {name} is not there right after it was created", system=SYSTEM)
        if found.session:
            raise Refused(f"dataset {name} is a session: sessions belong to people, Labelops never writes them")
        return int(found.id)

    def _lock(self, conn: Connection, table: Table, name: str) -> Any:
        wanted = select(table.c.id, table.c.name, table.c.session).where(table.c.name == name)
        found = conn.execute(wanted.with_for_update(key_share=True)).all()
        exact = _exact(found, name)
        if found and exact is None:
            # MySQL's default collation takes names that differ in case or accents for one.
            raise Conflict(
                f"the database cannot tell dataset {name} from its dataset {found[0].name}: choose another name",
                system=SYSTEM,
            )
        return exact

    def _transaction(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one write transaction, again from its start when the database undid it for another's sake."""
        for attempt in range(1, TRANSACTION_TRIES + 1):
            try:
                with self._guard("insert"), self.get_conn().connect() as conn:
                    conn = conn.execution_options(labelops_writes=True)
                    with conn.begin():
                        return work(conn)
            except _Again as error:
                if attempt == TRANSACTION_TRIES:
                    raise
                self.log.warning("A transaction on Prodigy's database gave way to another and is run again: %s", error)
        raise AssertionError("unreachable")

    # ---- reading

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._guard("read"), self.get_conn().connect() as conn:
            yield conn

    @contextmanager
    def _guard(self, right: str) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except SQLAlchemyError as error:
            raise database_error(error, right) from error

    def _dataset_id(self, name: str) -> int | None:
        schema = self._tables()
        table = schema.dataset
        wanted = select(table.c.id, table.c.name).where(
            table.c.name == name, table.c.session == schema.session_flag(False)
        )
        with self._reading() as conn:
            found = _exact(conn.execute(wanted).all(), name)
        if found is None:
            self._refuse_structured(schema, name)
            return None
        return int(found.id)

    def _refuse_new_structured(self, schema: Schema, name: str) -> None:
        if schema.structured and self._dataset_id(name) is None:
            self._refuse_structured(schema, name)

    def _refuse_structured(self, schema: Schema, name: str) -> None:
        if schema.structured:
            raise Unsupported(
                f"dataset {name} is not in Prodigy's table `dataset`, but may be in {', '.join(schema.structured)}, "
                "whose layout is unknown; nothing was read or written",
                system=SYSTEM,
            )

    def _tables(self) -> Schema:
        if self._schema is None:
            with self._reading() as conn:
                self._schema = _introspect(conn)
            if self._schema.structured:
                self.log.warning(
                    "Prodigy's database has the tables %s, which Labelops does not know: datasets that are only there "
                    "are refused",
                    ", ".join(self._schema.structured),
                )
        return self._schema

    def _meta(self, name: str, stored: Any) -> Mapping[str, Any]:
        try:
            return parse_content(stored)
        except InvalidInput as error:
            self.log.warning(
                "The meta of the Prodigy dataset %s cannot be read (%s) and is taken as empty", name, error
            )
            return {}

    def _check_write_rights(self, schema: Schema) -> None:
        """Try inserts that select no row, so that every right is checked and nothing is written."""

        def tried(conn: Connection) -> None:
            for table in (schema.dataset, schema.example, schema.link):
                columns = [column for column in table.c if column.name != "id"]
                nothing = select(*columns).where(literal(1) == literal(0))
                try:
                    conn.execute(insert(table).from_select([column.name for column in columns], nothing))
                    conn.execute(
                        select(schema.dataset.c.id).where(schema.dataset.c.id < 0).with_for_update(key_share=True)
                    )
                    _check_sequence(conn, table.name)
                except SQLAlchemyError as error:
                    raise database_error(error, f"insert into {table.name}") from error

        self._transaction(tried)


class _Appender:
    """Appends prepared rows to one dataset, knowing which names it holds."""

    def __init__(self, hook: ProdigyHook, schema: Schema, dataset: str, key: str, seen: SeenNames) -> None:
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
            lambda conn: _watermark(
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
        if conn.dialect.name == "sqlite" and _count_upto(conn, schema, dataset_id, horizon.last_link) != horizon.count:
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
        return _watermark(conn, schema, dataset_id), [*others, *new], len(new)

    def _names(
        self,
        connected: Callable[[], AbstractContextManager[Connection]],
        dataset_id: int,
        after: int,
        upto: int | None,
    ) -> Iterator[list[str]]:
        while True:
            with connected() as conn:
                sizes = conn.execute(_sizes(self._schema, dataset_id, after, 1000, upto)).all()
            if not sizes:
                return
            for first, last in _pieces(sizes):
                with connected() as conn:
                    stored = conn.execute(_stored(self._schema, dataset_id, first, last)).all()
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
    for some in _by_size(rows, len(rows), STATEMENT_BYTES):
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


# ---- statements


def _sizes(schema: Schema, dataset_id: int, after: int, limit: int, upto: int | None = None) -> Select[Any]:
    """Select the next link ids with the size of their content, in order of link id."""
    link, example = schema.link, schema.example
    wanted = (
        select(link.c.id, func.length(example.c.content))
        .join_from(link, example, example.c.id == link.c.example_id)
        .where(link.c.dataset_id == dataset_id, link.c.id > after)
    )
    if upto is not None:
        wanted = wanted.where(link.c.id <= upto)
    return wanted.order_by(link.c.id).limit(limit)


def _stored(schema: Schema, dataset_id: int, first: int, last: int) -> Select[Any]:
    """Select rows by link id, last first, so that the caller can pop them off."""
    link, example = schema.link, schema.example
    return (
        select(
            link.c.id.label("link_id"),
            example.c.id.label("example_id"),
            example.c.input_hash,
            example.c.task_hash,
            example.c.content,
        )
        .join_from(link, example, example.c.id == link.c.example_id)
        .where(link.c.dataset_id == dataset_id, link.c.id.between(first, last))
        .order_by(link.c.id.desc())
    )


def _sessions(conn: Connection, schema: Schema, dataset_id: int, first: int, last: int) -> dict[int, str]:
    """Return the session of each example of a piece, by example id; the first one where there are several."""
    link, other, dataset = schema.link, schema.link.alias("other"), schema.dataset
    wanted = (
        select(other.c.example_id, dataset.c.name)
        .select_from(
            link.join(other, other.c.example_id == link.c.example_id).join(dataset, dataset.c.id == other.c.dataset_id)
        )
        .where(
            link.c.dataset_id == dataset_id,
            link.c.id.between(first, last),
            dataset.c.session == schema.session_flag(True),
        )
        .order_by(other.c.id.desc())
    )
    return {row.example_id: row.name for row in conn.execute(wanted)}


def _row(row: Any, sessions: Mapping[int, str]) -> Row:
    raw = stored_bytes(row.content)
    try:
        content = parse_content(raw)
    except InvalidInput:
        content = {}
    return Row(
        link_id=row.link_id,
        example_id=row.example_id,
        input_hash=row.input_hash,
        task_hash=row.task_hash,
        content=content,
        raw=raw,
        session=sessions.get(row.example_id),
    )


def _watermark(conn: Connection, schema: Schema, dataset_id: int) -> Watermark:
    wanted = select(func.count(), func.max(schema.link.c.id)).where(schema.link.c.dataset_id == dataset_id)
    count, last = conn.execute(wanted).one()
    return Watermark(int(count), int(last or 0))


def _count_upto(conn: Connection, schema: Schema, dataset_id: int, last: int) -> int:
    link = schema.link
    wanted = select(func.count()).select_from(link).where(link.c.dataset_id == dataset_id, link.c.id <= last)
    return int(conn.scalar(wanted) or 0)


def _exact(found: Sequence[Any], name: str) -> Any:
    return next((row for row in found if row.name == name), None)


def _pieces(sizes: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Cut a run of (id, size) into ranges of ids that hold about :data:`PIECE_BYTES` each."""
    first, held = None, 0
    last = 0
    for number, size in sizes:
        if first is not None and held + (size or 0) > PIECE_BYTES:
            yield first, last
            first, held = None, 0
        first = number if first is None else first
        held += size or 0
        last = number
    if first is not None:
        yield first, last


def _by_size(rows: Iterable[_Prepared], batch: int, size: int = PIECE_BYTES) -> Iterator[list[_Prepared]]:
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


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _check_name(name: str) -> None:
    if not name or len(name) > 255 or any(c in ", " or not c.isprintable() for c in name):
        raise InvalidInput(f"dataset: found {name!r:.80}; allowed: 1 to 255 characters without comma and space")
    if _SESSION_NAME.match(name):
        raise InvalidInput(f"dataset: found {name!r}, which is how Prodigy names a session")


# ---- the connection


def _engine(connection: Any, conn_id: str) -> Engine:
    extra = dict(connection.extra_dejson)
    kind = str(extra.get("engine") or "sqlite").lower()
    if kind not in ENGINES:
        raise InvalidInput(f"connection {conn_id}: extra.engine: found {kind!r}; allowed: {', '.join(ENGINES)}")
    foreign = sorted(set(extra) - EXTRA[kind])
    if foreign:
        raise InvalidInput(
            f"connection {conn_id}: extra: found {', '.join(foreign)}; "
            f"allowed for {kind}: {', '.join(sorted(EXTRA[kind]))}"
        )
    if kind == "sqlite":
        return _sqlite_engine(extra.get("path") or connection.host, conn_id)
    if not connection.schema:
        raise InvalidInput(f"connection {conn_id}: schema: found nothing; allowed: the name of Prodigy's database")
    url = URL.create(
        ENGINES[kind],
        username=connection.login or None,
        password=connection.password or None,
        host=connection.host or None,
        port=connection.port or None,
        database=connection.schema,
    )
    arguments: dict[str, Any] = {key: value for key, value in extra.items() if key != "engine" and value is not None}
    arguments["connect_timeout"] = LOCK_SECONDS
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
    wait = (
        f"SET lock_timeout = '{LOCK_SECONDS}s'"
        if kind == "postgresql"
        else f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}"
    )

    @event.listens_for(engine, "begin")
    def _limit_waiting(conn: Connection) -> None:
        conn.exec_driver_sql(wait)

    return engine


def _sqlite_engine(path: str | None, conn_id: str) -> Engine:
    if not path:
        raise InvalidInput(f"connection {conn_id}: host: found nothing; allowed: the path of Prodigy's database file")
    # mode=rw: a wrong path is an error, never a new and empty database.
    uri = f"file:{quote(path)}?mode=rw"

    def connected() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite+pysqlite://", creator=connected, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        # A writer takes the lock at once: a read that turns into a write would fail beside another writer.
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get("labelops_writes") else "BEGIN")

    return engine


# ---- the schema


def _introspect(conn: Connection) -> Schema:
    inspector = inspect(conn)
    names = set(inspector.get_table_names())
    for table in COLUMNS:
        if table not in names:
            raise InvalidReply(
                f"the database has no table `{table}` that this account may see; found: "
                f"{', '.join(sorted(names)[:20]) or 'none'}. Is it Prodigy's, and was Prodigy started once?",
                system=SYSTEM,
            )
    types: dict[str, dict[str, TypeEngine[Any]]] = {}
    for table, wanted in COLUMNS.items():
        types[table] = {column["name"]: column["type"] for column in inspector.get_columns(table)}
        missing = sorted(wanted - set(types[table]))
        if missing:
            raise InvalidReply(f"the table `{table}` has no column {', '.join(missing)}", system=SYSTEM)
    _check_type(types, "dataset", "session", (bool, int))
    for table, column in (("dataset", "created"), ("example", "input_hash"), ("example", "task_hash")):
        _check_type(types, table, column, (int,))
    if conn.dialect.name != "sqlite":
        # SQLite columns hold any type, and a text in `content` is read anyway.
        _check_type(types, "example", "content", (bytes,))
        _check_type(types, "dataset", "meta", (bytes,))
    is_boolean = isinstance(types["dataset"]["session"], Boolean)
    metadata = MetaData()
    return Schema(
        dataset=Table(
            "dataset",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("name", String(255)),
            Column("created", BigInteger),
            Column("meta", _Stored()),
            Column("session", Boolean() if is_boolean else Integer()),
        ),
        example=Table(
            "example",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("input_hash", BigInteger),
            Column("task_hash", BigInteger),
            Column("content", _Stored()),
        ),
        link=Table(
            "link",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("example_id", Integer, ForeignKey("example.id")),
            Column("dataset_id", Integer, ForeignKey("dataset.id")),
        ),
        content_bytes=_content_bytes(conn),
        structured=tuple(sorted(name for name in names if name.startswith("structured"))),
        session_is_boolean=is_boolean,
    )


def _check_type(
    types: Mapping[str, Mapping[str, TypeEngine[Any]]], table: str, column: str, allowed: tuple[type, ...]
) -> None:
    found = types[table][column]
    try:
        holds = found.python_type
    except NotImplementedError:
        holds = type(None)
    if holds not in allowed:
        names = " or ".join(kind.__name__ for kind in allowed)
        raise InvalidReply(
            f"column {table}.{column}: found {found!r}; allowed: a type that holds {names}", system=SYSTEM
        )


def _content_bytes(conn: Connection) -> int | None:
    """Return how long a row's content may be, None for no limit.

    On MySQL a plain BLOB ends at 65,535 bytes, and a statement, in which content takes up to twice its length, at
    ``max_allowed_packet``.
    """
    if conn.dialect.name != "mysql":
        return None
    width = conn.scalar(
        text(
            "SELECT character_maximum_length FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND table_name = 'example' AND column_name = 'content'"
        )
    )
    packet = int(conn.scalar(text("SELECT @@max_allowed_packet"))) // 2 - 4096
    return packet if width is None else min(int(width), packet)


def _check_sequence(conn: Connection, table: str) -> None:
    if conn.dialect.name != "postgresql":
        return
    sequence = conn.scalar(select(func.pg_get_serial_sequence(table, "id")))
    if sequence and not conn.scalar(select(func.has_sequence_privilege(sequence, "USAGE"))):
        raise AuthError(f"Prodigy's database: the right to use the sequence {sequence} is missing", system=SYSTEM)


# ---- errors


class _Again(Unavailable):
    """The whole transaction was undone (a deadlock, a name just taken) and may be run again from its start."""


_POSTGRES_LATER = ("08", "40", "53", "55", "57")
"""Classes of SQLSTATE: connection, rollback, resources, state (locks), operator intervention."""

_MYSQL: dict[int, type[OutsideError]] = {
    **dict.fromkeys((1044, 1045, 1142, 1143, 1227, 1290, 1370, 1698, 1836), AuthError),
    1049: NotFound,
    **dict.fromkeys((1054, 1146), InvalidReply),
    1213: _Again,
    **dict.fromkeys((1040, 1053, 1205, 1927, 2002, 2003, 2006, 2013), Unavailable),
}


def database_error(error: SQLAlchemyError, right: str) -> LabelopsError:
    """Return what a driver's error means.

    :param right: what was being done, named when permission was denied.
    """
    cause = getattr(error, "orig", None) or error
    # Only the first line: a driver may add the statement, or the row that failed.
    said = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    kind = _kind(error, cause, said)
    if kind is InvalidInput:
        return InvalidInput(f"Prodigy's database refused a value: {said}")
    if kind is AuthError:
        return AuthError(
            f"Prodigy's database: the right to {right} is missing, or the login is wrong: {said}", system=SYSTEM
        )
    return kind(f"Prodigy's database: {said}", system=SYSTEM)


def _kind(error: SQLAlchemyError, cause: Any, said: str) -> type[Any]:
    module = type(cause).__module__.partition(".")[0]
    if module == "sqlite3":
        return _sqlite_kind(said)
    if module == "psycopg":
        return _postgres_kind(getattr(cause, "sqlstate", None), said)
    if module == "pymysql":
        code = cause.args[0] if cause.args and isinstance(cause.args[0], int) else None
        if code in (1153, 1406, 1264):
            return InvalidInput
        if code == 1062:
            return Conflict
        # 0: PyMySQL found its own connection closed.
        return Unavailable if code in (None, 0) else _MYSQL.get(code, InvalidReply)
    return Unavailable if getattr(error, "connection_invalidated", False) else InvalidReply


def _sqlite_kind(said: str) -> type[OutsideError]:
    for words, kind in (
        (("unable to open",), NotFound),
        (("locked", "busy", "disk i/o", "disk is full"), Unavailable),
        (("readonly",), AuthError),
        (("unique constraint",), Conflict),
    ):
        if any(word in said.lower() for word in words):
            return kind
    return InvalidReply


def _postgres_kind(state: str | None, said: str) -> type[Any]:
    if state is None:
        # libpq gives no code for a failed connection, only words.
        lower = said.lower()
        if any(
            word in lower
            for word in ("authentication failed", "pg_hba.conf", "no password", "role ", "permission denied")
        ):
            return AuthError
        return NotFound if "does not exist" in lower else Unavailable
    if state in ("40001", "40P01"):
        return _Again
    if state == "42501" or state.startswith("28") or state == "25006":
        return AuthError
    if state == "3D000":
        return NotFound
    if state == "23505":
        return Conflict
    if state.startswith("22"):
        return InvalidInput
    return Unavailable if state.startswith(_POSTGRES_LATER) else InvalidReply
