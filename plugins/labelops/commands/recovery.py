"""``labelops recover``: a ledger that lost events for good goes on, and takes up what the store still shows."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from include.base.errors import Refused
from include.base.text import printable
from include.governance import checkpoint
from include.governance.ledger import Ledger
from include.releases.recovery import readopt
from labelops.commands.places import add_store, on_ledger, signer, store

__all__ = ["add_recover"]


def add_recover(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``recover``."""
    on_ledger(parser, _recover)
    add_store(parser)
    parser.add_argument("--actor", required=True, help="the person who takes responsibility")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--reason", required=True, help="what was lost, and why it cannot be restored")


def _recover(ledger: Ledger, options: argparse.Namespace) -> int:
    kept, key = store(options), signer()
    try:
        head = checkpoint.recover(ledger, kept, actor=options.actor, reason=options.reason, signer=key)
    except Refused:
        head = ledger.head()
        if head.epoch == 1:
            raise
    found = readopt(ledger, kept, actor=options.actor)
    checkpoint.write_checkpoint(ledger, kept, key)
    lost = _last_recovery(ledger)
    if options.json:
        sys.stdout.write(json.dumps({"epoch": head.epoch, "lost": lost, **asdict(found)}, ensure_ascii=False) + "\n")
        return 0
    lines = [
        f"The loss is recorded as event {lost['event']}: the ledger had {lost['size']} events, the backup "
        f"{lost['event'] - 1}. It goes on in epoch {head.epoch}.",
        *(f"Readopted: {one}." for one in found.recorded),
        *(f"Open: {one}." for one in found.open),
        *(f"Damaged: {one}." for one in found.damaged),
        "Lost for good where it is not said above: what people ordered in Airflow (closing a batch, resubmitting), who "
        "asked for a version or a release, findings, and the times of what happened. Switch the DAGs on: they find "
        "processes, pages and rows by their keys, and read every decision again at its source.",
    ]
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
    return 0


def _last_recovery(ledger: Ledger) -> dict[str, Any]:
    *_, last = ledger.events(actions=["ledger.recovered"])
    return {"event": last.seq, **last.body["lost"]}
