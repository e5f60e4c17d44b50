"""Which models used which versions, and whether those were out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from include.governance.records import Event, VersionRecord
from include.governance.usage import USED
from include.questions.shared import (
    Basis,
    Records,
    Sight,
    UseFacts,
    VersionRef,
    use_facts,
    version_ref,
)

__all__ = ["RECALLED", "RELEASED", "ModelsAnswer", "models_of", "release_facts", "uses_of", "versions_of_model"]

RELEASED, RECALLED = "release.done", "release.recalled"


@dataclass(frozen=True)
class ModelsAnswer:
    """Which models used which versions, as their trainings reported it."""

    version: VersionRef | None
    model: str | None
    model_version: str | None
    uses: tuple[UseFacts, ...]
    basis: Basis


def models_of(records: Records, version: VersionRecord) -> ModelsAnswer:
    """Answer which models used a version."""
    sight, ref = Sight(), version_ref(version)
    events = list(records.ledger.events(subject=f"version:{version.digest}"))
    return ModelsAnswer(ref, None, None, tuple(uses_of(ref, events, sight)), sight.basis())


def versions_of_model(
    records: Records, model: str, model_version: str | None = None, project: str | None = None
) -> ModelsAnswer:
    """Answer which versions a model used.

    :param model_version: only this version of the model.
    """
    sight, uses = Sight(), []
    for event in records.ledger.events(project=project, actions=[USED]):
        if event.body["model"] != model or model_version not in (None, event.body["model_version"]):
            continue
        version = records.ledger.version(event.digest_after or "")
        if version is None:
            raise AssertionError("a use is recorded of a version on the ledger only")
        of_version = list(records.ledger.events(subject=event.subject))
        uses += [one for one in uses_of(version_ref(version), of_version, Sight()) if one.event == event.seq]
        sight.event(event)
    return ModelsAnswer(None, model, model_version, tuple(uses), sight.basis())


def uses_of(version: VersionRef, events: Iterable[Event], sight: Sight) -> Iterator[UseFacts]:
    """Yield the uses among a version's events, each with whether the version was out when it was reported."""
    out = False
    for event in events:
        if event.action in (RELEASED, RECALLED):
            out = event.action == RELEASED
        elif event.action == USED:
            sight.event(event)
            yield use_facts(event, version, released_before=out)


def release_facts(events: Iterable[Event]) -> Event | None:
    """Return the release among a version's events; None where it was never released, or was recalled since."""
    found = None
    for event in events:
        if event.action in (RELEASED, RECALLED):
            found = event if event.action == RELEASED else None
    return found
