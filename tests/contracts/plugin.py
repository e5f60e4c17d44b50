"""Holds the tests of Confluence's client and stand-in to the published contracts, where these are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from include.settings import ROOT
from tests.workers import TOTALS

if TYPE_CHECKING:
    from tests.contracts.recorder import Recorder

SPECS = ROOT.parent / "shared" / "specs"
WATCHED = ("confluence", "decisions", "releases", "hooks", "sandbox", "contracts", "usecases", "acceptance")


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "off_contract: sends or answers on purpose what no contract allows")


@pytest.fixture(autouse=True)
def held_to_contract(request: pytest.FixtureRequest) -> Iterator[Recorder | None]:
    """Fail a test in which client or stand-in goes against a contract."""
    if request.path.parent.name not in WATCHED or not SPECS.is_dir():
        yield None
        return
    from tests.contracts.recorder import recording

    with recording() as recorder:
        yield recorder
    TOTALS["confluence requests"].update(recorder.requests)
    TOTALS["confluence replies"].update(recorder.replies)
    if not request.node.get_closest_marker("off_contract"):
        assert not recorder.faults, "\n".join(dict.fromkeys(recorder.faults))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much was held to the contracts."""
    sent, answered = TOTALS["confluence requests"], TOTALS["confluence replies"]
    if sent or answered:
        terminalreporter.write_line(
            f"Confluence contracts: {sum(sent.values())} requests of the client ({len(sent)} operations) and "
            f"{sum(answered.values())} replies of the stand-in ({len({key[:2] for key in answered})} operations)"
        )
