"""The dataset of a project through its versions: which one the next rests on, what it takes in, and which goes stale.

A version is the whole dataset: the rows of its base, the newest approved version, and what batches finished since then
add, change or withdraw. One version is before approvers at a time. In a project whose versions are increments, each is
one batch, and none rests on another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from include.datasets.conditions import unmet
from include.datasets.manifest import read_manifest
from include.decisions.state import BASE, ApprovalState, approval_states
from include.governance.records import Event, VersionRecord
from include.projects.model import Project
from include.queues.batches import task_ids
from include.run.run import Run

__all__ = ["Dataset"]

REFUSED = ("rejected", "rework", "refused", "withdrawn")
"""What somebody, or the policy, said no to: it comes back when something about it was done again."""


@dataclass(frozen=True)
class Dataset:
    """The versions of a project, oldest first, and where each stands.

    :param frozen: the last time that each batch was frozen, by the batch's digest.
    """

    run: Run
    project: Project
    versions: tuple[VersionRecord, ...]
    states: Mapping[str, ApprovalState]
    frozen: Mapping[str, Event]

    @classmethod
    def of(cls, run: Run, project: Project) -> Dataset:
        """Return a project's dataset as the ledger has it."""
        return cls(
            run,
            project,
            tuple(run.ledger.versions(project.name)),
            approval_states(run, project),
            {
                event.subject.removeprefix("batch:"): event
                for event in run.ledger.events(project=project.name, actions=["batch.frozen"])
            },
        )

    def base(self, besides: str = "") -> str | None:
        """Return the newest approved version, whose rows the next one takes over; None where there is none.

        :param besides: a version that does not count.
        """
        if self.project.version == "batch":
            return None
        for version in reversed(self.versions):
            state = self.states[version.digest]
            if state.state == "approved" and version.digest != besides and not self._fallen(version.digest):
                return version.digest
        return None

    def chain(self, digest: str | None) -> Iterator[str]:
        """Yield a version and those that it rests on, the newest first."""
        while digest is not None:
            yield digest
            digest = self.states[digest].base

    def why_outdated(self, digest: str) -> str:
        """Return, in a sentence, why a version can be neither approved nor released any more, "" where it can.

        What it rests on is not approved any more; while people are still asked, another one was approved since; or
        nobody was asked yet, and it was frozen under another policy, or before the register knew its people.
        """
        fallen = self._fallen(digest)
        if fallen:
            return f"It rests on version {self._number(fallen)}, which is {self.states[fallen].state}."
        state = self.states[digest]
        if state.state == "frozen" and not state.readopted:
            manifest = read_manifest(self.run.store, self.project, digest)
            if manifest.policy_digest != self.project.policy.digest:
                return "It was frozen under another policy than the one that is in force."
            if state.attempt > 1 and manifest.register_digest != self.run.register.digest and unmet(manifest):
                return "It was frozen under another register than the one that is in force."
        if state.increment or not state.open or self.waits(digest) or self.project.version == "batch":
            return ""
        newest = self.base(besides=digest)
        if newest == state.base:
            return ""
        rests = "no other version" if state.base is None else f"version {self._number(state.base)}"
        stands = "no version stands" if newest is None else f"version {self._number(newest)} was approved"
        return f"It rests on {rests}, and {stands} meanwhile."

    def waits(self, digest: str) -> bool:
        """Tell whether one that a version rests on is still to be decided, as after a recovery of the ledger."""
        return any(self.states[one].open for one in self.chain(self.states[digest].base))

    def undecided(self) -> list[VersionRecord]:
        """Return the versions that are to be brought on now; of a dataset that is the oldest of them alone."""
        undecided = [one for one in self.versions if self.states[one.digest].open]
        return [
            one
            for place, one in enumerate(undecided)
            if place == 0 or self.states[one.digest].increment or self.project.version == "batch"
        ]

    def returning(self, tasks: Collection[str] | None = None) -> list[str]:
        """Return the batches that the next version takes in once more.

        By themselves come those whose version went stale, and those whose version only a policy of before refused:
        nobody said anything against them.

        :param tasks: what batches that finished hold. With them come batches of a version that was refused or withdrawn
            and is reworked (it holds one of these tasks), of one that was approved beside the base, and of one whose
            approval came to nothing, as by its expiry.
        """
        increments = self.project.version == "batch"
        stands = set(self.chain(self.base()))
        of_version: dict[str, list[str]] = {}
        for batch, event in self.frozen.items():
            of_version.setdefault(event.digest_after or "", []).append(batch)
        return sorted(
            batch
            for version in self.versions
            if version.digest not in stands
            and self._returns(version, of_version.get(version.digest, []), None if increments else tasks)
            for batch in of_version.get(version.digest, [])
        )

    def _returns(self, version: VersionRecord, batches: list[str], tasks: Collection[str] | None) -> bool:
        state = self.states[version.digest]
        if state.outdated and state.state == "stale":
            return True
        if state.state == "refused" and version.policy_digest != self.project.policy.digest:
            return True
        if tasks is None or state.open:
            return False
        if state.state not in REFUSED:
            return True
        return any(task in tasks for batch in batches for task in task_ids(self.run, batch))

    def go_stale(self, again: Collection[str] = ()) -> bool:
        """Put on the ledger which versions went stale; tell whether any did.

        A process that runs is ended by the next look at it.

        :param again: tasks of batches that finished. A version about which nobody was asked yet, for its gate or
            something else stood in the way, is overtaken where they are its own.
        """
        changed = False
        for version in self.versions:
            state = self.states[version.digest]
            if state.ending is not None or not (state.open or state.state == "approved"):
                continue
            why = self.why_outdated(version.digest)
            if not why and again and self._not_asked(state) and self._holds(version, again):
                why = "Its tasks were labelled or decided again before anybody was asked."
            if not why:
                continue
            running = state.state == "requested"
            changed |= self.run.note(
                "approval.ending" if running else "approval.stale",
                self.project.name,
                f"version:{version.digest}",
                key=["outdated", *state.judging],
                after=version.digest,
                reason=why,
                body={"attempt": state.attempt, "state": "stale", "was": state.state, "cause": BASE},
            )
            name, said = version.name.capitalize(), f"{why[0].lower()}{why[1:]}"
            self.run.log.warning(f"{name} of {self.project.name}, which was {state.state}, is stale: {said}")
        return changed

    @staticmethod
    def _not_asked(state: ApprovalState) -> bool:
        return state.state == "frozen" and not state.readopted and not state.increment

    def _holds(self, version: VersionRecord, tasks: Collection[str]) -> bool:
        """Tell whether a version took in one of some tasks."""
        return any(task in tasks for task in task_ids(self.run, version.batch))

    def _fallen(self, digest: str) -> str | None:
        """Return the first version that a version rests on and that came to something else than an approval."""
        for one in self.chain(self.states[digest].base):
            state = self.states[one]
            if not state.open and state.state != "approved":
                return one
        return None

    def _number(self, digest: str) -> int:
        return next((one.number or 0 for one in self.versions if one.digest == digest), 0)
