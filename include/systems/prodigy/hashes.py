"""Prodigy's two hashes, for the tasks that we create.

The rule was worked out from public exports and is pinned by test vectors. Three things about it matter here:

* Hashes are 32 bits, so they never decide whether two records are the same (:mod:`include.annotation.tasks` does).
* The task hash of a finished row usually cannot be computed again, for spans, options and tokens were added after
  hashing. Stored hashes are therefore kept as they are, always.
* What Prodigy does with two input keys at once, or with a task that has none (audio, video), rests on no public
  data; here the keys are joined in order, and a task without one is hashed whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import mmh3

__all__ = ["IGNORE_KEYS", "INPUT_KEYS", "TASK_KEYS", "input_hash", "set_hashes", "task_hash"]

INPUT_KEYS = ("text", "image", "html", "input")
"""What makes an input, in the order in which it is hashed."""

TASK_KEYS = ("spans", "label", "options", "arcs")
"""What makes a question about an input, in the order in which it is hashed."""

IGNORE_KEYS = frozenset(
    {
        "score",
        "rank",
        "model",
        "source",
        "pattern",
        "priority",
        "path",
        "_view_id",
        "_session_id",
        "_annotator_id",
        "answer",
    }
)
"""What never counts, at any depth of the task."""


def input_hash(task: Mapping[str, Any], *, keys: Sequence[str] = INPUT_KEYS) -> int:
    """Return the signed 32-bit hash of a task's input.

    :param keys: the keys that make the input; recipes may choose their own.
    """
    return _digest(task, "", keys)


def task_hash(task: Mapping[str, Any], *, keys: Sequence[str] = TASK_KEYS) -> int:
    """Return the signed 32-bit hash of a task, which must carry its ``_input_hash``.

    Without any of ``keys`` the whole task counts, ``_input_hash`` and ``meta`` included.

    :raises KeyError: when there is no ``_input_hash``.
    """
    return _digest(task, str(task["_input_hash"]), keys)


def set_hashes(task: Mapping[str, Any], overwrite: bool = False) -> dict[str, Any]:
    """Return a copy of ``task`` that carries ``_input_hash`` and ``_task_hash``.

    :param overwrite: compute hashes that are there already anew, instead of keeping them.
    """
    hashed = dict(task)
    if overwrite:
        hashed.pop("_input_hash", None)
        hashed.pop("_task_hash", None)
    if hashed.get("_input_hash") is None:
        hashed.pop("_input_hash", None)
        hashed["_input_hash"] = input_hash(hashed)
    if hashed.get("_task_hash") is None:
        hashed.pop("_task_hash", None)
        hashed["_task_hash"] = task_hash(hashed)
    return hashed


def _digest(task: Mapping[str, Any], prefix: str, keys: Sequence[str]) -> int:
    # Presence decides, not truth: an empty list of spans is hashed too.
    parts = [
        f"{key}={_serialise(_without_ignored(task[key]))}" for key in keys if key in task and key not in IGNORE_KEYS
    ]
    body = "".join(parts) if parts else _serialise(_without_ignored(task))
    return mmh3.hash((prefix + body).encode("utf-8"), 0, signed=True)


def _without_ignored(value: Any) -> Any:
    if type(value) is str:
        return value
    if isinstance(value, Mapping):
        return {key: _without_ignored(inner) for key, inner in value.items() if key not in IGNORE_KEYS}
    if isinstance(value, (list, tuple)):
        return [_without_ignored(inner) for inner in value]
    return value


_serialise = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
