"""Where the approval of a version stands, worked out from the ledger."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from include.governance.records import Event
from include.projects.model import Project
from include.run.run import Run

__all__ = ["BASE", "SUITE", "TERMINAL", "ApprovalState", "approval_state", "approval_states"]

SUITE = "version_rows"
"""The gate that a version's rows pass before anybody is asked."""

TERMINAL = (
    *("approved", "rejected", "rework", "undecided", "void", "expired", "cancelled", "stale", "withdrawn"),
    "refused",
)
"""The stated results of an approval; each ends the attempt. What was approved may be withdrawn later.

``refused`` is a version about which nobody was asked, for its policy forbids it whatever they say.
"""

BASE = "base"
"""Cause of a ``stale`` that comes from the version that this one rests on."""

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
    :param base: digest of the version that it rests on, None for one that rests on none.
    :param readopted: it was put back on a ledger that had lost it: people may have been asked before.
    :param increment: it is a batch by itself and no dataset: nothing that happens to another version concerns it.
    :param outdated: it ended, or is just ending, because what it rests on changed, not by anything about itself.
    """

    state: str = "frozen"
    attempt: int = 1
    requested: Event | None = None
    ending: Event | None = None
    requesters: frozenset[str] = frozenset()
    gate_passed: bool = False
    reopened: int = 0
    base: str | None = None
    increment: bool = True
    readopted: bool = False
    outdated: bool = False

    @property
    def open(self) -> bool:
        """Tell whether nothing was decided yet."""
        return self.state not in TERMINAL

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
        if event.action == "version.ready":
            now = replace(now, base=event.body.get("base"), increment="base" not in event.body)
            now = replace(now, readopted=event.body.get("readopted", False))
            # The same rows on the same base were made once more: now they may be asked about.
            return now._anew() if now.outdated and now.state == "stale" else now
        if name == "requested":
            return replace(now, state="requested", requested=event)
        if name == "ending":
            return replace(now, ending=event, outdated=_by_its_base(event))
        if name == "resubmitted":
            return now._anew()
        if name == "reopened":
            return replace(now, state="requested", ending=None, reopened=now.reopened + 1)
        if name in TERMINAL:
            return replace(now, state=name, outdated=now.outdated or _by_its_base(event))
        return now

    def _anew(self) -> ApprovalState:
        """Return where it stands when people are asked once more."""
        attempt = self.attempt + 1
        return replace(self, state="frozen", attempt=attempt, requested=None, ending=None, reopened=0, outdated=False)


def _by_its_base(event: Event) -> bool:
    return event.body.get("cause") == BASE


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
