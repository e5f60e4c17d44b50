"""Where the approval of a version stands, worked out from the ledger."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from include.governance.records import Event
from include.projects.model import Project
from include.run.run import Run

__all__ = ["SUITE", "TERMINAL", "ApprovalState", "approval_state", "approval_states"]

SUITE = "version_rows"
"""The gate that a version's rows pass before anybody is asked."""

TERMINAL = ("approved", "rejected", "rework", "undecided", "void", "expired", "cancelled", "stale", "withdrawn")
"""The stated results of an approval; each ends the attempt. What was approved may be withdrawn later."""

_TELLING = (
    *("version.ready", "gate.passed", "approval.asked", "approval.requested", "approval.ending"),
    *("approval.resubmitted", "approval.reopened", *(f"approval.{state}" for state in TERMINAL)),
)
"""What an approval's state is made of. Who asked for a release did not ask for the approval."""


@dataclass(frozen=True)
class ApprovalState:
    """Where a version stands.

    :param state: ``frozen`` (nobody was asked yet), ``requested``, or one of :data:`TERMINAL`.
    :param requested: the request of the current attempt.
    :param ending: our decision to end the current attempt's process, from when on nothing else counts.
    :param requesters: every person who asked, resubmitted or closed the batch: none of them may approve.
    :param gate_passed: whether the version's own gate passed.
    :param reopened: how often a person had the process of this attempt judged again.
    """

    state: str = "frozen"
    attempt: int = 1
    requested: Event | None = None
    ending: Event | None = None
    requesters: frozenset[str] = frozenset()
    gate_passed: bool = False
    reopened: int = 0

    @property
    def judging(self) -> list[int]:
        """Return what names one judgement of the version: its attempt, and which time it was judged again."""
        return [self.attempt, self.reopened] if self.reopened else [self.attempt]

    def after(self, event: Event) -> ApprovalState:
        """Return where the version stands after one more event about it."""
        name = event.action.removeprefix("approval.")
        if event.action == "gate.passed":
            return replace(self, gate_passed=self.gate_passed or event.body["suite"] == SUITE)
        now = replace(self, requesters=self.requesters | set(event.body.get("requesters", [])))
        if name == "requested":
            return replace(now, state="requested", requested=event)
        if name == "ending":
            return replace(now, ending=event)
        if name == "resubmitted":
            return replace(now, state="frozen", attempt=now.attempt + 1, requested=None, ending=None, reopened=0)
        if name == "reopened":
            return replace(now, state="requested", ending=None, reopened=now.reopened + 1)
        return replace(now, state=name) if name in TERMINAL else now


def approval_state(run: Run, digest: str) -> ApprovalState:
    """Work out from the ledger where a version stands."""
    state = ApprovalState()
    for event in run.ledger.events(subject=f"version:{digest}", actions=_TELLING):
        state = state.after(event)
    return state


def approval_states(run: Run, project: Project) -> defaultdict[str, ApprovalState]:
    """Work out where all versions of a project stand, by digest, in one pass over the ledger."""
    states: defaultdict[str, ApprovalState] = defaultdict(ApprovalState)
    for event in run.ledger.events(project=project.name, actions=_TELLING):
        digest = event.subject.removeprefix("version:")
        if digest != event.subject:
            states[digest] = states[digest].after(event)
    return states
