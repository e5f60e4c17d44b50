"""``python -m tests.faults --seeds 200``: many schedules, a table of what each fault came to, the seeds that failed.

``--seed 123 -v`` lives through one of them again and shows its event log.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from threading import Thread

import tests.airflow_home  # first: it says where Airflow's home is

warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*")

from tests.faults.play import OUTCOMES, Outcome, Theatre  # noqa: E402


def run(seeds: range, jobs: int) -> list[Outcome]:
    """Live through seeds, in several processes if asked, each with its own servers.

    An interruption ends it with what is done.
    """
    outcomes: list[Outcome] = []
    if jobs > 1:
        begun: list[subprocess.Popen[str]] = []
        workers = [Thread(target=_elsewhere, args=(seeds[at::jobs], outcomes, begun)) for at in range(jobs)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except KeyboardInterrupt:
            for one in begun:
                one.send_signal(signal.SIGINT)
            for worker in workers:
                worker.join()
        return outcomes
    theatre = Theatre()
    try:
        for seed in seeds:
            outcomes.append(theatre.play(seed))
            _say(outcomes[-1])
    except KeyboardInterrupt:
        print(f"stopped at seed {seed}", flush=True)
    finally:
        theatre.close()
    return outcomes


def _elsewhere(seeds: range, outcomes: list[Outcome], begun: list[subprocess.Popen[str]]) -> None:
    """Live through seeds in a process of their own."""
    command = [sys.executable, "-m", "tests.faults", "--json", "--start", str(seeds.start), "--seeds", str(len(seeds))]
    worker = subprocess.Popen([*command, "--stride", str(seeds.step)], stdout=subprocess.PIPE, text=True)
    begun.append(worker)
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.startswith("{"):
            outcomes.append(Outcome(**json.loads(line)))
            _say(outcomes[-1])
    if worker.wait() not in (0, 1):
        outcomes.append(Outcome(seeds.start, "", violations=[f"a process ended with {worker.returncode}"]))


def _say(one: Outcome) -> None:
    if one.violations:
        print(f"seed {one.seed}: VIOLATION ({one.seconds:.1f} s)", *one.violations, sep="\n    ", flush=True)


def table(outcomes: list[Outcome]) -> str:
    """Return fault × outcome, with counts."""
    counts: Counter[tuple[str, str]] = Counter()
    for one in outcomes:
        for kind, came_to in one.faults:
            counts[kind, "VIOLATION" if one.violations else came_to] += 1
    kinds = sorted({kind for kind, _ in counts})
    lines = ["| fault | " + " | ".join(OUTCOMES) + " |", "|---" * (len(OUTCOMES) + 1) + "|"]
    for kind in kinds:
        lines.append(f"| {kind} | " + " | ".join(str(counts[kind, name]) for name in OUTCOMES) + " |")
    totals = [sum(counts[kind, name] for kind in kinds) for name in OUTCOMES]
    lines.append("| **all** | " + " | ".join(f"**{number}**" for number in totals) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run; return 0 when no seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many schedules")
    parser.add_argument("--start", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with its own servers")
    parser.add_argument("--seed", type=int, help="live through this one only")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="with --seed: its event log and all that was logged"
    )
    parser.add_argument("--stride", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    seeds = range(given.start, given.start + given.seeds * given.stride, given.stride)
    if given.json:
        return _for_another(seeds)
    started = time.perf_counter()
    if given.seed is not None:
        theatre = Theatre()
        outcome = theatre.play(given.seed, tell=print if given.verbose else None)
        theatre.close()
        outcomes = [outcome]
        _say(outcome)
    else:
        outcomes = run(seeds, given.jobs)
    seconds = time.perf_counter() - started
    failed = sorted(one.seed for one in outcomes if one.violations)
    print(table(outcomes))
    spent = sum(one.seconds for one in outcomes)
    print(f"\n{len(outcomes)} seeds in {seconds:.0f} s, {spent / len(outcomes):.2f} s each; {len(failed)} failed.")
    if failed:
        print("Failed:", *failed)
        print("Replay one: python -m tests.faults --seed", failed[0], "-v")
    return 1 if failed else 0


def _for_another(seeds: range) -> int:
    """Live through seeds and write each outcome as a line of JSON."""
    theatre, started = Theatre(), time.perf_counter()
    bad = 0
    with suppress(KeyboardInterrupt):
        for seed in seeds:
            outcome = theatre.play(seed)
            bad += bool(outcome.violations)
            if outcome.seed % 100 == 0:
                print(f"seed {outcome.seed} after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            outcome.log = []
            print(json.dumps(asdict(outcome)), flush=True)
    theatre.close()
    return int(bad > 0)


if __name__ == "__main__":
    code = 2
    try:
        code = main()
    finally:
        shutil.rmtree(tests.airflow_home.HOME, ignore_errors=True)
    sys.stdout.flush()
    os._exit(code)
