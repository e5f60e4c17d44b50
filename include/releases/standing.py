"""Which release of a version stands: what was released may have been recalled since, and released again."""

from __future__ import annotations

from include.governance.ledger import Ledger
from include.governance.records import Event
from include.projects.model import Project
from include.run.run import Run

__all__ = ["TAKEN_BACK", "next_edition", "recallable", "standing_releases", "stands_released"]

TAKEN_BACK = ("withdrawn", "stale")
"""What an approval that was given may have become since: what was released on it is recalled."""

_ACTIONS = ("release.done", "release.recalled")


def stands_released(run: Run, digest: str) -> Event | None:
    """Return the event of a version's release, None where there is none or the last one was recalled."""
    last = run.last(f"version:{digest}", *_ACTIONS)
    return last if last is not None and last.action == "release.done" else None


def standing_releases(ledger: Ledger, project: str) -> dict[str, Event]:
    """Return the releases of a project that stand, by subject, in the order of their making."""
    found: dict[str, Event] = {}
    for event in ledger.events(project=project, actions=_ACTIONS):
        found.pop(event.subject, None)
        if event.action == "release.done":
            found[event.subject] = event
    return found


def recallable(run: Run, project: Project) -> set[str]:
    """Return the subjects that were released, or are about to be, and not recalled since."""
    last = {
        event.subject: event.action
        for event in run.ledger.events(project=project.name, actions=["release.requested", *_ACTIONS])
    }
    return {subject for subject, action in last.items() if action != "release.recalled"}


def next_edition(run: Run, digest: str) -> int:
    """Return which release of a version the next one is: one more than the last that was recalled.

    The releases that were made do not count: a try that was overtaken has to come to the number of the one that
    overtook it, and be refused.
    """
    recalled = run.ledger.events(subject=f"version:{digest}", actions=["release.recalled"])
    return 1 + max((event.body["edition"] for event in recalled), default=0)
