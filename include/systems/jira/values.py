"""Jira as Labelops sees it (Cloud and Data Center alike)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["Issue", "IssueComment"]


@dataclass(frozen=True)
class Issue:
    """An issue as read. ``category`` is ``new``, ``indeterminate`` or ``done``, whatever the status is called."""

    id: str
    key: str
    project: str
    kind: str
    summary: str
    status: str
    category: str
    updated: datetime
    assignee: str | None = None
    labels: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class IssueComment:
    """A comment on an issue; times are UTC."""

    id: str
    author: str
    body: str
    created: datetime
