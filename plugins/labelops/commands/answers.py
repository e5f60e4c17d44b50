"""``labelops export-answers``: answers straight from Prodigy's database in a file, and that act on the ledger.

The connection comes from the environment (``AIRFLOW_CONN_<ID>``) or a secrets backend. The file holds content as people
saw it, whatever class the project's content is of: taking it out is the act of whoever runs this, and the ledger says
who it was, how many answers, and the file's digest. Exit codes: 0 done, 1 done but some rows could not be taken, 2 not
done.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path

from include.base.canonical import digest_of
from include.base.errors import InvalidInput
from include.exports.answers import FORMATS, Manifest, export_answers
from include.governance.ledger import Ledger
from include.governance.records import NewEvent
from include.settings import settings

__all__ = ["ACTION", "add_export_answers"]

ACTION = "answers.exported"


def add_export_answers(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export-answers``."""
    parser.add_argument("--dataset", help="Prodigy dataset")
    parser.add_argument("--session", help="a person's session, <dataset>-<account>; alone, or within the dataset")
    parser.add_argument("--format", choices=FORMATS, default="jsonl")
    parser.add_argument("--out", type=Path, required=True, help="file to write; it must not be there yet")
    since = "only what is new since this file was written, which is then renewed"
    parser.add_argument("--since", type=Path, metavar="STATE", help=since)
    parser.add_argument("--raw", action="store_true", help="parquet: keep the stored bytes beside the columns")
    parser.add_argument("--validate", action="store_true", help="jsonl: read each row as JSON")
    parser.add_argument("--connection", default="prodigy_default", help="connection to Prodigy's database")
    parser.add_argument("--reason", default="", help="why, for the ledger")
    parser.set_defaults(command=_export_answers)


def _export_answers(options: argparse.Namespace) -> int:
    ledger = _ledger()
    try:
        manifest = _run(options, ledger)
    except OSError as error:
        raise InvalidInput(f"{error.filename or options.out}: {error.strerror or error}") from error
    finally:
        if ledger is not None:
            ledger.close()
    _say(manifest, options.out)
    return 1 if manifest.rejected or manifest.unreadable else 0


def _ledger() -> Ledger | None:
    """Return the ledger that the installation has, None where it has none; one that cannot be read is an error."""
    url = settings().ledger_url
    place = url.removeprefix("sqlite:///")
    if not os.environ.get("LABELOPS_LEDGER") and not Path(place).exists():
        return None
    ledger = Ledger(url)
    try:
        ledger.head()  # nothing is exported that could not be put on record
    except BaseException:
        ledger.close()
        raise
    return ledger


def _run(options: argparse.Namespace, ledger: Ledger | None) -> Manifest:
    from labelops.hooks.prodigy import ProdigyHook

    def progress(rows: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{rows:,} answers")

    return export_answers(
        ProdigyHook(options.connection).get_conn(),
        options.out,
        format=options.format,
        dataset=options.dataset,
        session=options.session,
        since=options.since,
        raw=options.raw,
        validate=options.validate,
        record=_recorder(ledger, options),
        progress=progress,
    )


def _recorder(ledger: Ledger | None, options: argparse.Namespace) -> Callable[[Manifest], None]:
    def record(manifest: Manifest) -> None:
        if ledger is None:
            sys.stderr.write("There is no ledger (LABELOPS_LEDGER): this export is on no record.\n")
            return
        ledger.append(
            NewEvent(
                actor=f"os:{getpass.getuser()}",
                action=ACTION,
                project=manifest.dataset or "",
                subject=f"prodigy:{manifest.dataset or manifest.session}",
                digest_after=manifest.sha256,
                reason=options.reason,
                run="labelops.export_answers",
                body={
                    "connection": options.connection,
                    "format": manifest.format,
                    "session": manifest.session,
                    "file": options.out.name,
                    "rows": manifest.rows,
                    "rejected": manifest.rejected,
                    "first_link": manifest.first_link,
                    "last_link": manifest.last_link,
                    "content": "full",
                },
            ),
            key=digest_of(["labelops-answers-exported", manifest.act]) if manifest.act else None,
        )

    return record


def _say(manifest: Manifest, out: Path) -> None:
    what = " of session ".join(name for name in (manifest.dataset, manifest.session) if name)
    lines = [f"{manifest.rows:,} answers of {what} in {out}, {manifest.bytes:,} bytes, SHA-256 {manifest.sha256}"]
    if manifest.rewritten:
        lines.append(f"{manifest.rewritten:,} rows had line breaks between their tokens, which are spaces now")
    if manifest.rejected:
        lines.append(f"{manifest.rejected:,} rows are no JSON object and were left out: see {out}.rejected.jsonl")
    if manifest.unreadable:
        lines.append(f"{manifest.unreadable:,} rows have a column that could not be filled: see `problem`")
    lines += [
        f"{one['kind']}: links {one['first_link']}-{one['last_link']}, {one['seen']} seen before, {one['found']} now"
        for one in manifest.findings
    ]
    sys.stdout.write("\n".join(lines) + "\n")
