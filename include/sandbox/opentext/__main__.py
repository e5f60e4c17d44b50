"""Run the stand-in: ``python -m include.sandbox.opentext --port 8082 --state DIR [--users FILE]``.

The users file is JSON, ``{"users": [{"email", "name", "password", "groups"}], "clients": [{"id", "secret"}]}``. Without
one there are no people, and one client whose id and secret are ``labelops-service`` and ``sandbox``.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path

from include.sandbox.http import Server
from include.sandbox.opentext.standin import OpenTextStandIn

_CLIENT = {"id": "labelops-service", "secret": "sandbox"}


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="A local OpenText Workflow Service.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder that the state is kept in")
    parser.add_argument("--users", type=Path, help="JSON file with users and clients")
    parser.add_argument("--history-lag", type=float, default=0, help="seconds that history is behind")
    parser.add_argument("--token-seconds", type=float, default=3600)
    chosen = parser.parse_args()
    people = json.loads(chosen.users.read_text("utf-8")) if chosen.users else {}
    standin = OpenTextStandIn(
        chosen.state,
        users=people.get("users", ()),
        clients=people.get("clients") or [_CLIENT],
        history_lag_seconds=chosen.history_lag,
        token_seconds=chosen.token_seconds,
    )
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with Server(standin.app, chosen.port) as server:
        print(f"OpenText stand-in on {server.url}", flush=True)
        # Timers fire though nobody asks.
        while not done.wait(1.0):
            standin.tick()
    standin.close()


if __name__ == "__main__":
    main()
