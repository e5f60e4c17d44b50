"""``labelops probe``: whether the service account could complete a person's task; the answer goes on the ledger.

The connection comes from the environment (``AIRFLOW_CONN_<ID>``) or a secrets backend; ledger and settings as for the
DAGs. Exit codes: 0 it cannot, 1 it can, 2 it is not known.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from include.base.errors import InvalidInput
from include.decisions.completion_probe import PROCESS_KEY, probe, record_probe
from include.governance.ledger import Ledger
from include.settings import ROOT, settings

__all__ = ["MODEL", "add_probe"]

MODEL = ROOT / "include" / "bpmn" / "completion_probe.bpmn"


def add_probe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``probe``."""
    parser.add_argument("conn_id", help="connection to OpenText Workflow Service")
    parser.add_argument("process_key", nargs="?", default=PROCESS_KEY, help="key of the probe's process")
    parser.add_argument("--person", required=True, metavar="EMAIL", help="somebody in the group, told beforehand")
    parser.add_argument("--group", required=True, help="candidate group of the probe's task")
    parser.add_argument("--deploy", action="store_true", help="deploy the probe's model first, where it is not")
    parser.set_defaults(command=_probe)


def _probe(options: argparse.Namespace) -> int:
    ledger = Ledger(settings().ledger_url)
    try:
        ledger.head()  # nothing is tried that could not be put on record
        return _run(ledger, options)
    finally:
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
