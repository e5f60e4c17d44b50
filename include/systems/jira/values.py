"""Jira as Labelops sees it (Cloud and Data Center alike)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from include.systems.confluence.values import User
from include.systems.listing import Listing

__all__ = ["Issue", "IssueComment", "JiraGateway"]


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


class JiraGateway(Protocol):
    """What ``JiraIssueHook`` does; errors are those of ``include.base.errors``."""

    def current_user(self) -> User:
        """Return the account behind the credential."""

    def search(self, jql: str, *, resume: str | None = None) -> Listing[Issue]:
        """List the issues that a query finds, in its order."""

    def changed_issues(self, project: str, *, resume: str | None = None) -> Listing[Issue]:
        """List the issues of a project that changed since an earlier listing's state, oldest change first."""

    def issue(self, key: str) -> Issue:
        """Return one issue."""

    def create_issue(
        self,
        project: str,
        kind: str,
        summary: str,
        description: str,
        *,
        effect: str,
        fields: Mapping[str, Any] | None = None,
        settle_seconds: float = 0.0,
    ) -> tuple[Issue, bool]:
        """Create an issue unless the effect has one; return it and whether this call created it."""

    def comments(self, key: str, *, resume: str | None = None) -> Listing[IssueComment]:
        """List an issue's comments, oldest first."""

    def add_comment(self, key: str, body: str) -> tuple[IssueComment, bool]:
        """Comment on an issue unless this account has said exactly that; return it and whether it was written."""

    def transition(self, key: str, status: str) -> bool:
        """Bring an issue into a status; return whether anything was sent."""
