"""Where rejects wait, with their reasons.

A report points at the source file and line, which is where a person corrects the record. The scan knows a file by
its digest, so the corrected file is new and is read again as a whole; records that were fine are the same
tasks again and add nothing. Content is in a report only as far as the project's ``quarantine_exposure`` allows.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from include.base.canonical import SHORT, canonical_json
from include.base.disk import writing_scratch
from include.base.store import Store, StorePath, atomic_file
from include.projects.model import Exposure, Project

__all__ = ["EXCERPT", "allowed", "excerpt", "put"]

EXCERPT = 2000
"""How many characters of a masked record are kept."""


def put(store: Store, project: Project, use_case: str, entries: Iterable[Mapping[str, Any]], run: str) -> StorePath:
    """Keep rejects as JSON Lines under ``quarantine/<project>/<use case>/<digest12>.jsonl`` and return the path.

    The name is the digest of the entries alone: the same rejects found again by another run write nothing. The first
    line says which run found them first.

    :param entries: ``file``, ``line``, ``reason``, and where known ``record`` (its id), ``sha256``, ``sources`` and
        ``content`` (text, kept as :func:`excerpt` allows).
    """
    state = hashlib.sha256()
    count = 0
    with writing_scratch(), tempfile.TemporaryFile() as spool:
        for entry in entries:
            line = canonical_json(allowed(entry, project.policy.quarantine_exposure)) + b"\n"
            state.update(line)
            spool.write(line)
            count += 1
        digest = state.hexdigest()
        path = store.at("quarantine", project.name, use_case, f"{digest[:SHORT]}.jsonl")
        if path.exists():
            return path
        spool.seek(0)
        with atomic_file(path) as out:
            head = {"schema": 1, "project": project.name, "use_case": use_case, "run": run, "entries": count}
            out.write(canonical_json({**head, "digest": digest}) + b"\n")
            while block := spool.read(1 << 20):
                out.write(block)
    return path


def allowed(entry: Mapping[str, Any], exposure: Exposure) -> dict[str, Any]:
    """Return what may be kept of a reject: the one place that decides so.

    A ``reason`` never quotes what is set aside, so it may always be told; what was found is ``content``. Where nothing
    of a record may be seen, its ``record`` id is none of ours to tell either, in the entry or in its ``sources``.
    """
    kept = {name: value for name, value in entry.items() if name != "content" and value is not None}
    if exposure is Exposure.NONE:
        kept.pop("record", None)
        if isinstance(kept.get("sources"), list):
            sources = [one for one in kept["sources"] if isinstance(one, Mapping)]
            kept["sources"] = [{name: one[name] for name in one if name != "record"} for one in sources]
    content = entry.get("content")
    shown = excerpt(content, exposure) if isinstance(content, str) else None
    return kept if shown is None else {**kept, "content": shown}


def excerpt(content: str, exposure: Exposure) -> str | None:
    """Return what may be kept of a record: nothing, its shape, or all of it.

    The shape is spaces and ASCII punctuation as they are, digits as ``0``, and anything else as ``x``: an accent or a
    vowel sign that stands beside its letter is part of a word.
    """
    if exposure is Exposure.FULL:
        return content
    if exposure is Exposure.MASKED:
        return re.sub(r"[a-zA-Z]|[^\x00-\x7f]", "x", re.sub(r"\d", "0", content[:EXCERPT]))
    return None
