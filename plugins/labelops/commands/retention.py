"""``labelops retention``: what projects keep longer than their class asks, removed in a person's name.

Without ``--apply`` it only looks. Ledger, store and register as for the DAGs. Exit codes: 0 done, 2 it could not be.
"""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from include.base.errors import InvalidInput
from include.governance.checkpoint import require_not_behind
from include.governance.ledger import Ledger
from include.people.register import Register
from include.projects.load import BadProject, load_projects
from include.releases import retention
from include.run.run import Run, RunRef
from include.settings import settings

__all__ = ["add_retention"]


def add_retention(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``retention``."""
    parser.add_argument("--project", action="append", metavar="NAME", help="only this project; may be repeated")
    parser.add_argument("--apply", action="store_true", help="remove it")
    parser.add_argument("--person", metavar="ID", help="with --apply: who decides, an id of the register")
    parser.add_argument("--reason", default="", metavar="WORDS", help="with --apply: why")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.set_defaults(command=_retention)


def _retention(options: argparse.Namespace) -> int:
    ledger = Ledger(settings().ledger_url)
    try:
        return _run(ledger, options)
    finally:
        ledger.close()


def _run(ledger: Ledger, options: argparse.Namespace) -> int:
    from labelops.runtime import location, open_store

    chosen = settings()
    if options.apply and (not options.person or len(options.project or ()) != 1):
        raise InvalidInput("--apply needs --person, --reason and exactly one --project")
    store = open_store(chosen)
    require_not_behind(ledger, store)
    ref = RunRef("shell", f"retention__{datetime.now(UTC):%Y%m%dT%H%M%S}", triggered_by=getpass.getuser())
    run = Run(
        store=store,
        ledger=ledger,
        register=Register.load(chosen.register),
        ref=ref,
        staging=store.at("staging", "shell"),
        locate=location,
        log=logging.getLogger("labelops"),
    )
    bad = 0
    for project in load_projects(chosen.projects, options.project):
        if isinstance(project, BadProject):
            sys.stderr.write(f"{project.name}: {project.reason}\n")
            bad = 2
        elif options.apply:
            _tell(
                project,
                retention.apply(run, project, person=options.person, reason=options.reason),
                "removed",
                options,
            )
        else:
            _tell(project, list(retention.due(run, project)), "due", options)
    return bad


def _tell(project: Any, found: list[retention.Due], what: str, options: argparse.Namespace) -> None:
    hold = project.retention.legal_hold
    for one in found:
        since = one.since.isoformat(timespec="seconds")
        if options.json:
            line = {"project": project.name, "kind": one.kind, "name": one.name, "since": since, what: True}
            sys.stdout.write(json.dumps(line) + "\n")
        else:
            sys.stdout.write(f"{project.name}  {one.kind:<10}  {one.name}  since {since}\n")
    if not options.json:
        held = f"; legal hold: {hold}" if hold else ""
        sys.stdout.write(f"{project.name} (class {project.retention.name}{held}): {len(found)} {what}.\n")
