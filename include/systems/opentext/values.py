"""OpenText Workflow Service as Labelops sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from include.systems.listing import Listing

__all__ = [
    "Assignment",
    "Attachment",
    "Execution",
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
    """A running process instance.

    :param parent_id: the process that called it.
    :param raw: the reply it was read from.
    """

    id: str
    name: str
    business_key: str
    started: datetime | None
    started_by: str | None = None
    parent_id: str | None = None
    suspended: bool = False
    ended: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Execution:
    """A place where a running process stands. ``activity_id`` is the element of the model, None at the root.

    :param super_execution_id: at the root of a called process: the execution that called it.
    """

    id: str
    process_id: str
    activity_id: str | None = None
    parent_id: str | None = None
    super_execution_id: str | None = None
    suspended: bool = False
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
    parent_id: str | None = None
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
    """What ``OpenTextWorkflowHook`` does. Lists can be taken up again; errors are those of ``include.base.errors``."""

    @property
    def opentext_conn_id(self) -> str:
        """Return the id of the connection, which names the service account without its secret."""

    @property
    def groups(self) -> Mapping[str, str]:
        """Return role to candidate group as this tenant has them; empty where the mapping's own names are right."""

    def start_process(
        self, key: str, *, name: str, business_key: str, variables: Mapping[str, Any], settle_seconds: float = 0.0
    ) -> tuple[str, bool]:
        """Start a process unless one with this business key exists; return its id and whether it was started.

        :param settle_seconds: how long to look for one that an earlier try may have started and history does not show.
        """

    def start_by_message(
        self, message: str, *, name: str, business_key: str, variables: Mapping[str, Any], settle_seconds: float = 0.0
    ) -> tuple[str, bool]:
        """Start the process that a message starts, unless one with this business key exists."""

    def find_process(self, business_key: str) -> str | None:
        """Return the id of the running or ended process with this business key, or None."""

    def process(self, process_id: str) -> ProcessInstance | None:
        """Return a running process, or None when it is not running (which does not prove that it ended)."""

    def processes(
        self,
        *,
        key: str | None = None,
        business_key: str | None = None,
        name: str | None = None,
        started_by: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        suspended: bool | None = None,
        parent_id: str | None = None,
        called: bool = True,
        resume: str | None = None,
    ) -> Listing[ProcessInstance]:
        """List running processes that fit everything given, without their variables."""

    def suspend(self, process_id: str, comment: str = "") -> bool:
        """Suspend a process; return whether this call did it."""

    def activate(self, process_id: str, comment: str = "") -> bool:
        """Let a suspended process go on; return whether this call did it."""

    def diagram(self, process_id: str) -> bytes:
        """Return a picture (PNG) of a running process; Unsupported where its model cannot be drawn."""

    def history(self, process_id: str, *, wait: bool = True) -> HistoricProcess:
        """Return a process from history, waiting out a short lag unless told not to; NotFound after that."""

    def ended_processes(self, *, key: str | None = None, resume: str | None = None) -> Listing[HistoricProcess]:
        """List the processes that ended since an earlier listing, oldest first, without their variables."""

    def historic_processes(
        self,
        *,
        key: str | None = None,
        business_key: str | None = None,
        finished: bool | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
        started_by: str | None = None,
        parent_id: str | None = None,
        called: bool = True,
        variables: bool = False,
        resume: str | None = None,
    ) -> Listing[HistoricProcess]:
        """List processes of history, running ones too, that fit everything given."""

    def historic_tasks(
        self,
        process_id: str | None = None,
        *,
        key: str | None = None,
        process_key: str | None = None,
        assignee: str | None = None,
        finished: bool | None = None,
        completed_after: datetime | None = None,
        resume: str | None = None,
    ) -> Listing[HistoricTask]:
        """List tasks of history that fit everything given: of a process and of those it called, of a model, …"""

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

    def delete_comment(self, process_id: str, comment_id: str) -> bool:
        """Delete a comment on a running process; return whether it was there."""

    def variables(self, process_id: str) -> dict[str, Any]:
        """Return a running process's variables."""

    def variable(self, process_id: str, name: str) -> Any:
        """Return one variable of a running process."""

    def set_variables(self, process_id: str, variables: Mapping[str, Any]) -> None:
        """Create or update several variables of a running process."""

    def delete_variable(self, process_id: str, name: str) -> bool:
        """Delete a variable of a running process; return whether it was there."""

    def executions(
        self,
        process_id: str | None = None,
        *,
        process_key: str | None = None,
        message: str | None = None,
        signal: str | None = None,
        activity_id: str | None = None,
        execution_id: str | None = None,
        resume: str | None = None,
    ) -> Listing[Execution]:
        """List the places where running processes stand, or those that wait for a message or a signal."""

    def send_message(
        self,
        process_id: str,
        name: str,
        variables: Mapping[str, Any] | None = None,
        *,
        activity_id: str | None = None,
    ) -> str:
        """Send a message to the one place of a process that waits for it; Conflict where none or several do."""

    def send_signal(self, process_id: str, name: str, variables: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """Send a signal to every place of a process that waits for it."""

    def trigger(self, execution_id: str, variables: Mapping[str, Any] | None = None) -> None:
        """Let an execution go on that waits to be triggered."""

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

    def models(
        self, key: str | None = None, *, latest: bool = True, resume: str | None = None
    ) -> Listing[ProcessModel]:
        """List the deployed models: the latest version of each, or every one."""

    def model(self, model_id: str) -> ProcessModel:
        """Return a model with its BPMN 2.0 XML."""

    def deploy(self, key: str, xml: str) -> tuple[ProcessModel, bool]:
        """Deploy a model unless the latest version has the same XML; the flag says whether it was."""

    def process_url(self, process_id: str) -> str:
        """Return an address that shows the process."""
