"""``labelops verify``: whether the ledger is what was written, and with ``--all`` whatever it names in the store.

Exit codes: 0 it is, 1 it is not, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from include.base.canonical import SHORT
from include.base.errors import InvalidInput
from include.base.text import printable
from include.governance import tables
from include.governance.ledger import Ledger
from include.governance.verify import Verification, verify_with
from include.questions import Records, unsound
from include.questions.soundness import Unsound
from labelops.commands.places import add_public_keys, add_store, on_ledger, public_keys, read_text, store_or_none

__all__ = ["add_verify"]


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``verify``."""
    on_ledger(parser, _verify)
    add_store(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_public_keys(parser)
    parser.add_argument("--all", action="store_true", help="open all that the ledger names in the store too")
    kept = "compare with a signed checkpoint that was kept elsewhere, as on the report page; may be repeated"
    parser.add_argument("--note", type=Path, action="append", default=[], metavar="FILE", help=kept)


def _verify(ledger: Ledger, options: argparse.Namespace) -> int:
    kept = store_or_none(options)
    notes = {str(path): read_text(path) for path in options.note}
    outcome = verify_with(ledger, kept, trusted=public_keys(options), notes=notes)
    if options.all and kept is None:
        raise InvalidInput("--all opens what the ledger names in the store: name it with --store, or LABELOPS_STORE")
    found = list(unsound(Records(ledger, kept))) if options.all and kept is not None else []
    if options.json:
        told = {"unsound": [asdict(one) for one in found]} if options.all else {}
        sys.stdout.write(json.dumps({**_as_json(outcome), **told}, ensure_ascii=False) + "\n")
    else:
        for line in [*_sentences(outcome), *(_all_words(found) if options.all else ())]:
            sys.stdout.write(printable(line) + "\n")
    return 0 if outcome.ok and not found else 1


def _all_words(found: list[Unsound]) -> list[str]:
    if not found:
        return ["Objects, gate reports, versions, releases, publications and pointers are what the ledger says."]
    return [one.sentence for one in found] + [f"{len(found)} thing(s) in the store are NOT what the ledger says."]


def _as_json(outcome: Verification) -> dict[str, Any]:
    findings = [{**asdict(finding), "warning": finding.warning} for finding in outcome.findings]
    return {
        "ok": outcome.ok,
        "size": outcome.size,
        "head": asdict(outcome.head),
        "checkpoints": outcome.checkpoints,
        "signed": outcome.signed,
        "signed_size": outcome.signed_size,
        "keys": list(outcome.keys),
        "pinned": outcome.pinned,
        "erased": outcome.erased,
        "not_covered": sorted(tables.KEPT),
        "findings": findings,
        "more": outcome.more,
    }


def _sentences(outcome: Verification) -> list[str]:
    lines = [f"{'Warning: ' if finding.warning else ''}{finding.sentence}" for finding in outcome.findings]
    if outcome.more:
        lines.append(f"{outcome.more} further findings are not shown.")
    against = f"compared with {outcome.checkpoints} outside checkpoint{'' if outcome.checkpoints == 1 else 's'}"
    if not outcome.checkpoints:
        against = "no outside checkpoint to compare with, so a cut-off end would not show"
    verdict = "is sound" if outcome.ok else "is NOT what was written"
    lines.append(
        f"The ledger {outcome.head.ledger_id} {verdict}: {outcome.size} events read, "
        f"head {outcome.head.hash[:SHORT]}; {against}."
    )
    if outcome.checkpoints:
        lines.append(_signed_words(outcome))
    if outcome.erased:
        lines.append(f"The raw replies of {outcome.erased} decisions were erased, as the ledger says.")
    lines.append(f"Outside the chain, and not looked at: the tables {', '.join(sorted(tables.KEPT))}.")
    return lines


def _signed_words(outcome: Verification) -> str:
    if not outcome.signed:
        return "No checkpoint is signed: whoever can write to the database and to the store could have made all of it."
    keys = ", ".join(key[:SHORT] for key in outcome.keys)
    whose = "as given" if outcome.pinned else "as published in the store; pin it with --public-key"
    return (
        f"{outcome.signed} signed, by key {keys} ({whose}): signatures vouch for the events up to "
        f"{outcome.signed_size} of {outcome.size}."
    )
