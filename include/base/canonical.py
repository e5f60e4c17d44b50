"""One spelling for every value that is digested, so that equal content has equal bytes everywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

__all__ = ["SHORT", "canonical_json", "canonical_text", "digest_of", "effect_key", "sha256_hex"]

SHORT = 12
"""How many hex characters of a digest are shown to people, and repeated by them as evidence (48 bits)."""


def canonical_json(value: Any) -> bytes:
    """Return ``value`` as canonical JSON: UTF-8, keys sorted, no spaces.

    :raises TypeError: for a float, whose text is not the same on every platform, and for anything JSON cannot hold.
    """
    if _refuse_floats(value):
        import orjson  # not at the top: parsing a DAG file comes here too

        try:
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            # A number above 64 bits, or half of a surrogate pair: json writes the one and names the other.
            pass
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def canonical_text(value: Any) -> str:
    """Return :func:`canonical_json` as text, for a column or a log line."""
    return canonical_json(value).decode("utf-8")


def sha256_hex(content: bytes | Iterable[bytes]) -> str:
    """Return the SHA-256 of some bytes, or of a stream of them, as 64 lower-case hex characters."""
    if isinstance(content, (bytes, bytearray, memoryview)):
        return hashlib.sha256(content).hexdigest()
    state = hashlib.sha256()
    for piece in content:
        state.update(piece)
    return state.hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of ``value``'s canonical JSON."""
    return sha256_hex(canonical_json(value))


def effect_key(use_case: str, project: str, subject: str, digest: str, attempt: int = 1) -> str:
    """Name one outside effect, so that it can be looked up before it is made (64 hex characters)."""
    return digest_of([use_case, project, subject, digest, attempt])


_SCALARS = (str, int, bool, type(None))


def _refuse_floats(value: Any) -> bool:
    """Tell whether a value is made of JSON's own types alone, for which orjson writes the same bytes as json."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if isinstance(value, float):
        raise TypeError(f"a digested value holds the float {value!r}: write it as a string or an integer")
    if isinstance(value, dict):
        plain = kind is dict
        for key, inner in value.items():
            if type(key) is not str:
                if not isinstance(key, str):
                    raise TypeError(f"a digested object has the key {key!r}: keys are strings")
                plain = False
            plain &= _refuse_floats(inner)
        return plain
    if isinstance(value, (list, tuple)):
        plain = kind is list or kind is tuple
        for inner in value:
            plain &= _refuse_floats(inner)
        return plain
    return False
