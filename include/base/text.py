"""Text of a file or a ledger on somebody's terminal."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Keep text from starting a line of its own or from steering the terminal."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
