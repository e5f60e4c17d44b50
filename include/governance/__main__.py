"""The ledger on the command line, for auditors and for whoever runs the installation.

Exit codes: 0 all is well, 1 the ledger is not what was written (``ask without``: something was released that should not
have been), 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from include.base.canonical import SHORT
from include.base.errors import InvalidInput, LabelopsError, LedgerBehind, Refused
from include.base.signing import PublicKey, Signer, make_key, read_public_key, read_signer
from include.base.store import Store
from include.base.text import printable
from include.governance import checkpoint, proof, tables
from include.governance.checkpoint import write_checkpoint
from include.governance.erasure import erase
from include.governance.ledger import Ledger
from include.governance.records import Event, time_text
from include.governance.verify import Verification, verify_with
from include.questions import commands as questions
from include.settings import settings

__all__ = ["main"]

_LONG_DIGEST = re.compile(rf"\b([0-9a-f]{{{SHORT}}})[0-9a-f]{{{64 - SHORT}}}\b")
_COLUMNS = "{:>7}  {:<27}  {:<20}  {:<22}  {:<18}  {:<36}  {:<27}  {}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    ledger = None
    try:
        ledger = Ledger(options.ledger or settings().ledger_url)
        return int(options.command(ledger, options))
    except LedgerBehind as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except LabelopsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has seen enough
        return 0
    finally:
        if ledger is not None:
            ledger.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.governance", description="The ledger: who did what, when.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, function: Any, words: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=words, description=words)
        command.add_argument("--ledger", metavar="URL", help="the ledger's database (default: LABELOPS_LEDGER)")
        command.set_defaults(command=function)
        return command

    add("migrate", _migrate, "build the ledger's tables, or bring them up to date")
    check = add("verify", _verify, "check every hash, every row, and the checkpoints kept outside")
    check.add_argument(
        "--store", metavar="DIR", help="the store's folder (default: LABELOPS_STORE where it is a folder)"
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")
    public = "trust signatures of this key alone (PEM file); may be repeated"
    check.add_argument("--public-key", type=Path, action="append", default=[], metavar="FILE", help=public)
    kept = "compare with a signed checkpoint that was kept elsewhere, as on the report page; may be repeated"
    check.add_argument("--note", type=Path, action="append", default=[], metavar="FILE", help=kept)
    key = add("keygen", _keygen, "make the key that signs checkpoints and releases")
    key.add_argument("file", type=Path, help="the new PEM file; LABELOPS_SIGNING_KEY names it to the installation")
    add("head", _head, "print how far the ledger has come, as JSON")
    showing = add("prove", _prove, "write a proof that an event is on the ledger, or that a checkpoint begins another")
    showing.add_argument("--store", metavar="DIR", help="the store's folder")
    showing.add_argument("what", choices=("inclusion", "consistency"))
    showing.add_argument("number", type=int, nargs="+", metavar="N", help="an event's number, or two numbers of events")
    showing.add_argument("--size", type=int, help="lead to the tree of so many events (inclusion only)")
    shown = add("check-proof", _check_proof, "check a proof alone: needs neither the ledger nor a secret")
    shown.add_argument("file", type=Path, help="the proof's JSON file")
    shown.add_argument("--public-key", type=Path, action="append", default=[], metavar="FILE", help="trust this key")
    shown.add_argument("--note", type=Path, metavar="FILE", help="the signed checkpoint that it has to lead to")
    noted = add("note", _note, "print the newest signed checkpoint, as other transparency-log tools read it")
    noted.add_argument("--store", metavar="DIR", help="the store's folder")
    listing = add("events", _events, "list who did what, when")
    listing.add_argument("--project", help="only this labelling project")
    listing.add_argument("--subject", help="only this subject, as version:<digest>")
    listing.add_argument("--action", action="append", help="only this action; may be repeated")
    listing.add_argument("--after", type=int, default=0, metavar="N", help="only events after number N")
    listing.add_argument("--limit", type=int, metavar="N", help="at most N events")
    listing.add_argument("--full", action="store_true", help="print digests in full")
    listing.add_argument("--json", action="store_true", help="print one JSON object per event")
    keep = add("checkpoint", _checkpoint, "write the head outside the database")
    keep.add_argument("--store", metavar="DIR", help="the store's folder")
    erasing = add("erase", _erase, "remove the raw replies of a person's decisions; the decisions and all proofs stay")
    erasing.add_argument("--store", metavar="DIR", help="the store's folder")
    erasing.add_argument("person", help="an id of the register, or system:account of somebody who is not in it")
    erasing.add_argument("--actor", required=True, help="the person who takes responsibility")
    erasing.add_argument("--reason", required=True, help="why, as the request or the law that asks for it")
    recover = add("recover", _recover, "record that events are lost for good and go on")
    recover.add_argument("--store", metavar="DIR", help="the store's folder")
    recover.add_argument("--actor", required=True, help="the person who takes responsibility")
    recover.add_argument("--json", action="store_true", help="print one JSON object")
    recover.add_argument("--reason", required=True, help="what was lost, and why it cannot be restored")
    ask = commands.add_parser("ask", help="answer an auditor's question", description="Answer an auditor's question.")
    questions.add_questions(ask, printable)
    questions.add_use(add("used", questions.use, "record that a model was trained on a dataset version"))
    return parser


def _store(options: argparse.Namespace) -> Store:
    place = options.store or settings().store
    if "://" in place:
        raise InvalidInput(f"{place} is no folder: name a copy of the store with --store")
    return Store(Path(place))


def _migrate(ledger: Ledger, _options: argparse.Namespace) -> int:
    done = ledger.migrate()
    sys.stdout.write("The ledger's tables are built.\n" if done else "The ledger's tables are up to date.\n")
    return 0


def _keygen(_ledger: Ledger, options: argparse.Namespace) -> int:
    signer = make_key(options.file)
    sys.stdout.write(f"The key {signer.public.key_id} is in {options.file}. Its public half, for whoever verifies:\n")
    sys.stdout.write(signer.public.pem.decode("ascii"))
    return 0


def _head(ledger: Ledger, _options: argparse.Namespace) -> int:
    sys.stdout.write(json.dumps(asdict(ledger.head())) + "\n")
    return 0


def _prove(ledger: Ledger, options: argparse.Namespace) -> int:
    wanted = {"inclusion": 1, "consistency": 2}[options.what]
    if len(options.number) != wanted:
        raise InvalidInput(f"{options.what} takes {wanted} number{'s' if wanted > 1 else ''}")
    store = _store(options) if options.store or "://" not in settings().store else None
    if options.what == "inclusion":
        made = proof.prove_inclusion(ledger, store, options.number[0], options.size)
    else:
        made = proof.prove_consistency(ledger, store, *options.number)
    sys.stdout.write(json.dumps(made, ensure_ascii=False, indent=1) + "\n")
    return 0


def _check_proof(_ledger: Ledger, options: argparse.Namespace) -> int:
    try:
        value = json.loads(_read_text(options.file))
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{options.file}: not JSON ({error})") from error
    outcome = proof.check_proof(value, _public_keys(options), _read_text(options.note) if options.note else None)
    for sentence in outcome.sentences:
        sys.stdout.write(printable(sentence) + "\n")
    return 0 if outcome.ok else 1


def _note(_ledger: Ledger, options: argparse.Namespace) -> int:
    content = checkpoint.last_note(_store(options))
    if content is None:
        raise InvalidInput("no checkpoint is signed yet")
    sys.stdout.write(content)
    return 0


def _checkpoint(ledger: Ledger, options: argparse.Namespace) -> int:
    written = write_checkpoint(ledger, _store(options), _signer())
    sys.stdout.write("The checkpoint is written.\n" if written else "Nothing was added since the last checkpoint.\n")
    return 0


def _erase(ledger: Ledger, options: argparse.Namespace) -> int:
    removed = erase(ledger, _store(options), options.person, actor=options.actor, reason=options.reason)
    sys.stdout.write(f"{len(removed)} raw replies of decisions of {options.person} are removed; all proofs stay.\n")
    return 0


def _recover(ledger: Ledger, options: argparse.Namespace) -> int:
    # Only this command looks beyond governance: what the store shows of versions and releases is joined there.
    from include.releases.recovery import readopt

    store, signer = _store(options), _signer()
    try:
        head = checkpoint.recover(ledger, store, actor=options.actor, reason=options.reason, signer=signer)
    except Refused:
        head = ledger.head()
        if head.epoch == 1:
            raise
    found = readopt(ledger, store, actor=options.actor)
    write_checkpoint(ledger, store, signer)
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


def _verify(ledger: Ledger, options: argparse.Namespace) -> int:
    store = _store(options) if options.store or "://" not in settings().store else None
    notes = {str(path): _read_text(path) for path in options.note}
    outcome = verify_with(ledger, store, trusted=_public_keys(options), notes=notes)
    if options.json:
        sys.stdout.write(json.dumps(_as_json(outcome), ensure_ascii=False) + "\n")
    else:
        for line in _sentences(outcome):
            sys.stdout.write(printable(line) + "\n")
    return 0 if outcome.ok else 1


def _public_keys(options: argparse.Namespace) -> list[PublicKey]:
    return [read_public_key(_read_text(path).encode(), str(path)) for path in options.public_key]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read ({error})") from error


def _signer() -> Signer | None:
    file = settings().signing_key
    return read_signer(file) if file else None


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


if __name__ == "__main__":
    raise SystemExit(main())
