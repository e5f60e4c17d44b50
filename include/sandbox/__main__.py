"""``python -m include.sandbox demo|up|down``: what ``make`` calls."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from include.sandbox.demo import Demo
from include.settings import ROOT


def main() -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m include.sandbox", description=__doc__)
    parser.add_argument("command", choices=["demo", "up", "down"])
    parser.add_argument("--quiet", action="store_true", help="say nothing when there is nothing to stop")
    chosen = parser.parse_args()
    home = Path(os.environ.get("LABELOPS_HOME") or ROOT / ".labelops")
    os.environ.setdefault("MPLCONFIGDIR", str(home / "matplotlib"))  # else matplotlib writes into the user's home
    demo = Demo(home, say=lambda line: print(line, flush=True))
    if chosen.command == "down":
        stopped = demo.down()
        if stopped or not chosen.quiet:
            print(f"Stopped: {', '.join(stopped)}" if stopped else "Nothing was running.")
        return 0
    return demo.run(stay=chosen.command == "up")


if __name__ == "__main__":
    sys.exit(main())
