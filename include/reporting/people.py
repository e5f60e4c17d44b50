"""How people appear on a page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from include.people.register import account_key
from include.projects.model import Exposure
from include.reporting.facts import LineageFacts

__all__ = ["People"]


_WORD = re.compile(r"""[^\s,;'"()<>]*[^\s,;:'"()<>.]""")
"""What an account can be in a sentence: an id such as ``557058:ab-cd``, a mail address, a name with dots."""


class People:
    """Says who somebody is, as far as the policy exposes people.

    ``full`` by name, ``ids`` and ``masked`` by the register's id and never by a mail address, ``none`` by a number.
    """

    def __init__(self, facts: LineageFacts, exposure: Exposure) -> None:
        self._names = facts.names
        ids = set(facts.accounts.values())
        self._ids = {account_key(account): one for account, one in facts.accounts.items() if account not in ids}
        self._exposure = exposure
        self._numbers = {person: place for place, person in enumerate(sorted(set(_known(facts))), 1)}

    def __call__(self, person: str) -> str:
        """Return how a person is called."""
        if self._exposure is Exposure.NONE:
            return f"person {self._numbers[person]}"
        if self._exposure is Exposure.FULL:
            name = self._names.get(person)
            return f"{name} ({person})" if name else person
        return self._by_id(person)

    def text(self, said: str) -> str:
        """Return a sentence of the ledger, which may name people and their accounts anywhere.

        Where nobody may be named it is not told: no pattern finds every name.
        """
        if self._exposure is Exposure.NONE:
            return "told on the ledger alone"
        if self._exposure is Exposure.FULL:
            return said
        return _WORD.sub(lambda found: self._by_id(found[0]), said)

    def _by_id(self, account: str) -> str:
        return self._ids.get(account_key(account)) or ("an unknown account" if "@" in account else account)


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
