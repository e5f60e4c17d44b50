"""Find out whether the service account could complete a person's task, and put the answer on the ledger.

    python -m labelops.probe opentext_default --person probe@people.example --group probe_people [--deploy]

The connection comes from the environment (``AIRFLOW_CONN_<ID>``) or a secrets backend; ledger and settings as for the
DAGs. Exit codes: 0 it cannot, 1 it can, 2 it is not known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from include.base.errors import InvalidInput, LabelopsError
from include.decisions.completion_probe import PROCESS_KEY, probe, record_probe
from include.governance.ledger import Ledger
from include.settings import ROOT, settings

__all__ = ["main"]

MODEL = ROOT / "include" / "bpmn" / "completion_probe.bpmn"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the probe and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m labelops.probe", description="Could the service account complete a person's task?"
    )
    parser.add_argument("conn_id", help="connection to OpenText Workflow Service")
    parser.add_argument("process_key", nargs="?", default=PROCESS_KEY, help="key of the probe's process")
    parser.add_argument("--person", required=True, metavar="EMAIL", help="somebody in the group, told beforehand")
    parser.add_argument("--group", required=True, help="candidate group of the probe's task")
    parser.add_argument("--deploy", action="store_true", help="deploy the probe's model first, where it is not")
    options = parser.parse_args(arguments)
    ledger = None
    try:
        ledger = Ledger(settings().ledger_url)
        ledger.head()  # nothing is tried that could not be put on record
        return _run(ledger, options)
    except LabelopsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    finally:
        if ledger is not None:
            ledger.close()


def _run(ledger: Ledger, options: argparse.Namespace) -> int:
    from labelops.hooks.opentext import OpenTextWorkflowHook

    opentext = OpenTextWorkflowHook(options.conn_id).get_conn()
    if options.deploy:
        if options.process_key != PROCESS_KEY:
            raise InvalidInput(f"--deploy: deploys {PROCESS_KEY!r} only; found the process key {options.process_key!r}")
        opentext.deploy(PROCESS_KEY, Path(MODEL).read_text("utf-8"))
    found = probe(opentext, person=options.person, group=options.group, process_key=options.process_key)
    event = record_probe(ledger, options.conn_id, found)
    sys.stdout.write(f"{found.result}: {found.reason} (event {event.seq} of the ledger)\n")
    return {"cannot": 0, "can": 1, "unknown": 2}[found.result]


if __name__ == "__main__":
    sys.exit(main())
