"""A listing of an outside system that can be stopped anywhere and taken up again.

Every list that a hook gives out is a :class:`Listing`: an iterator whose ``state`` is a short text. A reader that keeps
the state with what it has dealt with can be killed at any item; ``resume=state`` goes on after that item. Where the
outside list changed meanwhile, an item may come a second time, and none is left out: the state names the page and the
last item of it, not a number of items to leave out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from include.base.errors import InvalidInput, InvalidReply

__all__ = ["Listing", "ReadState"]

Item = TypeVar("Item")

FORMAT = 1


@dataclass(frozen=True)
class ReadState:
    """How far a listing was read.

    :param of: what is listed, with everything that chooses it (``confluence pages 42``): a state of one listing is
        refused by another.
    :param place: where the page begins, in the words of the system (a cursor, an offset); None for the first.
    :param last: name of the last item given out of that page; None for none yet.
    :param done: whether the end was reached.
    """

    of: str
    place: str | None = None
    last: str | None = None
    done: bool = False

    def text(self) -> str:
        """Return the state as text."""
        return json.dumps(
            {"format": FORMAT, "of": self.of, "place": self.place, "last": self.last, "done": self.done},
            separators=(",", ":"),
        )

    @classmethod
    def read(cls, text: str, of: str) -> ReadState:
        """Return the state that a text holds.

        :raises InvalidInput: the text is no state, is of a newer format, or belongs to another listing.
        """
        try:
            found = json.loads(text)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"state of {of}: not JSON; start again without a state") from error
        if not isinstance(found, dict) or not {"format", "of", "place", "last", "done"} == set(found):
            raise InvalidInput(f"state of {of}: not a state that a listing gave out; start again without one")
        if found["format"] != FORMAT:
            raise InvalidInput(f"state of {of}: found format {found['format']!r}, allowed: {FORMAT}")
        if found["of"] != of:
            raise InvalidInput(f"state of {of}: found one of {found['of']!r}; a state belongs to one listing")
        place, last, done = found["place"], found["last"], found["done"]
        if not all(value is None or isinstance(value, str) for value in (place, last)) or not isinstance(done, bool):
            raise InvalidInput(f"state of {of}: place and last must be text or null, done true or false")
        return cls(of, place, last, done)


class Listing(Iterator[Item], Generic[Item]):
    """The items of a listing, page after page, each page asked for only when it is needed.

    :param of: see :class:`ReadState`.
    :param fetch: returns a page's items and where the next page begins (None after the last); its argument is None for
        the first page. Its errors go to the reader, who may take the listing up again at :attr:`state`.
    :param name: an item's name, unique in the listing.
    :param resume: :attr:`state` of an earlier listing of the same things.
    :raises InvalidInput: ``resume`` is not a state of this listing.
    """

    def __init__(
        self,
        of: str,
        fetch: Callable[[str | None], tuple[list[Item], str | None]],
        name: Callable[[Item], str],
        resume: str | None = None,
    ) -> None:
        self._fetch = fetch
        self._name = name
        self._at = ReadState(of) if resume is None else ReadState.read(resume, of)
        self._page: Iterator[Item] | None = None
        self._next: str | None = None
        self._seen: set[str | None] = {self._at.place}

    @property
    def state(self) -> str:
        """How far was read: up to and with the item given out last."""
        return self._at.text()

    @property
    def complete(self) -> bool:
        """Tell whether the end was reached, so that what was not seen is not there."""
        return self._at.done

    def __next__(self) -> Item:
        """Return the next item; the state then includes it."""
        while not self._at.done:
            if self._page is None:
                self._page = self._read_page()
            item: Any = next(self._page, self)
            if item is not self:
                self._at = ReadState(self._at.of, self._at.place, self._name(item))
                return item
            self._turn()
        raise StopIteration

    def _read_page(self) -> Iterator[Item]:
        items, self._next = self._fetch(self._at.place)
        names = [self._name(item) for item in items]
        # The last item is gone from its page: all of the page comes again, for something may have moved up.
        start = names.index(self._at.last) + 1 if self._at.last in names else 0
        return iter(items[start:])

    def _turn(self) -> None:
        if self._next is None:
            self._at = ReadState(self._at.of, self._at.place, self._at.last, done=True)
            return
        if self._next in self._seen:
            raise InvalidReply(f"{self._at.of}: the listing repeats itself and does not end")
        self._seen.add(self._next)
        self._at = ReadState(self._at.of, self._next)
        self._page = None
