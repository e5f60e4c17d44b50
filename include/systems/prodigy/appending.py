"""Appending tasks and decisions to a dataset, each once however often it is given."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.exc import IntegrityError

from include.base.errors import Conflict, InvalidInput, InvalidReply, Refused
from include.base.seen import SeenNames
from include.systems.prodigy.content import SESSION_NAME, parse_content, row_digest, stored_bytes
from include.systems.prodigy.database import Database, exact
from include.systems.prodigy.errors import SYSTEM, Again
from include.systems.prodigy.inserting import Prepared, by_size, insert_rows
from include.systems.prodigy.rows import linked_pieces
from include.systems.prodigy.schema import Schema
from include.systems.prodigy.values import AddResult

__all__ = ["append", "check_name", "named_dataset"]

log = logging.getLogger(__name__)

_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""Compact, ASCII, keys in the order given: the bytes that Prodigy itself would store."""


def append(database: Database, dataset: str, items: Iterable[Mapping[str, Any]], key: str, batch: int) -> AddResult:
    """Append the rows whose name, ``labelops.<key>``, the dataset does not hold yet.

    :param batch: how many rows are inserted in one transaction, at most.
    """
    check_name(dataset)
    waiting = iter(items)
    first = next(waiting, None)
    if first is None:
        return AddResult(0, 0)
    database.refuse_new_structured(dataset)
    database.refuse_unknown_required()
    limit = database.schema().content_bytes
    prepared = (_prepare(item, key, dataset, limit) for item in chain([first], waiting))
    inserted = present = 0
    with SeenNames() as seen:
        appender = _Appender(database, dataset, key, seen)
        for some in by_size(prepared, batch):
            new = appender.append(some)
            inserted += new
            present += len(some) - new
    if inserted:
        log.info("Inserted %s rows into the Prodigy dataset %s; %s were there", inserted, dataset, present)
    return AddResult(inserted, present)


def named_dataset(conn: Connection, schema: Schema, name: str, meta: Mapping[str, Any]) -> int:
    """Return the id of a named dataset, created if absent; the transaction holds its lock."""
    table = schema.dataset
    found = _find(conn, table, name)
    if found is None:
        values = {
            "name": name,
            "created": int(datetime.now(UTC).timestamp()),
            "meta": _ENCODE(meta) if schema.meta_is_text else _ENCODE(meta).encode("ascii"),
            "session": schema.session_flag(False),
        }
        try:
            conn.execute(insert(table), [values])
        except IntegrityError as error:
            raise Again(f"dataset {name} was created by somebody else at the same moment") from error
        found = _find(conn, table, name)
    if found is None:
        raise InvalidReply(f"dataset {name} is not there right after it was created", system=SYSTEM)
    if found.session:
        raise Refused(f"dataset {name} is a session: sessions belong to people, Labelops never writes them")
    return int(found.id)


def _find(conn: Connection, table: Table, name: str) -> Any:
    wanted = select(table.c.id, table.c.name, table.c.session).where(table.c.name == name)
    found = conn.execute(wanted).all()
    same = exact(found, name)
    if found and same is None:
        # MySQL's default collation takes names that differ in case or accents for one.
        raise Conflict(
            f"the database cannot tell dataset {name} from its dataset {found[0].name}: choose another name",
            system=SYSTEM,
        )
    return same


@dataclass(frozen=True)
class _Horizon:
    """Up to which link the names of a dataset are known.

    :param last_link: 0 for a dataset without rows.
    :param example_id, digest: what that link led to. SQLite gives out ids anew from the top, so as long as this link
        stands, none below it was given out a second time.
    """

    dataset_id: int
    last_link: int
    example_id: int = 0
    digest: str = ""


