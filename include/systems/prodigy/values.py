"""Prodigy's database as Labelops sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from include.systems.listing import Listing

__all__ = [
    "AddResult",
    "Counted",
    "Counts",
    "DatasetInfo",
    "Piece",
    "Rights",
    "Row",
    "RowFinding",
    "RowListing",
    "Watermark",
]


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset or a session (``session`` tells which). ``created`` is UTC."""

    id: int
    name: str
    created: datetime
    session: bool
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One linked example. ``content`` is the stored JSON object, ``raw`` its stored bytes.

    ``session`` is the name of the session dataset it is also linked to, where there is one.
    """

    link_id: int
    example_id: int
    input_hash: int
    task_hash: int
    content: dict[str, Any]
    raw: bytes
    session: str | None = None


@dataclass(frozen=True)
class Piece:
    """Some linked examples as they are stored, in link order.

    :param rows: (link id, content, example id, input hash, task hash) each. Content is bytes as a rule; on SQLite an
        editor may have left text.
    :param sessions: the session of an example, by example id, where it was asked for and there is one.
    """

    rows: Sequence[tuple[int, Any, int, int, int]]
    sessions: Mapping[int, str]


@dataclass(frozen=True)
class Watermark:
    """How far a dataset was seen: its number of links and its highest link id."""

    count: int
    last_link: int


@dataclass(frozen=True)
class AddResult:
    """What an insert did."""

    inserted: int
    present: int


@dataclass(frozen=True, order=True)
class RowFinding:
    """Something about rows that were read before and are no longer as they were.

    :param kind: ``dropped`` (the dataset is gone, or another of its name has taken its place), ``gone`` (rows are
        missing), ``changed`` (another row under the same link, or other content), ``late`` (rows that were committed
        after rows with a higher id had been read). Rows of the last three kinds that are there are given out anew.
    :param first_link, last_link: the links that the finding is about.
    :param seen, found: how many rows there were, and are.
    """

    kind: str
    first_link: int
    last_link: int
    seen: int
    found: int


class RowListing(Listing[Row]):
    """New rows of a dataset, and what became of those read before."""

    @property
    def findings(self) -> tuple[RowFinding, ...]:
        """What was noticed so far; all of it once the listing is ``complete``.

        A state from before the end leads to the same findings again, the state of the end does not.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Counted:
    """What rows are counted under: an annotator (None: unknown), an answer, the labels given and a day (UTC).

    :param labels: sorted, each once; empty where the row gives none.
    """

    annotator: str | None
    answer: str | None
    labels: tuple[str, ...]
    day: date | None


@dataclass(frozen=True)
class Counts:
    """How many rows of a dataset there are of each kind.

    :param unreadable: rows whose content is not JSON, or has a field of a kind that Prodigy never writes.
    :param groups: the readable rows, each counted once.
    """

    unreadable: int
    groups: Mapping[Counted, int]

    @property
    def rows(self) -> int:
        """All rows, the unreadable ones included."""
        return self.unreadable + sum(self.groups.values())

    def by(self, *fields: str) -> Counter[tuple[Any, ...]]:
        """Return the number of readable rows by some of ``annotator``, ``answer``, ``label`` and ``day``.

        A row is counted once, but under each of its labels (None where it gives none) when ``label`` is asked for.
        """
        found: Counter[tuple[Any, ...]] = Counter()
        for group, count in self.groups.items():
            for label in (group.labels or (None,)) if "label" in fields else (None,):
                found[tuple(label if field == "label" else getattr(group, field) for field in fields)] += count
        return found


@dataclass(frozen=True)
class Rights:
    """What an account may do in Prodigy's database.

    :param insert: append rows; nothing else is ever written.
    :param delete: what ``unlink`` and ``delete_examples`` need.
    :param missing: the rights that are missing, such as ``insert into link``.
    """

    read: bool
    insert: bool
    delete: bool
    missing: tuple[str, ...]
