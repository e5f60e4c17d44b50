"""OpenText Workflow Service as Labelops sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = [
    "Attachment",
    "Encrypted",
    "HistoricProcess",
    "HistoricTask",
    "ProcessComment",
    "ProcessInstance",
    "ProcessModel",
    "ProcessStart",
    "UserTask",
]


@dataclass(frozen=True)
class Encrypted:
    """A variable's value that the service is asked to store encrypted. It is never shown in a message or a log."""

    value: Any = field(repr=False)


@dataclass(frozen=True)
class ProcessStart:
    """Where a process comes from.

    :param model: key of its model, empty where the service does not tell it.
    :param time: when it was started, None where the service does not tell it.
    :param account: who started it, None where the service does not tell it.
    """

    id: str
    model: str
    time: datetime | None
    account: str | None


@dataclass(frozen=True)
class ProcessInstance:
    """A running process instance.

    :param definition_id: of the model's version, empty where the service does not tell it.
    :param raw: the reply it was read from.
    """

    id: str
    name: str
    business_key: str
    started: datetime | None
    started_by: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    definition_id: str = ""

    @property
    def start(self) -> ProcessStart:
        """Return where it comes from."""
        return ProcessStart(self.id, _model(self.definition_id), self.started, self.started_by)


@dataclass(frozen=True)
class HistoricProcess:
    """A process instance in history. It has ended when ``ended_at`` is set.

    ``delete_reason`` is set when it was terminated from outside; ``end_activity_id`` names the end event reached.
    """

    id: str
    name: str
    business_key: str
    definition_id: str
    started_at: datetime | None
    ended_at: datetime | None
    started_by: str | None = None
    end_activity_id: str | None = None
    delete_reason: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def start(self) -> ProcessStart:
        """Return where it comes from."""
        return ProcessStart(self.id, _model(self.definition_id), self.started_at, self.started_by)


def _model(definition_id: str) -> str:
    """Return the key in the id of a model's version, which is ``key:version:id``; empty for an id of another form."""
    key, found, _ = definition_id.partition(":")
    return key if found else ""


@dataclass(frozen=True)
class UserTask:
    """A task that waits for a person. ``key`` is its id in the model, where the service's list tells it."""

    id: str
    name: str
    process_id: str
    assignee: str | None
    owner: str | None
    created: datetime | None
    claimed: datetime | None = None
    due: datetime | None = None
    delegation_state: str | None = None
    candidate_groups: tuple[str, ...] = ()
    priority: int = 50
    variables: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    key: str | None = None


@dataclass(frozen=True)
class Attachment:
    """Something attached to a task: a link (``url``) or a file. ``kind`` is what the service calls its type."""

    id: str
    name: str
    description: str = ""
    kind: str = ""
    url: str | None = None
    author: str | None = None
    time: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class HistoricTask:
    """A task in history. ``completer`` is set only where the tenant records who completed (most do not)."""

    id: str
    name: str
    key: str | None
    process_id: str
    assignee: str | None
    owner: str | None
    created: datetime | None
    claimed: datetime | None
    ended: datetime | None
    delete_reason: str | None = None
    completer: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class ProcessComment:
    """A comment on a process or on one of its tasks."""

    id: str
    author: str
    message: str
    time: datetime | None
    task_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class ProcessModel:
    """A deployed model; ``content`` is BPMN 2.0 XML when it was asked for."""

    id: str
    key: str
    name: str
    version: int
    content: str | None = None
