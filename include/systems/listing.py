"""A listing of an outside system that can be stopped anywhere and taken up again.

Every list that a hook gives out is a :class:`Listing`: an iterator whose ``state`` is a short text. A reader that keeps
the state with what it has dealt with can be killed at any item; ``resume=state`` goes on after that item. Where the
outside list changed meanwhile, an item may come a second time, and none is left out: the state names the page and the
last item of it, not a number of items to leave out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from include.base.errors import InvalidInput, InvalidReply

__all__ = ["Changes", "Listing", "ReadState", "Walk"]

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


class Walk:
    """Where a walk through the pages of a list was, so that one which goes in circles ends.

    A list may come back to a place that it named before, or to a page under ever new names of places. One page is
    remembered, a later one at each doubling of their number, so a circle of any length is noticed.

    :param of: what is listed, for people.
    :param place: where it begins.
    :raises InvalidReply: from both methods, where it was there before.
    """

    def __init__(self, of: str, place: str | None = None, *, system: str = "") -> None:
        self._of, self._system = of, system
        self._places = {place}
        self._pages = 0
        self._met: Sequence[object] = ()

    def goes_to(self, place: str) -> None:
        """Note where the next page begins."""
        if place in self._places:
            raise self._endless()
        self._places.add(place)

    def meets(self, page: Sequence[object]) -> None:
        """Note what a page holds; one without items is none."""
        if page and page == self._met:
            raise self._endless()
        self._pages += 1
        if self._pages.bit_count() == 1:
            self._met = page

    def _endless(self) -> InvalidReply:
        return InvalidReply(f"{self._of}: the listing repeats itself and does not end", system=self._system)


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
        self._walk = Walk(of, self._at.place)

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
        self._walk.meets(names)
        # The last item is gone from its page: all of the page comes again, for something may have moved up.
        start = names.index(self._at.last) + 1 if self._at.last in names else 0
        return iter(items[start:])

    def _turn(self) -> None:
        if self._next is None:
            self._at = ReadState(self._at.of, self._at.place, self._at.last, done=True)
            return
        self._walk.goes_to(self._next)
        self._at = ReadState(self._at.of, self._next)
        self._page = None


AHEAD = timedelta(minutes=10)
"""How far a state may be ahead of our clock: the other system's may be fast."""


@dataclass
class _Marks:
    """The place of a listing of changes.

    :param since: newest change of the passes that ended; ``known`` are the names within the overlap before it.
    :param top: newest change when the pass under way began; ``near`` are the names given out that changed within the
        overlap before it, or after it.
    :param low: change given out last, and ``at_low`` the names given out that have it. Newest-first passes only.
    """

    since: datetime | None = None
    known: dict[str, datetime] = field(default_factory=dict)
    top: datetime | None = None
    near: dict[str, datetime] = field(default_factory=dict)
    low: datetime | None = None
    at_low: list[str] = field(default_factory=list)

    def text(self, overlap: timedelta) -> str:
        """Return the marks as text; ``known`` names from before the overlap are left out, for they are never met."""

        def of(value: datetime | None) -> str | None:
            return None if value is None else value.isoformat()

        if self.since is not None:
            begin = self.since - overlap
            self.known = {name: at for name, at in self.known.items() if at >= begin}

        return json.dumps(
            {
                "since": of(self.since),
                "known": {name: of(at) for name, at in sorted(self.known.items())},
                "top": of(self.top),
                "near": {name: of(at) for name, at in sorted(self.near.items())},
                "low": of(self.low),
                "at_low": self.at_low,
            },
            separators=(",", ":"),
        )

    @classmethod
    def read(cls, text: str, of: str, now: datetime) -> _Marks:
        try:
            found = json.loads(text)
            moments = {name: _moment(found[name]) for name in ("since", "top", "low")}
            names = {name: {key: _moment(at) for key, at in found[name].items()} for name in ("known", "near")}
            at_low = [str(name) for name in found["at_low"]]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInput(
                f"state of {of}: its place holds no times of changes; start again without one"
            ) from error
        for value in (*moments.values(), *names["known"].values(), *names["near"].values()):
            if value is not None and value > now + AHEAD:
                raise InvalidInput(
                    f"state of {of}: it speaks of {value.isoformat()}, which is in the future; start again without one"
                )
        marks = cls(moments["since"], top=moments["top"], low=moments["low"], at_low=at_low)
        marks.known = {name: at for name, at in names["known"].items() if at is not None}
        marks.near = {name: at for name, at in names["near"].items() if at is not None}
        return marks


