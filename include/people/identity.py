"""Who is the same person under several ids: a register that was edited may give somebody's account another owner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from include.people.register import Register

__all__ = ["same_persons"]


def same_persons(registers: Iterable[Register]) -> Mapping[str, frozenset[str]]:
    """Return, by id, the ids of everybody with whom a person shared an account in some of the registers, their own too.

    Somebody who was renamed, or whose accounts were divided between two entries, is still one person for four eyes.
    """
    group_of: dict[str, set[str]] = {}
    owner_of: dict[tuple[str, str], str] = {}
    for register in registers:
        for account, person in register.owners.items():
            group = group_of.setdefault(person, {person})
            earlier = group_of[owner_of.setdefault(account, person)]
            if earlier is not group:
                earlier |= group
                group_of.update(dict.fromkeys(group, earlier))
    return {person: frozenset(group) for person, group in group_of.items()}
