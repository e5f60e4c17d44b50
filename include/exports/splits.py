"""Splits that stay: which part (train, dev, test) an input belongs to, from one release of a project to the next.

* An input is what is labelled: text, or a file by the digest of its bytes; labels and options are no part of it, so two
  questions about one text are on one side.
* An input that was assigned by an earlier release stays where it is, whatever is added.
* A new input joins what it is a near-duplicate of: texts by :mod:`include.exports.similar`, files by equal bytes. One
  that is near to two parts is left out and reported (``straddles``), and stays left out.
* Otherwise a hash decides, salted with the project's name: of the smallest digest in a group of near-duplicates that
  are all new. Shares are expectations over inputs, and changed shares move nothing that is assigned.

The assignment travels with the release as ``splits.jsonl`` and is the next one's starting point. It is cumulative, and
holds digests and sketches, no text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from include.annotation.tasks import MEDIA_KEYS
from include.base.canonical import canonical_json, digest_of
from include.base.errors import InvalidInput
from include.base.store import StorePath
from include.exports.output import SPLITS, Assignment
from include.exports.rows import CONTENT_KEYS
from include.exports.similar import EQUAL, VALUES, Groups, near, sketches

__all__ = ["FILE", "STRADDLES", "Entry", "Split", "assign", "input_digest", "read_splits"]

FILE = "splits.jsonl"
"""What the assignment of a release is called."""

STRADDLES = "straddles"
"""Why a task is in no part: it is near to inputs of two."""

_LAYOUT = "labelops-splits/1"
_BATCH = 5000


@dataclass(frozen=True)
class Entry:
    """Where one input is.

    :param part: its part, None when it is left out.
    :param sketch: 128 bytes for a text, empty for anything else.
    :param media: SHA-256 of the files it consists of, or their references where the digest is unknown.
    """

    part: str | None
    sketch: bytes = b""
    media: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """The assignment of a project's inputs up to one release.

    :param entries: every input ever assigned, by its digest.
    :param assignment: the tasks of this release by part; those left out are in none.
    :param counts: inputs of this release by part, and by reason where they are in none.
    :param added: how many inputs this release is the first to hold.
    """

    project: str
    entries: Mapping[str, Entry]
    assignment: Assignment
    counts: Mapping[str, int]
    added: int

    def lines(self) -> Iterator[bytes]:
        """Return the content of ``splits.jsonl``: a line about the file, then the inputs sorted by digest."""
        yield (
            canonical_json({"layout": _LAYOUT, "project": self.project, "near": EQUAL, "inputs": len(self.entries)})
            + b"\n"
        )
        for digest, entry in sorted(self.entries.items()):
            line = {
                "input": digest,
                "part": entry.part,
                "sketch": base64.b64encode(entry.sketch).decode("ascii"),
                "media": list(entry.media),
            }
            yield canonical_json(line) + b"\n"


def input_digest(project: str, shown: Mapping[str, Any]) -> str:
    """Return the name of an input: SHA-256 over the project and what is shown, without what is asked about it.

    A file counts as the digest of its bytes where that is known, so it may be moved.
    """
    content: dict[str, Any] = {key: shown[key] for key in CONTENT_KEYS if shown.get(key) is not None}
    content.update({key: shown[f"{key}_sha256"] for key in MEDIA_KEYS if key in content and shown.get(f"{key}_sha256")})
    return digest_of(["labelops-input", project, content])


def assign(
    rows: Iterable[Mapping[str, Any]],
    project: str,
    shares: Mapping[str, int],
    previous: Mapping[str, Entry] | None = None,
) -> Split:
    """Assign the inputs of a version.

    The same rows and the same ``previous`` give the same assignment, in whatever order the rows come. Memory grows with
    the number of inputs (about 1 KB each), not with their size.

    :param rows: the version's rows (``task_id``, ``shown``).
    :param shares: percent by part, adding up to 100 (``release.splits`` of the project file).
    :param previous: the entries of the project's last release that was split.
    :raises InvalidInput: when the shares are not a whole.
    """
    if sum(shares.values()) != 100 or not set(shares) <= set(SPLITS) or min(shares.values()) < 1:
        raise InvalidInput(f"splits: found {dict(shares)}; allowed: {', '.join(SPLITS)}, whole percents that make 100")
    earlier = dict(previous or {})
    tasks, found = _inputs(rows, project, earlier)
    nodes = _Nodes(earlier, found)
    nodes.settle(lambda digest: _by_hash(project, digest, shares))
    entries = nodes.entries()
    used = {entry.part for entry in entries.values()}
    parts = tuple(part for part in SPLITS if part in shares or part in used)
    by_task = {task: part for task, digest in tasks.items() if (part := entries[digest].part) is not None}
    return Split(
        project=project,
        entries=entries,
        assignment=Assignment(parts, by_task, {task: STRADDLES for task in tasks if task not in by_task}),
        counts=dict(sorted(Counter(entries[digest].part or STRADDLES for digest in set(tasks.values())).items())),
        added=len(found),
    )


def read_splits(path: StorePath, project: str) -> dict[str, Entry]:
    """Return the entries of a release's ``splits.jsonl``.

    :raises InvalidInput: naming file and line for what is not an assignment of this project.
    """
    entries: dict[str, Entry] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line)
                if number == 1:
                    expected = _check_head(value, project)
                    continue
                sketch = base64.b64decode(value["sketch"], validate=True)
                if len(sketch) not in (0, VALUES) or value["part"] not in (*SPLITS, None):
                    raise ValueError("part or sketch is not one")
                entries[str(value["input"])] = Entry(value["part"], sketch, tuple(map(str, value["media"])))
            except (ValueError, KeyError, TypeError, binascii.Error) as error:
                raise InvalidInput(f"{path}:{number}: not a line of an assignment ({error})") from error
    if not entries and path.stat().st_size == 0:
        raise InvalidInput(f"{path}: is empty; allowed: an assignment")
    if len(entries) != expected:
        raise InvalidInput(f"{path}: found {len(entries)} inputs, its first line says {expected}")
    return entries


def _check_head(value: Mapping[str, Any], project: str) -> int:
    if value["layout"] != _LAYOUT or value["near"] != EQUAL:
        raise ValueError(
            f"layout: found {value['layout']!r} with near {value['near']!r}; allowed: {_LAYOUT!r}, {EQUAL}"
        )
    if value["project"] != project:
        raise ValueError(f"project: found {value['project']!r}; allowed: {project!r}")
    return int(value["inputs"])


def _inputs(
    rows: Iterable[Mapping[str, Any]], project: str, earlier: Mapping[str, Entry]
) -> tuple[dict[str, str], dict[str, Entry]]:
    """Return input by task id, and an entry without a part for each input that is new."""
    tasks: dict[str, str] = {}
    found: dict[str, Entry] = {}
    waiting: dict[str, str] = {}

    def flush() -> None:
        if waiting:
            for digest, sketch in zip(waiting, sketches(list(waiting.values())), strict=True):
                found[digest] = Entry(None, sketch.tobytes())
            waiting.clear()

    for row in rows:
        digest = tasks[row["task_id"]] = input_digest(project, row["shown"])
        if digest in earlier or digest in found or digest in waiting:
            continue
        media = _media(row["shown"])
        if media:
            found[digest] = Entry(None, b"", media)
            continue
        waiting[digest] = _text(row["shown"])
        if len(waiting) == _BATCH:
            flush()
    flush()
    return tasks, found


def _media(shown: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        sorted(str(shown.get(f"{key}_sha256") or shown[key]) for key in MEDIA_KEYS if shown.get(key) is not None)
    )


def _text(shown: Mapping[str, Any]) -> str:
    """Return what is compared of an input without files."""
    parts = [shown[key] for key in CONTENT_KEYS if shown.get(key) is not None]
    return "\n".join(part if isinstance(part, str) else json.dumps(part, sort_keys=True) for part in parts)


def _by_hash(project: str, digest: str, shares: Mapping[str, int]) -> str:
    state = hashlib.sha256(f"labelops-split\0{project}\0{digest}".encode()).digest()
    place = int.from_bytes(state[:8], "big") * 100 >> 64
    for part in SPLITS:
        place -= shares.get(part, 0)
        if place < 0:
            return part
    raise AssertionError("the shares make 100")


class _Nodes:
    """Inputs, numbered in the order of their digests, with a part each once they are settled.

    :param earlier: inputs that are assigned or left out, for ever.
    :param found: inputs that are new.
    """

    def __init__(self, earlier: Mapping[str, Entry], found: Mapping[str, Entry]) -> None:
        self._digests = sorted({**earlier, **found})
        self._entries = [earlier[one] if one in earlier else found[one] for one in self._digests]
        self._new = {place for place, one in enumerate(self._digests) if one not in earlier}
        self._parts: dict[int, str] = {
            place: entry.part for place, entry in enumerate(self._entries) if entry.part is not None
        }
        self._sketches = np.zeros((len(self._entries), VALUES), np.uint8)
        texts = [place for place, entry in enumerate(self._entries) if entry.sketch]
        for place in texts:
            self._sketches[place] = np.frombuffer(self._entries[place].sketch, np.uint8)
        self._texts = np.array(texts, np.int64)

    def settle(self, by_hash: Callable[[str], str]) -> None:
        """Give every new input a part, or none where it is near to two.

        :param by_hash: the part for an input's digest where nothing else decides.
        """
        for members in self._groups():
            fresh = [one for one in members if one in self._new]
            held = {self._parts[one] for one in members if one in self._parts}
            if not fresh:
                continue
            if len(held) > 1:
                self._divide(members, fresh, by_hash)
                continue
            part = held.pop() if held else by_hash(self._digests[fresh[0]])
            self._parts.update(dict.fromkeys(fresh, part))

    def entries(self) -> dict[str, Entry]:
        """Return every input with its part."""
        return {
            digest: replace(entry, part=self._parts.get(place)) if place in self._new else entry
            for place, (digest, entry) in enumerate(zip(self._digests, self._entries, strict=True))
        }

    def _groups(self) -> list[list[int]]:
        """Return the inputs that near-duplicates connect, each group and the groups in the order of the digests."""
        groups = Groups(len(self._entries))
        groups.join_near(self._texts, self._sketches[self._texts])
        first: dict[str, int] = {}
        for place, entry in enumerate(self._entries):
            for file in entry.media:
                groups.join(first.setdefault(file, place), place)
        members: dict[int, list[int]] = {}
        for place in range(len(self._entries)):
            members.setdefault(groups.find(place), []).append(place)
        return list(members.values())

    def _divide(self, members: list[int], fresh: list[int], by_hash: Callable[[str], str]) -> None:
        """Settle new inputs that connect inputs of different parts.

        From the assigned ones outwards: who is near to one part alone joins it, who is near to two is left out. What
        the left-out cut off from all that is assigned is decided as if it were alone.
        """
        beside = {one: self._beside(one, members) for one in fresh}
        settled: set[int] = set()
        waiting = deque(one for one in fresh if any(other in self._parts for other in beside[one]))
        while waiting:
            one = waiting.popleft()
            if one in settled:
                continue
            settled.add(one)
            held = {self._parts[other] for other in beside[one] if other in self._parts}
            if len(held) == 1:
                self._parts[one] = held.pop()
                waiting.extend(other for other in beside[one] if other in self._new and other not in settled)
        for one in fresh:
            if one not in settled:
                island = self._reach(one, beside, settled)
                settled |= island
                self._parts.update(dict.fromkeys(island, by_hash(self._digests[min(island)])))

    def _beside(self, one: int, members: list[int]) -> list[int]:
        """Return the members that an input is near to."""
        entry, others = self._entries[one], np.array(members)
        if entry.media:
            return [other for other in members if other != one and set(entry.media) & set(self._entries[other].media)]
        return [int(other) for other in others[near(self._sketches[one], self._sketches[others])] if other != one]

    def _reach(self, one: int, beside: Mapping[int, list[int]], settled: set[int]) -> set[int]:
        found, waiting = {one}, [one]
        while waiting:
            for other in beside[waiting.pop()]:
                if other in self._new and other not in settled and other not in found:
                    found.add(other)
                    waiting.append(other)
        return found
