"""The ledger's own verbs: its tables, who did what when, its head kept outside, and personal data that goes."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict

from include.base.canonical import SHORT
from include.base.text import printable
from include.governance.checkpoint import write_checkpoint
from include.governance.erasure import erase
from include.governance.ledger import Ledger
from include.governance.records import Event, time_text
from labelops.commands.places import add_store, on_ledger, signer, store

__all__ = ["add_checkpoint", "add_erase", "add_events", "add_head", "add_migrate"]

_LONG_DIGEST = re.compile(rf"\b([0-9a-f]{{{SHORT}}})[0-9a-f]{{{64 - SHORT}}}\b")
_COLUMNS = "{:>7}  {:<27}  {:<20}  {:<22}  {:<18}  {:<36}  {:<27}  {}"


def add_migrate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``migrate``."""
    on_ledger(parser, _migrate)


def _migrate(ledger: Ledger, _options: argparse.Namespace) -> int:
    done = ledger.migrate()
    sys.stdout.write("The ledger's tables are built.\n" if done else "The ledger's tables are up to date.\n")
    return 0


def add_head(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``head``."""
    on_ledger(parser, _head)


def _head(ledger: Ledger, _options: argparse.Namespace) -> int:
    sys.stdout.write(json.dumps(asdict(ledger.head())) + "\n")
    return 0


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``checkpoint``."""
    on_ledger(parser, _checkpoint)
    add_store(parser)


def _checkpoint(ledger: Ledger, options: argparse.Namespace) -> int:
    written = write_checkpoint(ledger, store(options), signer())
    sys.stdout.write("The checkpoint is written.\n" if written else "Nothing was added since the last checkpoint.\n")
    return 0


def add_erase(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``erase``."""
    on_ledger(parser, _erase)
    add_store(parser)
    parser.add_argument("person", help="an id of the register, or system:account of somebody who is not in it")
    parser.add_argument("--actor", required=True, help="the person who takes responsibility")
    parser.add_argument("--reason", required=True, help="why, as the request or the law that asks for it")


def _erase(ledger: Ledger, options: argparse.Namespace) -> int:
    removed = erase(ledger, store(options), options.person, actor=options.actor, reason=options.reason)
    sys.stdout.write(f"{len(removed)} raw replies of decisions of {options.person} are removed; all proofs stay.\n")
    return 0


def add_events(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``events``."""
    on_ledger(parser, _events)
    parser.add_argument("--project", help="only this labelling project")
    parser.add_argument("--subject", help="only this subject, as version:<digest>")
    parser.add_argument("--action", action="append", help="only this action; may be repeated")
    parser.add_argument("--after", type=int, default=0, metavar="N", help="only events after number N")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N events")
    parser.add_argument("--full", action="store_true", help="print digests in full")
    parser.add_argument("--json", action="store_true", help="print one JSON object per event")


def _events(ledger: Ledger, options: argparse.Namespace) -> int:
    found = ledger.events(options.project, options.action, options.subject, after=options.after, limit=options.limit)
    if not options.json:
        header = _COLUMNS.format(
            "number", "when (UTC)", "who", "did what", "project", "to what", "before > after", "why"
        )
        sys.stdout.write(header + "\n")
    for event in found:
        line = _event_json(event) if options.json else _event_line(event, full=options.full)
        sys.stdout.write(line + "\n")
    return 0


def _event_json(event: Event) -> str:
    return json.dumps({**asdict(event), "time": time_text(event.time)}, ensure_ascii=False)


def _event_line(event: Event, *, full: bool) -> str:
    before, after = event.digest_before or "", event.digest_after or ""
    change = f"{before or '-'} > {after or '-'}" if before or after else ""
    line = _COLUMNS.format(
        event.seq,
        time_text(event.time),
        event.actor,
        event.action,
        event.project or "-",
        _shown(event.subject, full=full),
        _shown(change, full=full),
        event.reason,
    )
    return printable(line).rstrip()


def _shown(text: str, *, full: bool) -> str:
    return text if full else _LONG_DIGEST.sub(r"\1", text)
