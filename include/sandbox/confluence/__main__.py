"""Run the local Confluence: ``python -m include.sandbox.confluence --port 8090 --state DIR [--users FILE.json]``."""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import threading
from pathlib import Path

from include.sandbox.confluence import ConfluenceStandIn, DataCenterStandIn, SandboxUser
from include.sandbox.http import Server


def main() -> None:
    """Serve until interrupted or terminated."""
    parser = argparse.ArgumentParser(prog="python -m include.sandbox.confluence", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder of the database; survives a restart")
    parser.add_argument("--users", type=Path, help="JSON list of account_id, name, email, token")
    parser.add_argument("--flavour", choices=("cloud", "datacenter"), default="cloud")
    parser.add_argument("--context", default="/confluence", help="context path of a Data Center; may be empty")
    arguments = parser.parse_args()
    users = []
    if arguments.users:
        users = [SandboxUser(**entry) for entry in json.loads(arguments.users.read_text("utf-8"))]
    stand_in: ConfluenceStandIn
    if arguments.flavour == "datacenter":
        stand_in = DataCenterStandIn(arguments.state, users, context=arguments.context)
    else:
        stand_in = ConfluenceStandIn(arguments.state, users)
    if not stand_in.has_users():
        user = SandboxUser("sandbox-service", "Labelops service", "service@labelops.example", secrets.token_urlsafe(16))
        stand_in.add_user(user)
        print(f"No users given: sign in as {user.email} with token {user.token}", flush=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Server(stand_in.app, arguments.port) as server:
        print(f"{server.url}{stand_in.context}", flush=True)
        stop.wait()
    stand_in.close()


if __name__ == "__main__":
    main()
