"""Reading the files of a version, an object a line: the bytes that are read are held against those that were frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from include.base.errors import InvalidInput
from include.base.store import StorePath

__all__ = ["frozen_lines"]


def frozen_lines(place: StorePath, sha256: str | None = None) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the lines of a file with the objects that they hold.

    :param sha256: of the whole file, as it was frozen; held against the bytes that were read at their end.
    :raises InvalidInput: naming file and line for one that is not a JSON object; at the end, for other bytes.
    """
    if not place.exists():
        raise InvalidInput(f"{place}: is not there")
    state = hashlib.sha256()
    with place.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            state.update(line)
            try:
                value = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise InvalidInput(f"{place}:{number}: not JSON ({error})") from error
            if not isinstance(value, dict):
                raise InvalidInput(f"{place}:{number}: found {type(value).__name__}; allowed: an object")
            yield line, value
    if sha256 is not None and state.hexdigest() != sha256:
        raise InvalidInput(
            f"{place}: the bytes that were read have the SHA-256 {state.hexdigest()}, and {sha256} was frozen"
        )
