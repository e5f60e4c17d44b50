"""``labelops diff``: what changed between two versions of a project, record by record.

Exit codes, as those of ``diff``: 0 nothing differs, 1 something does, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path

from include.base.store import atomic_file
from include.datasets.diff import diff
from include.datasets.diff_report import markdown, plain_text
from include.datasets.manifest import find_version
from labelops.commands.places import add_store, store

__all__ = ["add_diff"]


def add_diff(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``diff``."""
    parser.add_argument("project", help="the labelling project")
    parser.add_argument("old", help="digest of the older version, or its beginning")
    parser.add_argument("new", help="digest of the newer version, or its beginning")
    add_store(parser)
    changes = "write every change to FILE, a JSON object a line"
    parser.add_argument("--changes", metavar="FILE", type=Path, help=changes)
    parser.add_argument("--samples", metavar="N", type=int, default=10, help="changes of each kind in the report")
    parser.add_argument("--full", action="store_true", help="put what the annotators saw into report and changes")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print one JSON object")
    shape.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.set_defaults(command=_diff)


def _diff(options: argparse.Namespace) -> int:
    kept = store(options)
    old, new = (find_version(kept, options.project, prefix) for prefix in (options.old, options.new))
    with nullcontext(None) if options.changes is None else atomic_file(options.changes) as out:
        found = diff(
            kept,
            options.project,
            old,
            new,
            samples=options.samples,
            full=options.full,
            sink=None if out is None else lambda change: out.write(change.line()),
        )
    if options.json:
        sys.stdout.write(json.dumps(found.as_json(), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write((markdown(found) if options.markdown else plain_text(found)) + "\n")
    return 1 if found.changed or found.manifest else 0