def _moment(value: str | None) -> datetime | None:
    if value is None:
        return None
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("no zone")
    return moment


class Changes(Listing[Item]):
    """What is new or changed since an earlier listing of the same things, each with the time of its last change.

    The state of a listing that was read to its end leads to what changed since; right after, that is nothing. What
    lies up to ``overlap`` before the newest change is listed again and left out by name and time, so that an entry that
    shows late is not missed. A state from the middle goes on after the item given out last. What was deleted is not
    seen: only a complete listing shows that.

    :param of: see :class:`ReadState`.
    :param list_since: lists at least what changed at or after a moment, None for everything.
    :param name: an item's name, unique in the listing.
    :param moment: when it was changed last, with zone.
    :param newest_first: the order of ``list_since``; else oldest first.
    :param overlap: how late an entry may show.
    :param now: the clock that tells whether a state is of the future.
    :raises InvalidInput: ``resume`` is no state of this listing, or is of the future.
    """

    def __init__(
        self,
        of: str,
        list_since: Callable[[datetime | None], Iterable[Item]],
        name: Callable[[Item], str],
        moment: Callable[[Item], datetime],
        *,
        newest_first: bool,
        overlap: timedelta = timedelta(minutes=10),
        resume: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(of, lambda place: ([], None), name, resume)
        self._moment, self._newest_first, self._overlap = moment, newest_first, overlap
        self._marks = _Marks() if self._at.place is None else _Marks.read(self._at.place, of, now())
        self._at = ReadState(of, self._at.place)
        self._moved = False
        self._list_since = list_since
        self._items: Iterator[Item] | None = None

    @property
    def state(self) -> str:
        """How far was read. Written when it is asked for: it may name as many items as lie within the overlap."""
        if self._moved:
            self._at = ReadState(self._at.of, self._marks.text(self._overlap), done=self._at.done)
            self._moved = False
        return self._at.text()

    def __next__(self) -> Item:
        """Return the next change; the state then includes it."""
        if self._at.done:
            raise StopIteration
        if self._items is None:
            since = self._marks.since
            self._items = iter(self._list_since(None if since is None else since - self._overlap))
        for item in self._items:
            name, moment = self._name(item), self._moment(item)
            if not self._was_given(name, moment):
                self._note(name, moment)
                self._moved = True
                return item
        self._end()
        self._at, self._moved = ReadState(self._at.of, self._at.place, done=True), True
        raise StopIteration

    def _was_given(self, name: str, moment: datetime) -> bool:
        marks = self._marks
        if marks.since is not None and moment < marks.since - self._overlap:
            return True
        if marks.known.get(name) == moment or marks.near.get(name) == moment:
            return True
        if marks.low is None or marks.top is None:
            return False
        return marks.low < moment <= marks.top or (moment == marks.low and name in marks.at_low)

    def _note(self, name: str, moment: datetime) -> None:
        marks = self._marks
        if not self._newest_first:
            marks.since = moment if marks.since is None else max(marks.since, moment)
            marks.known[name] = moment
            return
        marks.top = moment if marks.top is None else marks.top
        if moment >= marks.top - self._overlap:
            # A pass that was taken up meets changes newer than its top: all of them are named until it ends.
            marks.near[name] = moment
        if marks.low is None or moment < marks.low:
            marks.low, marks.at_low = moment, [name]
        elif moment == marks.low:
            marks.at_low.append(name)

    def _end(self) -> None:
        """Let the pass under way be one that ended."""
        marks = self._marks
        newest = max((at for at in (marks.since, marks.top, *marks.near.values()) if at is not None), default=None)
        if newest is not None:
            near = {**marks.known, **marks.near}
            near = {key: at for key, at in near.items() if at >= newest - self._overlap}
            self._marks = _Marks(newest, near)
