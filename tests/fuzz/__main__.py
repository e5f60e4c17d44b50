"""``python -m tests.fuzz --seconds 120``: every target for so long, and the seeds whose answer was no error of ours.

``--only <target> --start <seed> --count 1`` reads one input again.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from random import Random

from tests.fuzz import targets, wrong_with


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long for each target")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, help="so many seeds of each, whatever the time")
    parser.add_argument("--only", action="append", help="a target's name; all of them without")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    known = targets()
    failed = 0
    for name in chosen.only or sorted(known):
        until, seed, found = time.monotonic() + chosen.seconds, chosen.start, 0
        while seed - chosen.start < chosen.count if chosen.count else time.monotonic() < until:
            wrong = wrong_with(name, known[name], seed)
            if wrong is not None:
                found += 1
                print(f"{name}, seed {seed}: {wrong}", flush=True)
                if chosen.count == 1:
                    _show(name, seed)
            seed += 1
        print(f"{name}: {seed - chosen.start} inputs, seeds {chosen.start} to {seed - 1}, {found} wrong", flush=True)
        failed += found
    return int(failed > 0)


def _show(name: str, seed: int) -> None:
    try:
        targets()[name](Random(f"{name}:{seed}"))
    except Exception:
        traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
