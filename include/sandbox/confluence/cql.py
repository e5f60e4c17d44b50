"""The part of CQL that the local Confluence plays, as conditions on its pages.

Clauses with ``and``, ``or``, ``not`` and brackets over ``ancestor``, ``contributor``, ``created``, ``creator``, ``id``,
``label``, ``lastmodified``, ``parent``, ``space``, ``text``, ``title`` and ``type``; ``order by``; the functions
``currentUser()`` and ``now("-1d")``. Times are read in the zone of the server (or user) and compared to the minute, or
to the day where the literal is a day, as the search index of the service does. Anything else is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

__all__ = ["BadCql", "Query", "translate"]

_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\')|(!=|!~|>=|<=|[=~><(),])|([^\s"\'=~><!(),]+))')
_COMPARED = ("=", "!=", ">", ">=", "<", "<=")
_DATES = {"created": "p.created", "lastmodified": "p.modified"}
_ORDERS = {**_DATES, "title": "p.title", "id": "p.id", "space": "s.key"}
_SETS = {
    "ancestor": "p.id in (with recursive below(id) as (select id from pages where parent_id in ({marks}) union"
    " select pages.id from pages join below on pages.parent_id = below.id) select id from below)",
    "contributor": "p.id in (select page_id from versions where author_id in ({marks}))",
    "creator": "p.author_id in ({marks})",
    "content": "cast(p.id as text) in ({marks})",
    "id": "cast(p.id as text) in ({marks})",
    "label": "p.id in (select page_id from labels where created <= ? and name in ({marks}))",
    "parent": "cast(p.parent_id as text) in ({marks})",
    "space": "lower(s.key) in ({marks})",
    "title": "lower(p.title) in ({marks})",
    "type": "'page' in ({marks})",
}
_FOLDED = ("label", "space", "title", "type")
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "w": "weeks"}


class BadCql(ValueError):
    """The query is not CQL, or not of the part that is played."""


@dataclass
class Query:
    """A condition on ``pages p``, ``versions v`` and ``spaces s`` with its values, and an order."""

    where: str
    values: list[Any] = field(default_factory=list)
    order: str = "p.id"


def translate(
    text: str, *, account_id: str, seen_before: int, zone: tzinfo = UTC, now: datetime | None = None
) -> Query:
    """Return a query as SQL.

    :param seen_before: what the index has not seen yet, labels put on later than this, in epoch milliseconds.
    :param zone: the zone in which times are meant.
    :raises BadCql: it cannot be read.
    """
    return _Reader(text, account_id, seen_before, zone, now or datetime.now(UTC)).query()


class _Reader:
    def __init__(self, text: str, account_id: str, seen_before: int, zone: tzinfo, now: datetime) -> None:
        self._account, self._seen_before, self._zone, self._now = account_id, seen_before, zone, now
        self._values: list[Any] = []
        self._tokens: list[tuple[str, bool]] = []
        position, text = 0, text.strip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                raise BadCql(f"Could not parse cql : {text[position:]}")
            quoted = found[1]
            word = re.sub(r"\\(.)", r"\1", quoted[1:-1]) if quoted else found[2] or found[3]
            self._tokens.append((word, quoted is not None))
            position = found.end()
        self._at = 0

    def query(self) -> Query:
        where = self._any_of()
        order = self._order() if self._is("order") else "p.id"
        if self._at < len(self._tokens):
            self._fail()
        return Query(where, self._values, order)

    # --- tokens ---

    def _fail(self) -> None:
        raise BadCql(f"Could not parse cql : {' '.join(word for word, _ in self._tokens[self._at :]) or '(its end)'}")

    def _is(self, *words: str) -> bool:
        ahead = self._tokens[self._at : self._at + len(words)]
        if [word.lower() for word, quoted in ahead if not quoted] != list(words):
            return False
        self._at += len(words)
        return True

    def _next(self) -> tuple[str, bool]:
        if self._at >= len(self._tokens):
            self._fail()
        self._at += 1
        return self._tokens[self._at - 1]

    # --- grammar ---

    def _any_of(self) -> str:
        parts = [self._all_of()]
        while self._is("or"):
            parts.append(self._all_of())
        return f"({' or '.join(parts)})"

    def _all_of(self) -> str:
        parts = [self._clause()]
        while self._is("and"):
            parts.append(self._clause())
        return " and ".join(parts)

    def _clause(self) -> str:
        if self._is("not"):
            return f"not ({self._clause()})"
        if self._is("("):
            inside = self._any_of()
            if not self._is(")"):
                self._fail()
            return inside
        name, quoted = self._next()
        name = name.lower()
        if quoted or name not in (*_SETS, *_DATES, "text"):
            self._at -= 1
            self._fail()
        operator = "not in" if self._is("not", "in") else self._next()[0].lower()
        if name in _DATES and operator in _COMPARED:
            return self._date(_DATES[name], operator)
        if name in ("text", "title") and operator in ("~", "!~"):
            return self._contains(name, operator)
        if name in _SETS and operator in ("=", "!=", "in", "not in"):
            condition = self._among(name, many=operator.endswith("in"))
            return f"not ({condition})" if operator in ("!=", "not in") else condition
        self._at -= 1
        self._fail()
        raise AssertionError("unreachable")

    def _among(self, name: str, *, many: bool) -> str:
        words = [self._value()] if not many else []
        if many:
            if not self._is("("):
                self._fail()
            words.append(self._value())
            while self._is(","):
                words.append(self._value())
            if not self._is(")"):
                self._fail()
        if name == "label":
            self._values.append(self._seen_before)
        self._values += [word.lower() if name in _FOLDED else word for word in words]
        return _SETS[name].format(marks=", ".join("?" * len(words)))

    def _value(self) -> str:
        word, quoted = self._next()
        if not quoted and word in ("(", ")", ",", "=", "~"):
            self._at -= 1
            self._fail()
        if not quoted and word == "currentUser" and self._is("(", ")"):
            return self._account
        if not quoted and word == "now" and self._is("("):
            shift = "" if self._is(")") else self._next()[0]
            if shift and not self._is(")"):
                self._fail()
            return self._shifted(shift)
        return word

    def _shifted(self, shift: str) -> str:
        found = re.fullmatch(r"([+-]?\d+)([dhmw])", shift) if shift else None
        if shift and not found:
            raise BadCql(f"Could not parse cql : now({shift!r})")
        moment = self._now + (timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta())
        return moment.astimezone(self._zone).strftime("%Y-%m-%d %H:%M")

    def _contains(self, name: str, operator: str) -> str:
        pattern = "%" + self._value().lower().strip("*").replace("%", "").replace("_", "\\_") + "%"
        column = "p.title" if name == "title" else "p.title || ' ' || v.body"
        self._values.append(pattern)
        return f"lower({column}) {'not ' if operator == '!~' else ''}like ? escape '\\'"

    def _date(self, column: str, operator: str) -> str:
        start, unit = self._moment(self._value())
        begin = round(start.timestamp() * 1000)
        end = round((start + unit).timestamp() * 1000)
        conditions = {
            "=": (f"({column} >= ? and {column} < ?)", (begin, end)),
            "!=": (f"not ({column} >= ? and {column} < ?)", (begin, end)),
            ">=": (f"{column} >= ?", (begin,)),
            ">": (f"{column} >= ?", (end,)),
            "<": (f"{column} < ?", (begin,)),
            "<=": (f"{column} < ?", (end,)),
        }
        condition, values = conditions[operator]
        self._values += values
        return condition

    def _moment(self, text: str) -> tuple[datetime, timedelta]:
        for pattern, unit in (("%Y-%m-%d %H:%M", timedelta(minutes=1)), ("%Y-%m-%d", timedelta(days=1))):
            try:
                return datetime.strptime(text.replace("/", "-"), pattern).replace(tzinfo=self._zone), unit
            except ValueError:
                continue
        raise BadCql(f"Could not parse cql : {text!r} is not a time like yyyy-MM-dd HH:mm")

    def _order(self) -> str:
        if not self._is("by"):
            self._fail()
        orders = []
        while True:
            name = self._next()[0].lower()
            if name not in _ORDERS:
                self._at -= 1
                self._fail()
            down = self._is("desc")
            if not down:
                self._is("asc")
            orders.append(_ORDERS[name] + (" desc" if down else ""))
            if not self._is(","):
                return ", ".join([*orders, "p.id"])
