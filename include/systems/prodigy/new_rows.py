"""New rows since a state was taken, and what became of those read before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, LargeBinary, case, cast, func, literal_column, select, text

from include.base.errors import InvalidInput
from include.systems.prodigy.database import Database
from include.systems.prodigy.rows import linked_rows
from include.systems.prodigy.schema import Schema
from include.systems.prodigy.values import Row, RowFinding, RowListing

__all__ = ["NewRows"]

FORMAT = 1

WINDOW = 100
"""Of the newest rows, how many are remembered one by one (up to twice as many)."""

BUCKETS = 64
"""Into how many ranges of link ids the older rows are summed up, at most."""

RANGE = 100_000
"""How many links are summed up by one statement: on SQLite nobody can commit meanwhile."""

AHEAD_SECONDS = 600
"""How far another machine's clock may be ahead of ours."""

_PRIME = 2**31 - 1
_FACTOR = 1_000_003


def sums_of(database: Database, dataset_id: int, upto: int, shift: int) -> dict[int, tuple[int, int]]:
    """Return number and checksum of the links up to ``upto`` by range of ids (``id >> shift``)."""
    schema = database.schema()
    link, example = schema.link, schema.example
    found: dict[int, tuple[int, int]] = {}
    of_dataset = select(link.c.id).where(link.c.dataset_id == dataset_id, link.c.id <= upto).order_by(link.c.id)
    after = 0
    while after < upto:
        with database.reading() as conn:
            last = conn.scalar(of_dataset.where(link.c.id > after).offset(RANGE - 1).limit(1))
            last = upto if last is None else last
            bucket = link.c.id.bitwise_rshift(literal_column(str(shift))).label("bucket")
            summed = (
                select(bucket, func.count(), func.sum(_checksum(conn.dialect.name, schema)))
                .join_from(link, example, example.c.id == link.c.example_id)
                .where(link.c.dataset_id == dataset_id, link.c.id > after, link.c.id <= last)
                .group_by(text("bucket"))
            )
            for number, count, total in conn.execute(summed):
                before = found.get(number, (0, 0))
                found[int(number)] = (before[0] + int(count), before[1] + int(total))
        after = last
    return found


def _checksum(dialect: str, schema: Schema) -> ColumnElement[Any]:
    """Return the expression of a row's checksum; :func:`_row_checksum` works out the same."""
    link, example = schema.link, schema.example
    content = example.c.content
    size: ColumnElement[Any] = func.length(content)
    if dialect == "sqlite":
        # The length of text is in characters; that of bytes is known without reading them.
        size = case((func.typeof(content) == "text", func.length(cast(content, LargeBinary))), else_=size)
    elif schema.content_is_text:
        size = func.octet_length(content)
    prime, factor, half = (literal_column(str(number), BigInteger()) for number in (_PRIME, _FACTOR, 2**31))
    found: ColumnElement[Any] = cast(link.c.id, BigInteger) % prime
    for value in (example.c.id, example.c.input_hash + half, example.c.task_hash + half, size):
        found = (found * factor + value) % prime
    return found


def _row_checksum(row: Row) -> int:
    found = row.link_id % _PRIME
    for value in (row.example_id, row.input_hash + 2**31, row.task_hash + 2**31, len(row.raw)):
        found = (found * _FACTOR + value) % _PRIME
    return found


def _row_digest(row: Row) -> str:
    given = f"{row.example_id} {row.input_hash} {row.task_hash} ".encode()
    return hashlib.sha256(given + row.raw).hexdigest()[:12]


