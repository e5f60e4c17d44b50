"""Prodigy's database as Labelops sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

__all__ = ["AddResult", "DatasetInfo", "ProdigyGateway", "Row", "Watermark"]


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
class Watermark:
    """How far a dataset was seen: its number of links and its highest link id."""

    count: int
    last_link: int


@dataclass(frozen=True)
class AddResult:
    """What an insert did."""

    inserted: int
    present: int


class ProdigyGateway(Protocol):
    """What ``ProdigyHook`` does. It never writes an answer under a person's session."""

    def datasets(self, *, sessions: bool = False) -> list[DatasetInfo]:
        """Return the named datasets, or the sessions, oldest first."""

    def exists(self, dataset: str) -> bool:
        """Tell whether a named dataset exists."""

    def watermark(self, dataset: str) -> Watermark:
        """Return count and highest link id; (0, 0) for a dataset that is not there."""

    def rows(self, dataset: str, *, after: int = 0, batch: int = 1000) -> Iterator[Row]:
        """Stream a dataset's rows in link order, holding at most ``batch`` of them; empty if it is not there."""

    def add_tasks(self, dataset: str, tasks: Iterable[Mapping[str, Any]], *, batch: int = 1000) -> AddResult:
        """Append tasks that the dataset does not hold yet (by ``labelops.task_id``), each batch in one transaction."""

    def add_decisions(self, dataset: str, decisions: Iterable[Mapping[str, Any]]) -> AddResult:
        """Append decision rows that the dataset does not hold yet (by ``labelops.decision_id``)."""

    def link(self, dataset: str, example_ids: Iterable[int], meta: Mapping[str, Any]) -> int:
        """Make ``dataset`` hold exactly these examples (created if absent); return the number of links made."""

    def example_digests(self, example_ids: Iterable[int]) -> Iterator[tuple[int, str | None]]:
        """Yield the SHA-256 of each example's stored bytes, None for one that is gone."""
