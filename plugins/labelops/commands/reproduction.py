"""``labelops reproduce``: makes a dataset version, and those it rests on, again and compares them with those kept.

The connection comes from the environment (``AIRFLOW_CONN_<ID>``) or a secrets backend; store, projects and register as
for the DAGs. Nothing is written to the store or the database. Exit codes: 0 the same versions came out, 1 one of them
did not, 2 it is not known.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from include.base.canonical import canonical_json
from include.base.store import atomic_file
from include.datasets.diff_report import plain_text
from include.datasets.manifest import find_version
from include.datasets.reproduce import Reproduction
from include.people.register import Register
from include.projects.load import load_project
from include.releases.reproduction import reproduce_version
from include.settings import settings

__all__ = ["add_reproduce"]


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``reproduce``."""
    parser.add_argument("conn_id", help="connection to Prodigy's database")
    parser.add_argument("project", help="the labelling project")
    parser.add_argument("version", help="digest of the version, or its beginning")
    parser.add_argument("--findings", metavar="FILE", type=Path, help="write every finding to FILE, one JSON a line")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each version")
    parser.set_defaults(command=_reproduce)


def _reproduce(options: argparse.Namespace) -> int:
    same = True
    for found in _made_again(options):
        same &= found.reproduced
        if options.json:
            sys.stdout.write(json.dumps(found.as_json(), ensure_ascii=False) + "\n")
            continue
        sys.stdout.write(f"{found.sentence}\n")
        for one in found.findings:
            sys.stdout.write(f"{one.kind}: {one.subject}: {one.detail}\n")
        if found.difference is not None:
            sys.stdout.write(f"\n{plain_text(found.difference)}\n")
    return 0 if same else 1


def _made_again(options: argparse.Namespace) -> Iterator[Reproduction]:
    from labelops.hooks.prodigy import ProdigyHook
    from labelops.runtime import open_store

    chosen = settings()
    store = open_store(chosen)
    with nullcontext(None) if options.findings is None else atomic_file(options.findings) as out:
        yield from reproduce_version(
            store,
            load_project(chosen.projects, options.project),
            Register.load(chosen.register),
            find_version(store, options.project, options.version),
            ProdigyHook(options.conn_id).get_conn(),
            sink=None if out is None else lambda one: out.write(canonical_json(one.as_json()) + b"\n"),
        )
