"""One program for everything that is done in a shell: ``labelops <verb>``.

A verb is a row of :data:`VERBS`. Its module, in this package, has a function ``add_<verb>`` that gives the parser its
arguments and sets ``command``, which takes the options and returns the exit code. Only the module of the verb that was
asked for is imported, so that most of them start without Airflow and without each other's libraries.

Exit codes: 0 all is well, 2 it could not be looked at or done; 1 is the verb's own "no".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from importlib import import_module

from include.base.errors import LabelopsError

__all__ = ["VERBS", "main", "make_parser"]

VERBS = {
    "migrate": ("ledger", "build the ledger's tables, or bring them up to date"),
    "head": ("ledger", "print how far the ledger has come, as JSON"),
    "events": ("ledger", "list who did what, when"),
    "checkpoint": ("ledger", "write the head outside the database"),
    "erase": ("ledger", "remove the raw replies of a person's decisions; the decisions and all proofs stay"),
    "verify": ("verification", "check every hash, every row, and the checkpoints kept outside"),
    "note": ("proofs", "print the newest signed checkpoint, as other transparency-log tools read it"),
    "prove": ("proofs", "write a proof that an event is on the ledger, or that a checkpoint begins another"),
    "check-proof": ("proofs", "check a proof alone: needs neither the ledger nor a secret"),
    "keygen": ("proofs", "make the key that signs checkpoints and releases"),
    "recover": ("recovery", "record that events are lost for good and go on"),
    "ask": ("questions", "answer an auditor's question"),
    "used": ("questions", "record that a model was trained on a dataset version"),
    "diff": ("versions", "compare two versions of a project, record by record"),
    "reproduce": ("reproduction", "make a version again from Prodigy's database and compare it with the one kept"),
    "verify-release": ("release", "check a release folder alone: every file, the approvals, the counts, the signature"),
    "export-answers": ("answers", "write answers from Prodigy's database into a file, as stored or as typed columns"),
    "retention": ("retention", "list what projects keep longer than their class asks, and remove it"),
    "check-model": ("models", "compare a process model with a mapping, and say what a modeller should change"),
    "probe": ("probe", "find out whether the service account could complete a person's task in OpenText"),
}
"""Each verb's module and what it does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = make_parser(given[:1]).parse_args(given)
    try:
        return int(options.command(options))
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has seen enough
        return 0
    except (LabelopsError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def make_parser(whole: Collection[str]) -> argparse.ArgumentParser:
    """Return the parser of all verbs, with the arguments of those named in ``whole``."""
    parser = argparse.ArgumentParser(prog="labelops", description="Annotation operations, in a shell.")
    verbs = parser.add_subparsers(required=True, metavar="verb")
    for verb, (module, words) in VERBS.items():
        added = verbs.add_parser(verb, help=words, description=words)
        if verb in whole:
            getattr(import_module(f"{__name__}.{module}"), f"add_{verb.replace('-', '_')}")(added)
    return parser
