"""Pointers in the store, held against the event that tells what was published last: anybody may have moved one."""

from __future__ import annotations

from include.base.errors import InvalidInput
from include.base.store import Store, StorePath
from include.governance.records import Event

__all__ = ["misplaced"]


def misplaced(store: Store, place: StorePath, told: Event | None) -> str:
    """Return why a pointer is not where the ledger has it, an empty string where it is.

    :param told: the event of what was published last and stands, None where nothing does: then the pointer is not
        there, or names nothing.
    """
    try:
        found = store.pointer(place) or {}
    except InvalidInput as error:
        return f"{place.name} cannot be read: {error}"
    if told is None:
        name = found.get("release")
        return f"{place.name} names {name}, and the ledger none" if name else ""
    release = told.body["path"].rpartition("/")[2]
    if found == {"release": release, "number": told.body["number"], "digest": told.digest_after}:
        return ""
    if found.get("release") == release:
        return f"{place.name} names {release} with another number or digest than the ledger"
    return f"{place.name} names {found.get('release') or 'no release'}, and the ledger {release}"