class _Appender:
    """Appends prepared rows to one dataset, knowing which names it holds."""

    def __init__(self, database: Database, dataset: str, key: str, seen: SeenNames) -> None:
        self._database = database
        self._schema = database.schema()
        self._dataset = dataset
        self._key = key
        self._seen = seen
        self._horizon: _Horizon | None = None

    def append(self, rows: Sequence[Prepared]) -> int:
        """Insert the rows whose name is new, in one transaction; return how many."""
        while True:
            if self._horizon is None:
                self._read_all()
            done = self._database.transaction(lambda conn: self._append(conn, rows), dataset=self._dataset)
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
        horizon = self._database.transaction(self._now, dataset=self._dataset)
        # One short transaction per piece: an open one would keep Prodigy from committing on SQLite.
        for names in self._names(horizon.dataset_id, 0, upto=horizon.last_link):
            self._seen.update(names)
        self._horizon = horizon

    def _now(self, conn: Connection) -> _Horizon:
        dataset_id = named_dataset(conn, self._schema, self._dataset, {})
        link, example = self._schema.link, self._schema.example
        last = (
            select(link.c.id, link.c.example_id, example.c.content)
            .join_from(link, example, example.c.id == link.c.example_id)
            .where(link.c.dataset_id == dataset_id)
            .order_by(link.c.id.desc())
            .limit(1)
        )
        found = conn.execute(last).one_or_none()
        if found is None:
            return _Horizon(dataset_id, 0)
        return _Horizon(dataset_id, found[0], found[1], row_digest(found[2]))

    def _stands(self, conn: Connection, horizon: _Horizon) -> bool:
        """Tell whether the ids up to the horizon still mean what they did."""
        if named_dataset(conn, self._schema, self._dataset, {}) != horizon.dataset_id:
            return False
        if conn.dialect.name != "sqlite" or not horizon.last_link:
            return True
        link, example = self._schema.link, self._schema.example
        found = conn.execute(
            select(link.c.dataset_id, link.c.example_id, example.c.content)
            .join_from(link, example, example.c.id == link.c.example_id)
            .where(link.c.id == horizon.last_link)
        ).one_or_none()
        return found is not None and (found[0], found[1], row_digest(found[2])) == (
            horizon.dataset_id,
            horizon.example_id,
            horizon.digest,
        )

    def _append(self, conn: Connection, rows: Sequence[Prepared]) -> tuple[_Horizon, list[str], int] | None:
        """Return the new horizon, the names now known and how many were inserted; None when rows were dropped."""
        horizon = self._horizon
        assert horizon is not None
        if not self._stands(conn, horizon):
            return None
        others: list[str] = []
        for names in self._names(horizon.dataset_id, horizon.last_link, conn=conn):
            others.extend(names)
        taken = set(others)
        taken |= self._seen.known(row.name for row in rows)
        new: dict[str, Prepared] = {}
        for row in rows:
            if row.name not in taken:
                new.setdefault(row.name, row)
        if new:
            insert_rows(conn, self._schema, horizon.dataset_id, list(new.values()))
        return self._now(conn), [*others, *new], len(new)

    def _names(self, dataset_id: int, after: int, **more: Any) -> Iterator[list[str]]:
        for rows, _ in linked_pieces(self._database, dataset_id, after=after, **more):
            yield _names_in((row[1] for row in rows), self._key)


def _prepare(item: Mapping[str, Any], key: str, dataset: str, limit: int | None) -> Prepared:
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
        content = _ENCODE(item).encode("ascii")
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{dataset}, {key} {name}: not JSON ({error})") from error
    if limit is not None and len(content) > limit:
        raise InvalidInput(
            f"{dataset}, {key} {name}: the row has {len(content)} bytes, but the column example.content holds {limit}: "
            "have it widened to LONGBLOB (or max_allowed_packet raised), or make the record shorter"
        )
    return Prepared(name, item["_input_hash"], item["_task_hash"], content)


def _names_in(contents: Iterable[Any], key: str) -> list[str]:
    names = []
    for content in contents:
        raw = content if isinstance(content, bytes) else stored_bytes(content)
        if b'"labelops"' not in raw:
            continue
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError:
            # What orjson is stricter about, such as half of a surrogate pair.
            try:
                found = parse_content(raw)
            except InvalidInput:
                continue
        labelops = found.get("labelops") if isinstance(found, dict) else None
        name = labelops.get(key) if isinstance(labelops, dict) else None
        if isinstance(name, str):
            names.append(name)
    return names


def check_name(name: str) -> None:
    """Refuse a name that Prodigy would not take, or that is a session's.

    :raises InvalidInput: saying what is allowed.
    """
    if not name or len(name) > 255 or any(c in ", " or not c.isprintable() for c in name):
        raise InvalidInput(f"dataset: found {name!r:.80}; allowed: 1 to 255 characters without comma and space")
    if SESSION_NAME.match(name):
        raise InvalidInput(f"dataset: found {name!r}, which is how Prodigy names a session")
