"""The answers to a batch on their way into a version: packed once, kept on disk, given back task by task.

A task id is a SHA-256, so its first characters spread tasks evenly: answers are put aside in parts by those, each part
is read back and sorted by itself, and the parts in their order are all tasks in theirs. At most one part is held, and
what came since the last time that the parts were written out.
"""

from __future__ import annotations

import marshal
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from operator import itemgetter
from types import TracebackType
from typing import Any

from include.annotation.answers import Answer, AnswerValue
from include.annotation.tasks import CONTENT_KEYS
from include.annotation.values import choice_of, person_of, plain, utc_text
from include.base.canonical import canonical_json
from include.base.disk import writing_scratch
from include.datasets.resolve import Vote
from include.people.register import Register

__all__ = ["VoteStore", "pack"]

_PREFIX = 2
_HELD_BYTES = 16 * 1024 * 1024
_OVERHEAD = 1000
"""About what a vote takes in memory beside its content, in bytes."""

_REMEMBERED = 10_000
_NAMED = frozenset({*CONTENT_KEYS, "label", "options"})
"""What a task's id is made of."""

_SMALL = 2000


def pack(project: str, register: Register, known: dict[str, bool], answers: Iterable[Answer]) -> Iterator[Vote]:
    """Turn the answers to a batch into votes, with the pieces of canonical JSON that a version is made of.

    :param known: the batch's tasks; true until an answer has shown what the task shows. Two answers to one task show
        the same, for the task's id is made of it; so it is kept once, and again only where there is something beside
        (an image's size).
    """
    # Values, persons and guidelines repeat: each is spelled once.
    values: dict[AnswerValue, tuple[bytes, str | None]] = {}
    # A reader gives out one object for equal values, which is looked up sooner; it is held, so its id stays its own.
    objects: dict[int, tuple[AnswerValue, bytes, str | None]] = {}
    persons: dict[tuple[Any, ...], tuple[str, bytes]] = {}
    guidelines: dict[tuple[str | None, int | None], tuple[str, int | None, bytes]] = {}
    parts: dict[bytes, bytes] = {}
    for answer in answers:
        task_id = answer.task_id
        new = known.get(task_id)
        if new is None:
            continue
        said = objects.get(id(answer.value))
        if said is None:
            spelled = values.get(answer.value)
            if spelled is None:
                value = plain(answer.value.canonical())
                spelled = canonical_json(value), choice_of(value)
                _remember(values, answer.value, spelled)
            said = (answer.value, *spelled)
            _remember(objects, id(answer.value), said)
        # The register speaks of whole days in UTC.
        time = answer.time
        account = (answer.account, answer.session, time.date() if time is not None and time.tzinfo is UTC else time)
        who = persons.get(account)
        if who is None:
            person = person_of(answer, project, register)
            who = person, canonical_json(person)
            _remember(persons, account, who)
        stamp = (answer.guideline, answer.guideline_number)
        under = guidelines.get(stamp)
        if under is None:
            number = answer.guideline_number if answer.guideline else None
            pieces = (canonical_json(answer.guideline), canonical_json(number))
            under = answer.guideline or "unknown", number, b',"guideline":%b,"guideline_number":%b,"person":' % pieces
            _remember(guidelines, stamp, under)
        at = time.isoformat() if time is not None and time.tzinfo is UTC else utc_text(time)
        shown = None
        if new or not _NAMED.issuperset(answer.shown):
            shown = _spelled(answer.shown, parts)
            known[task_id] = False
        yield Vote(
            task_id,
            who[0],
            answer.round,
            at,
            answer.row_digest,
            said[2],
            b'{"at":%b%b%b' % (b"null" if at is None else b'"%b"' % at.encode("ascii"), under[2], who[1]),
            said[1],
            shown,
            under[0],
            under[1],
            answer.example_id,
            answer.link_id,
        )


def _spelled(shown: Mapping[str, Any], parts: dict[bytes, bytes]) -> bytes:
    """Return the canonical JSON of what was shown, of which the same part (the options) is spelled once."""
    pieces = []
    for key in sorted(shown):
        part = shown[key]
        if type(part) is str:
            spelled = canonical_json(part)
        else:
            # Tells 1, 1.0 and true apart, which are equal as keys.
            same = marshal.dumps(part, 2)
            known = parts.get(same)
            spelled = canonical_json(plain(part)) if known is None else known
            if known is None and len(same) < _SMALL:
                _remember(parts, same, spelled)
        pieces.append(canonical_json(key) + b":" + spelled)
    return b"{" + b",".join(pieces) + b"}"


def _remember(memory: dict[Any, Any], key: Any, value: Any) -> None:
    if len(memory) >= _REMEMBERED:
        memory.clear()
    memory[key] = value


class VoteStore:
    """Votes put aside by the beginning of their task's id, in memory and in one temporary file."""

    def __init__(self) -> None:
        with writing_scratch():
            self._file = tempfile.TemporaryFile(prefix="labelops-freeze-")  # noqa: SIM115 - closed by __exit__
        self._parts: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self._written: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._held = 0

    def __enter__(self) -> VoteStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add_all(self, votes: Iterable[Vote]) -> None:
        """Put votes aside."""
        parts = self._parts
        for vote in votes:
            parts[vote.task_id[:_PREFIX]].append(vote)
            self._held += _OVERHEAD + len(vote.value) + len(vote.shown or b"")
            if self._held >= _HELD_BYTES:
                self._write_out()

    def by_task(self) -> Iterator[tuple[str, list[Vote]]]:
        """Yield the votes on each task, tasks in order of their ids; the order of a task's votes means nothing."""
        for prefix in sorted(self._parts.keys() | self._written.keys()):
            part: list[Any] = self._parts.pop(prefix, [])
            for place, length in self._written.pop(prefix, ()):
                self._file.seek(place)
                # Written by this very process, to a file that no other can open.
                part += map(Vote._make, marshal.loads(self._file.read(length)))  # noqa: S302
            part.sort(key=itemgetter(0))
            first = 0
            for at in range(1, len(part) + 1):
                if at == len(part) or part[at].task_id != part[first].task_id:
                    yield part[first].task_id, part[first:at]
                    first = at

    def _write_out(self) -> None:
        """Write what is held to the file. It never leaves this process, so Python's own format serves."""
        with writing_scratch():
            for prefix, part in self._parts.items():
                content = marshal.dumps([tuple(vote) for vote in part])
                self._written[prefix].append((self._file.tell(), len(content)))
                self._file.write(content)
            self._file.flush()
        self._parts.clear()
        self._held = 0
