"""Dataset versions on the command line.

    python -m include.datasets diff PROJECT OLD NEW [--store DIR] [--json] [--changes FILE] [--full]

Exit codes, as those of ``diff``: 0 nothing differs, 1 something does, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from include.base.errors import InvalidInput, LabelopsError
from include.base.store import Store, atomic_file
from include.datasets.diff import diff
from include.datasets.diff_report import markdown, plain_text
from include.datasets.manifest import find_version
from include.settings import settings

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except LabelopsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has seen enough
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.datasets", description="Dataset versions in the store.")
    commands = parser.add_subparsers(required=True, metavar="command")
    words = "compare two versions of a project, record by record"
    command = commands.add_parser("diff", help=words, description=words)
    command.add_argument("project", help="the labelling project")
    command.add_argument("old", help="digest of the older version, or its beginning")
    command.add_argument("new", help="digest of the newer version, or its beginning")
    command.add_argument("--store", metavar="DIR", help="the store's folder (default: LABELOPS_STORE)")
    command.add_argument(
        "--changes", metavar="FILE", type=Path, help="write every change to FILE, a JSON object a line"
    )
    command.add_argument("--samples", metavar="N", type=int, default=10, help="changes of each kind in the report")
    command.add_argument("--full", action="store_true", help="put what the annotators saw into report and changes")
    shape = command.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print one JSON object")
    shape.add_argument("--markdown", action="store_true", help="print Markdown")
    command.set_defaults(command=_diff)
    return parser


def _diff(options: argparse.Namespace) -> int:
    store = _store(options.store)
    old, new = (find_version(store, options.project, prefix) for prefix in (options.old, options.new))
    with nullcontext(None) if options.changes is None else atomic_file(options.changes) as out:
        found = diff(
            store,
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


def _store(place: str | None) -> Store:
    place = place or settings().store
    if "://" in place:
        raise InvalidInput(f"{place} is no folder: name a copy of the store with --store")
    return Store(Path(place))


if __name__ == "__main__":
    raise SystemExit(main())
