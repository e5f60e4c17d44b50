"""``labelops probe``: the answer is printed, is the exit code, and stands on the ledger."""

from __future__ import annotations

import pytest

from include.decisions.completion_probe import last_probe, service_token
from include.governance.ledger import Ledger
from include.settings import settings
from labelops.commands import main
from tests.decisions.test_completion_probe import PERSON, SERVICE, Bench


def test_the_command_puts_the_answer_on_the_ledger(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["probe", "opentext_default", "--person", PERSON["email"], "--group", "probe_people"]
    assert main(arguments) == 2  # no ledger yet: nothing is tried
    assert bench.client.find_process("") is None
    assert list(bench.client.running()) == []
    Ledger(settings().ledger_url).migrate()
    assert main([*arguments, "--deploy"]) == 0
    bench.standin.service_may_complete = True
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("cannot: ")
    assert SERVICE["secret"] not in shown.out + shown.err
    assert main([*arguments[:2], "other", *arguments[2:], "--deploy"]) == 2
    ledger = Ledger(settings().ledger_url)
    event = last_probe(ledger, "opentext_default")
    assert event is not None
    assert (event.action, event.subject) == ("opentext.probed", "opentext:opentext_default")
    assert (event.body["result"], event.body["way"], event.body["ended"]) == ("can", "complete", True)
    assert service_token(ledger, "opentext_default") == {"result": "can", "event": event.seq}
    assert service_token(ledger, "another") == {"result": "unknown", "event": None}
    ledger.close()
