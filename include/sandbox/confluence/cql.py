"""The part of CQL that the local Confluence plays, as conditions on its pages: what Labelops and known clients ask.

Clauses joined by ``and``: ``=`` on ``ancestor``, ``id``, ``label``, ``space`` and ``type``, ``>=`` on ``created`` and
``lastmodified``; ``order by``. Times are read in the zone of the server (or user) and compared to the minute, or to the
day where the literal is a day, as the search index of the service does. Anything else is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, NoReturn

__all__ = ["BadCql", "Query", "translate"]

_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\')|(!=|!~|>=|<=|[=~><(),])|([^\s"\'=~><!(),]+))')
_DATES = {"created": "p.created", "lastmodified": "p.modified"}
_ORDERS = {**_DATES, "title": "p.title", "id": "p.id", "space": "s.key"}
_EQUAL = {
    "ancestor": "p.id in (with recursive below(id) as (select id from tree where parent_id = cast(? as integer) union"
    " select tree.id from tree join below on tree.parent_id = below.id) select id from below)",
    "id": "cast(p.id as text) = ?",
    "label": "p.id in (select page_id from labels where created <= ? and name = ?)",
    "space": "lower(s.key) = ?",
    "type": "'page' = ?",
}


class BadCql(ValueError):
    """The query is not CQL, or not of the part that is played."""


@dataclass
class Query:
    """A condition on ``pages p``, ``versions v`` and ``spaces s`` with its values, and an order."""

    where: str
    values: list[Any] = field(default_factory=list)
    order: str = "p.id"


def translate(text: str, *, seen_before: int, zone: tzinfo = UTC) -> Query:
    """Return a query as SQL.

    :param seen_before: what the index has not seen yet, labels put on later than this, in epoch milliseconds.
    :param zone: the zone in which times are meant.
    :raises BadCql: it cannot be read.
    """
    return _Reader(text, seen_before, zone).query()


class _Reader:
    def __init__(self, text: str, seen_before: int, zone: tzinfo) -> None:
        self._seen_before, self._zone = seen_before, zone
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
        where = self._all_of()
        order = self._order() if self._is("order") else "p.id"
        if self._at < len(self._tokens):
            self._fail()
        return Query(where, self._values, order)

    # --- tokens ---

    def _fail(self) -> NoReturn:
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

    def _all_of(self) -> str:
        parts = [self._clause()]
        while self._is("and"):
            parts.append(self._clause())
        return " and ".join(parts)

    def _clause(self) -> str:
        name, quoted = self._next()
        name = name.lower()
        if not quoted and name in _DATES and self._is(">="):
            self._values.append(round(self._moment(self._value()).timestamp() * 1000))
            return f"{_DATES[name]} >= ?"
        if not quoted and name in _EQUAL and self._is("="):
            if name == "label":
                self._values.append(self._seen_before)
            self._values.append(self._value().lower())
            return _EQUAL[name]
        self._at -= 1
        self._fail()

    def _value(self) -> str:
        word, quoted = self._next()
        if not quoted and word in ("(", ")", ",", "=", "~"):
            self._at -= 1
            self._fail()
        return word

    def _moment(self, text: str) -> datetime:
        for pattern in ("%Y-%m-%d %H:%M", "%Y-%m-%d"):
            try:
                return datetime.strptime(text, pattern).replace(tzinfo=self._zone)
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
