"""Readers and replies under inputs that a seed makes: each gives a value, or an error of ours.

A module of this folder has ``TARGETS``: by name, a function that takes a :class:`random.Random`, makes one input of it
and reads it. ``tests/fuzz/test_fuzz.py`` does each some times; ``make fuzz`` does so for as long as it is told.
"""

from __future__ import annotations

import pkgutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from random import Random

from include.base.errors import LabelopsError

Target = Callable[[Random], object]

LONGEST = 20
"""Seconds after which one input has taken too long."""


def targets() -> dict[str, Target]:
    """Return the targets of all modules, by name."""
    found: dict[str, Target] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith(("_", "test_")):
            found |= import_module(f"tests.fuzz.{module.name}").TARGETS
    return found


def wrong_with(name: str, target: Target, seed: int) -> str | None:
    """Return what is wrong with the answer to one input, None where nothing is."""
    try:
        with no_longer_than(LONGEST):
            target(Random(f"{name}:{seed}"))
    except LabelopsError:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return None


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Raise in a block that has not ended by then."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
