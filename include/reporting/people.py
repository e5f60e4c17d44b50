"""How people appear on a page."""

from __future__ import annotations

from collections.abc import Iterator

from include.projects.model import Exposure
from include.reporting.facts import LineageFacts

__all__ = ["People"]


class People:
    """Says who somebody is, as far as the policy exposes people: ``full`` by name, ``none`` by a number alone."""

    def __init__(self, facts: LineageFacts, exposure: Exposure) -> None:
        self._names = facts.names
        self._exposure = exposure
        self._numbers = {person: place for place, person in enumerate(sorted(set(_known(facts))), 1)}

    def __call__(self, person: str) -> str:
        """Return how a person is called."""
        if self._exposure is Exposure.NONE:
            return f"person {self._numbers[person]}"
        if self._exposure is Exposure.FULL:
            name = self._names.get(person)
            return f"{name} ({person})" if name else person
        return person


def _known(facts: LineageFacts) -> Iterator[str]:
    for decision in facts.decisions:
        yield decision.person
    for version in facts.versions:
        yield from version.persons
        if version.changes is not None:
            yield from version.changes.persons
        if version.quality is not None:
            yield from (one.name for one in version.quality.persons)
            yield from (one.person for one in version.quality.accounting.persons)