@dataclass
class _Position:
    """What was given out.

    :param dataset_id: None before anything was read.
    :param floor: rows up to this link are in ``sums``, those above in ``window``.
    :param sums: number and checksum of the rows by ``link_id >> shift``.
    :param window: digest and checksum of the newest rows by link id.
    :param told: what was noticed, until the listing is complete.
    """

    dataset_id: int | None = None
    shift: int = 10
    floor: int = 0
    sums: dict[int, tuple[int, int]] = field(default_factory=dict)
    window: dict[int, tuple[str, int]] = field(default_factory=dict)
    told: list[RowFinding] = field(default_factory=list)
    done: bool = False

    @property
    def count(self) -> int:
        return sum(count for count, _ in self.sums.values()) + len(self.window)

    @property
    def last(self) -> int:
        return max(self.window, default=self.floor)

    def add(self, row: Row) -> None:
        self.window[row.link_id] = (_row_digest(row), _row_checksum(row))
        if len(self.window) > 2 * WINDOW:
            for link_id in sorted(self.window)[:-WINDOW]:
                if link_id > row.link_id:
                    # From an earlier listing, and not looked at yet in this one.
                    break
                self.put(link_id, self.window.pop(link_id)[1])
                self.floor = link_id

    def put(self, link_id: int, checksum: int) -> None:
        count, total = self.sums.get(link_id >> self.shift, (0, 0))
        self.sums[link_id >> self.shift] = (count + 1, total + checksum)
        while len(self.sums) > BUCKETS:
            self.shift += 1
            wider: dict[int, tuple[int, int]] = {}
            for bucket, (count, total) in self.sums.items():
                before = wider.get(bucket >> 1, (0, 0))
                wider[bucket >> 1] = (before[0] + count, before[1] + total)
            self.sums = wider

    def written(self, of: str, at: int) -> str:
        value: dict[str, Any] = {
            "format": FORMAT,
            "of": of,
            "at": at,
            "dataset": self.dataset_id,
            "shift": self.shift,
            "floor": self.floor,
            "sums": [[bucket, *self.sums[bucket]] for bucket in sorted(self.sums)],
            "window": [[link_id, *self.window[link_id]] for link_id in sorted(self.window)],
            "told": [[one.kind, one.first_link, one.last_link, one.seen, one.found] for one in self.told],
            "done": self.done,
        }
        return json.dumps({**value, "check": _check(value)}, separators=(",", ":"))

    @classmethod
    def read(cls, given: str, of: str, now: int) -> _Position:
        try:
            found = json.loads(given)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"state of {of}: not JSON; start again without a state") from error
        if not isinstance(found, dict) or found.pop("check", None) != _check(found):
            raise InvalidInput(f"state of {of}: not as a listing gave it out; start again without a state")
        if found["format"] != FORMAT:
            raise InvalidInput(f"state of {of}: found format {found['format']!r}, allowed: {FORMAT}")
        if found["of"] != of:
            raise InvalidInput(f"state of {of}: found one of {found['of']!r}; a state belongs to one listing")
        if found["at"] > now + AHEAD_SECONDS:
            raise InvalidInput(f"state of {of}: it was taken {found['at'] - now} seconds from now, in the future")
        return cls(
            found["dataset"],
            found["shift"],
            found["floor"],
            {bucket: (count, total) for bucket, count, total in found["sums"]},
            {link_id: (digest, checksum) for link_id, digest, checksum in found["window"]},
            [RowFinding(*one) for one in found["told"]],
            found["done"],
        )


def _check(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":"), sort_keys=True).encode()).hexdigest()[:16]


