"""Numbers that are not whole, as text that is the same everywhere: what is digested holds no fractions."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite

from include.base.errors import InvalidInput

__all__ = ["number_text"]


def number_text(value: int | float) -> str:
    """Return a number in plain decimal digits: ``12.5`` → ``12.5``, ``12.0`` → ``12``, ``1e-07`` → ``0.0000001``.

    Of a fraction these are the fewest digits from which ``float`` reads the same number back (Python's ``repr``, and
    ECMAScript's, which Prodigy's page writes with), without an exponent. Zero has no sign.

    :raises InvalidInput: for what is no number, and for one that is not finite or larger than a float can be.
    """
    if type(value) is int:
        if abs(value) > 2**1023:
            raise InvalidInput("found a whole number of more than 1,023 bits; allowed: what a float can hold")
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(f"found {value!r:.60}; allowed: a number")
    if not isfinite(value):
        raise InvalidInput(f"found {value!r}; allowed: a number that is finite")
    text = repr(float(value))
    if "e" in text:
        text = format(Decimal(text), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
