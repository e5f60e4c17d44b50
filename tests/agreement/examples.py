"""Ratings that others published, with the digits they printed."""

from __future__ import annotations

from typing import Any

import numpy as np

from include.agreement.patterns import Codes


def encode(rows: list[list[Any]], values: list[Any] | None = None) -> tuple[Codes, list[Any]]:
    """Return codes units × annotators of columns that name each annotator's ratings; None is missing."""
    seen = sorted({one for row in rows for one in row if one is not None}) if values is None else values
    return np.array(
        [[-1 if one is None else seen.index(one) for one in unit] for unit in zip(*rows, strict=True)]
    ), seen


def _digits(text: str, missing: str = ".") -> list[int | None]:
    return [None if one == missing else int(one) for one in text.replace(" ", "")]


KRIPPENDORFF_D = [
    _digits("1 2 3 3 2 1 4 1 2 . . ."),
    _digits("1 2 3 3 2 2 4 1 2 5 . 3"),
    _digits(". 3 3 3 2 3 4 2 2 5 1 ."),
    _digits("1 2 3 3 2 4 4 1 2 5 1 ."),
]
"""Krippendorff 2011, sec. D."""

_HAYES = """
112.2 1101. 2333. .00.0 000.0 000.0 102.1 1.20. 222.2 2111.
.100. 0000. 1222. 33223 111.1 111.1 212.2 1233. 1101. 000.0
0011. 00.00 2333. 0000. 12.22 0111. 00010 1212. 1122. 112.2
110.0 2121. 22.22 3222. 222.2 223.2 222.2 22.12 2222. 111.1
"""
HAYES = [list(one) for one in zip(*(_digits(unit) for unit in _HAYES.split()), strict=True)]
"""Hayes & Krippendorff 2007."""

BINARY = [_digits("0100000010"), _digits("1110010000")]
NOMINAL: list[list[Any]] = [list("aabbdcccedda"), list("babbbccceddd")]
"""Krippendorff 2011, sec. A and B."""

ENCYCLOPAEDIA = [_digits(one, "*") for one in ("*****34121133*3", "1*213343*******", "**21344*21133*4")]

_FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)
FLEISS = np.array([np.repeat(range(5), counts) for counts in _FLEISS])
"""Fleiss 1971: how many of 14 chose each category; the columns are no annotators."""

ABSTRACTORS = [[13, 0, 0], [0, 20, 7], [0, 4, 56]]
DIAGNOSIS = [[40, 4, 4, 17], [6, 25, 2, 13], [4, 1, 21, 12], [15, 5, 9, 45]]


def from_table(table: list[list[int]]) -> Codes:
    """Return the ratings of two annotators that a table of their categories counts."""
    return np.array(
        [[row, column] for row, counts in enumerate(table) for column, count in enumerate(counts) for _ in range(count)]
    )


_DAWID = """
1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223
2322223 4444444 2223343 1111111 2223212 1211111 1112111 1111111 1111111
2222221 2221322 2222222 2222221 2223222 2212222 1111111 1111111 2322222
1111111 1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343
2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222
"""
DAWID = np.array([[int(one) - 1 for one in patient] for patient in _DAWID.split()])
"""Dawid & Skene 1979, table 1: 45 patients; columns 0-2 are observer 1, then observers 2 to 5."""
