"""The stamp that our recipe puts on an answer: which release of guideline and labels was on the screen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from include.base.canonical import digest_of
from include.base.errors import InvalidInput

__all__ = ["Served", "labels_digest"]

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def labels_digest(labels: Sequence[str]) -> str:
    """Return the SHA-256 over the canonical JSON of a list of labels, in the order in which they are shown."""
    return digest_of(list(labels))


@dataclass(frozen=True)
class Served:
    """What the process that served the task had loaded; all but the round may be unknown.

    :param guideline: digest of the guideline's release.
    :param guideline_number: its number.
    :param labels_digest: see :func:`labels_digest`.
    :param round: first labelling is 1, each rework adds one.
    """

    guideline: str | None = None
    guideline_number: int | None = None
    labels_digest: str | None = None
    round: int = 1

    def as_json(self) -> dict[str, Any]:
        """Return the stamp as it is kept under ``labelops.served``."""
        return {
            "guideline": self.guideline,
            "guideline_number": self.guideline_number,
            "labels_digest": self.labels_digest,
            "round": self.round,
        }

    @classmethod
    def read(cls, labelops: Mapping[str, Any], where: str) -> Served:
        """Return the stamp inside a row's ``labelops`` object; an empty one where there is none.

        :param where: the row, as error messages name it.
        :raises InvalidInput: for a stamp that our recipe could not have written.
        """
        stamp = labelops.get("served")
        if stamp is None:
            return cls()
        if not isinstance(stamp, Mapping):
            raise InvalidInput(f"{where}: labelops.served: found {type(stamp).__name__}; allowed: an object")
        found = (
            *(stamp.get("guideline"), stamp.get("guideline_number")),
            *(stamp.get("labels_digest"), stamp.get("round")),
        )
        try:
            try:
                return _remembered(*found)
            except TypeError:  # a list or an object, which no cache can look up
                return _checked(*found)
        except InvalidInput as error:
            raise InvalidInput(f"{where}: labelops.served.{error}") from None


def _checked(guideline: Any, number: Any, labels: Any, round_: Any) -> Served:
    for name, found in (("guideline", guideline), ("labels_digest", labels)):
        if found is not None and not (isinstance(found, str) and _DIGEST.match(found)):
            raise InvalidInput(f"{name}: found {found!r:.90}; allowed: null or a SHA-256 in hex")
    if number is not None and not _is_count(number):
        raise InvalidInput(f"guideline_number: found {number!r:.40}; allowed: null or a whole number from 1")
    if round_ is not None and not _is_count(round_):
        raise InvalidInput(f"round: found {round_!r:.40}; allowed: a whole number from 1")
    return Served(guideline, number, labels, 1 if round_ is None else round_)


_remembered = lru_cache(maxsize=256, typed=True)(_checked)
"""The answers of weeks carry a handful of stamps. Typed: to a cache, ``True`` and ``1.0`` are the round 1."""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
