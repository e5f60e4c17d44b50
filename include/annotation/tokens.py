"""Splitting a text into the tokens that Prodigy's span interfaces let people click on."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

__all__ = ["tokenize"]

_PIECE = re.compile(r"\w+|\s+|[^\w\s]")
_JOINERS = "\u200c\u200d"


def tokenize(text: str) -> list[dict[str, Any]]:
    """Return Prodigy's token objects for a text: ``text``, ``start``, ``end``, ``id``, ``ws``.

    ``start`` and ``end`` (exclusive) count Unicode code points of the text exactly as given; ``ws`` says that one
    space (U+0020) follows. Any other white space is a token of its own, so every code point is either inside a token
    or is the space after one: ``"".join(t["text"] + " " * t["ws"] for t in tokens)`` is the text again.

    Words and single punctuation marks are the smallest units (``Wi-Fi`` makes three): people can select several
    tokens, but never a part of one. Combining marks and joiners stay with the character they belong to, so no
    written character is ever cut in two.
    """
    tokens: list[dict[str, Any]] = []
    for start, end in _spans(text):
        start = _take_space(tokens, text, start)
        if start < end:
            tokens.append({"text": text[start:end], "start": start, "end": end, "id": len(tokens), "ws": False})
    return tokens


def _take_space(tokens: list[dict[str, Any]], text: str, start: int) -> int:
    """Give one plain space to the token before it; return where the rest begins."""
    if tokens and text[start] == " " and not tokens[-1]["ws"] and not tokens[-1]["text"].isspace():
        tokens[-1]["ws"] = True
        return start + 1
    return start


def _spans(text: str) -> list[tuple[int, int]]:
    spans = [match.span() for match in _PIECE.finditer(text)]
    if text.isascii():
        return spans
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and _belongs_to_previous(text, joined[-1][1], start):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _belongs_to_previous(text: str, boundary: int, start: int) -> bool:
    before, first = text[boundary - 1], text[start]
    if before.isspace() or first.isspace():
        return False
    if _is_mark(first):
        return True
    # A mark in the middle of a word (Devanagari vowel signs, a decomposed accent) does not end the word; a joiner
    # ties whatever comes next.
    return before in _JOINERS or (_is_mark(before) and (first.isalnum() or first == "_") and _in_word(text, boundary))


def _in_word(text: str, boundary: int) -> bool:
    place = boundary - 1
    while place >= 0 and _is_mark(text[place]):
        place -= 1
    return place >= 0 and (text[place].isalnum() or text[place] == "_")


def _is_mark(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character)[0] == "M"
