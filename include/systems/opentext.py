"""OpenText Workflow Service as Labelops sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from include.systems.listing import Listing

__all__ = [
    "Assignment",
    "Attachment",
    "HistoricProcess",
    "HistoricTask",
    "OpenTextGateway",
    "ProcessComment",
    "ProcessInstance",
    "ProcessModel",
    "UserTask",
]


@dataclass(frozen=True)
class ProcessInstance:
    """A running process instance. ``raw`` is the reply it was read from."""

    id: str
    name: str
    business_key: str
    started: datetime | None
    suspended: bool = False
    ended: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


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
class Assignment:
    """A link between a task and a person or a group.

    :param kind: ``candidate``, ``assignee``, ``owner``, ``participant``.
    """

    kind: str
    user: str | None = None
    group: str | None = None


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


class OpenTextGateway(Protocol):
    """What ``OpenTextWorkflowHook`` does. Lists are generators; errors are those of ``include.base.errors``."""

    @property
    def groups(self) -> Mapping[str, str]:
        """Return role to candidate group as this tenant has them; empty where the mapping's own names are right."""

    def start_process(
        self, key: str, *, name: str, business_key: str, variables: Mapping[str, Any], settle_seconds: float = 0.0
    ) -> tuple[str, bool]:
        """Start a process unless one with this business key exists; return its id and whether it was started.

        :param settle_seconds: how long to look for one that an earlier try may have started and history does not show.
        """

    def find_process(self, business_key: str) -> str | None:
        """Return the id of the running or ended process with this business key, or None."""

    def process(self, process_id: str) -> ProcessInstance | None:
        """Return a running process, or None when it is not running (which does not prove that it ended)."""

    def history(self, process_id: str, *, wait: bool = True) -> HistoricProcess:
        """Return a process from history, waiting out a short lag unless told not to; NotFound after that."""

    def historic_tasks(self, process_id: str) -> Iterator[HistoricTask]:
        """List the tasks of a process and of the processes it called, ended ones included."""

    def historic_task(self, task_id: str) -> HistoricTask | None:
        """Return one task from history, waiting out its lag."""

    def tasks(
        self,
        *,
        process_id: str | None = None,
        process_key: str | None = None,
        candidate_or_assigned: str | None = None,
        candidate_group: str | Iterable[str] | None = None,
        candidate_user: str | None = None,
        assignee: str | None = None,
        name: str | None = None,
        key: str | None = None,
        resume: str | None = None,
    ) -> Listing[UserTask]:
        """List waiting tasks that fit everything given: of a process with those it called, of a person, of a group."""

    def task(self, task_id: str) -> UserTask:
        """Return a waiting task; NotFound where it does not wait."""

    def comments(self, process_id: str) -> list[ProcessComment]:
        """Return the comments on a process and on its tasks, oldest first, running or ended."""

    def add_comment(self, process_id: str, message: str) -> ProcessComment:
        """Comment on a process, running or ended (Unsupported where the tenant refuses it once ended)."""

    def set_variable(self, process_id: str, name: str, value: Any) -> None:
        """Create or update one variable of a running process."""

    def claim(self, task_id: str, assignee: str) -> None:
        """Claim a task in a person's name (people's clients only; Labelops itself never claims)."""

    def complete(self, task_id: str, *, outcome: str | None = None, variables: Mapping[str, Any] | None = None) -> None:
        """Complete a task with an outcome (people's clients only; Labelops itself never completes)."""

    def update_task(self, task_id: str, **fields: Any) -> UserTask:
        """Change a task's due date, priority, …"""

    def terminate(self, process_id: str, reason: str) -> None:
        """End a running process from outside."""

    def models(self, key: str | None = None) -> Iterator[ProcessModel]:
        """List the latest version of the deployed models."""

    def model(self, model_id: str) -> ProcessModel:
        """Return a model with its BPMN 2.0 XML."""

    def deploy(self, key: str, xml: str) -> tuple[ProcessModel, bool]:
        """Deploy a model unless the latest version has the same XML; the flag says whether it was."""

    def process_url(self, process_id: str) -> str:
        """Return an address that shows the process."""