class NewRows(RowListing):
    """See :meth:`include.systems.prodigy.client.ProdigyClient.new_rows`."""

    def __init__(self, database: Database, dataset: str, resume: str | None) -> None:
        self._database = database
        self._dataset = dataset
        self._of = f"prodigy rows of dataset {dataset}"
        self._position = _Position() if resume is None else _Position.read(resume, self._of, _now())
        self._finished = False
        self._findings = {(one.kind, one.first_link, one.last_link): one for one in self._position.told}
        self._reading: Iterator[Row] | None = None

    @property
    def state(self) -> str:
        """How far was read: with the row given out last."""
        return replace(self._position, done=self._finished).written(self._of, _now())

    @property
    def complete(self) -> bool:
        """Tell whether the end was reached, so that nothing new is left and all findings are there."""
        return self._finished

    @property
    def findings(self) -> tuple[RowFinding, ...]:
        """What was noticed so far, by link."""
        return tuple(sorted(self._findings.values(), key=lambda one: (one.first_link, one.kind)))

    def __next__(self) -> Row:
        """Return the next row; the state then includes it."""
        if self._finished:
            raise StopIteration
        if self._reading is None:
            self._reading = self._read()
        try:
            return next(self._reading)
        except StopIteration:
            self._position.told = []
            self._finished = True
            raise
        except BaseException:
            # Whoever asks again goes on after the last row.
            self._reading = None
            raise

    def _read(self) -> Iterator[Row]:
        position = self._position
        dataset_id = self._database.id_of(self._dataset)
        if position.dataset_id is not None and dataset_id != position.dataset_id:
            count, last = position.count, position.last
            self._refuse_future(dataset_id)
            position = self._position = _Position(told=position.told)
            if count:
                self._find("dropped", 0, last, count, 0)
        if dataset_id is None:
            return
        position.dataset_id = dataset_id
        yield from self._changed_buckets(dataset_id)
        yield from self._after_floor(dataset_id)

    def _changed_buckets(self, dataset_id: int) -> Iterator[Row]:
        """Give out again what lies in the ranges that are not as they were; the state stands still meanwhile."""
        position = self._position
        if not position.floor and not position.window:
            return
        now = sums_of(self._database, dataset_id, position.floor, position.shift)
        changed = sorted(
            bucket for bucket in {*now, *position.sums} if now.get(bucket) != position.sums.get(bucket, (0, 0))
        )
        if not set(position.sums) - set(changed):
            self._refuse_future(dataset_id)
        anew: dict[int, tuple[int, int]] = {}
        for bucket in changed:
            seen, found = position.sums.get(bucket, (0, 0))[0], now.get(bucket, (0, 0))[0]
            first, last = bucket << position.shift, min(((bucket + 1) << position.shift) - 1, position.floor)
            kind = "gone" if found < seen else "late" if found > seen else "changed"
            self._find(kind, first, last, seen, found)
            for row in linked_rows(self._database, dataset_id, first - 1, upto=last):
                count, total = anew.get(bucket, (0, 0))
                anew[bucket] = (count + 1, total + _row_checksum(row))
                yield row
        for bucket in changed:
            position.sums.pop(bucket, None)
        position.sums.update(anew)

    def _after_floor(self, dataset_id: int) -> Iterator[Row]:
        position = self._position
        remembered = sorted(position.window)
        newest = position.last
        place = 0
        for row in linked_rows(self._database, dataset_id, position.floor):
            while place < len(remembered) and remembered[place] < row.link_id:
                self._missing(remembered[place])
                place += 1
            if place < len(remembered) and remembered[place] == row.link_id:
                place += 1
                if position.window.get(row.link_id, ("", 0))[0] == _row_digest(row):
                    continue
                self._find("changed", row.link_id, row.link_id, 1, 1)
            elif row.link_id < newest:
                self._find("late", row.link_id, row.link_id, 0, 1)
            position.add(row)
            yield row
        for link_id in remembered[place:]:
            self._missing(link_id)

    def _missing(self, link_id: int) -> None:
        if self._position.window.pop(link_id, None) is not None:
            self._find("gone", link_id, link_id, 1, 0)

    def _refuse_future(self, dataset_id: int | None) -> None:
        """Refuse a state about links past the newest one, of which nothing is left."""
        position = self._position
        with self._database.reading() as conn:
            newest = conn.scalar(select(func.max(self._database.schema().link.c.id))) or 0
        if position.last <= newest:
            return
        left = dataset_id is not None and any(
            position.window.get(row.link_id, ("", 0))[0] == _row_digest(row)
            for row in linked_rows(self._database, dataset_id, position.floor)
        )
        if not left:
            raise InvalidInput(
                f"state of {self._of}: it is about links up to {position.last}, but the newest of the database is "
                f"{newest} and nothing it saw is left: the database is an older copy or another one, or all was "
                "deleted. Start again without a state"
            )

    def _find(self, kind: str, first: int, last: int, seen: int, found: int) -> None:
        finding = RowFinding(kind, first, last, seen, found)
        if self._findings.setdefault((kind, first, last), finding) is finding:
            self._position.told.append(finding)


def _now() -> int:
    return int(datetime.now(UTC).timestamp())
