"""Agreement, accounting and changes of versions: measured once, kept beside the version, on the report page."""

from __future__ import annotations

import json

import pytest

from include.agreement import measurements
from include.base.canonical import canonical_json
from include.base.errors import InvalidInput
from include.base.store import Store
from include.datasets import freeze as freezing
from include.datasets.diff import diff
from include.datasets.withdrawals import withdraw
from include.queues.progress import form
from tests.datasets import make
from tests.integration.airflow_house import PROJECT


def kept(house, what):
    return sorted((house.home / "store" / "versions" / PROJECT).rglob(f"{what}-*.json"))


@pytest.mark.proves("a quiet night measures nothing again: the numbers are kept beside the version and checked")
def test_a_version_is_measured_once_and_the_page_says_so(approved, monkeypatch):
    approved.report()
    [place] = kept(approved, "agreement")
    before = place.read_bytes()
    page = approved.events("report.published")[-1].body
    for name in ("rows", "losing", "diff"):
        source = measurements if name == "diff" else freezing
        monkeypatch.setattr(source, name, lambda *_, **__: pytest.fail("a million rows were read again"))
    with approved.run().open() as run:
        found = measurements.quality_of(run.store, approved.project, approved.version().digest)
    assert found is not None
    body = approved.confluence_client().page(page["page"]).body
    for one in found.scores:
        assert f"<td>{one.value}</td>" in body
    assert "Annotation accounting" in body
    assert found.accounting.coverage.expected == found.accounting.coverage.got > 0
    assert place.read_bytes() == before


def test_a_summary_that_somebody_changed_is_refused(approved):
    approved.report()
    [place] = kept(approved, "agreement")
    value = json.loads(place.read_bytes())
    value["found"]["scores"][0]["value"] = "0.999"
    place.write_bytes(canonical_json(value) + b"\n")
    with pytest.raises(InvalidInput, match="is not as it was written"):
        approved.report()
    place.unlink()
    approved.report()
    assert json.loads(kept(approved, "agreement")[0].read_bytes())["found"]["scores"][0]["value"] != "0.999"


def forget(house):
    """Remove what was measured when the version was put before its approvers."""
    folder = house.home / "store" / "versions" / PROJECT / house.version().digest
    for kept in folder.glob("agreement-*.json"):
        kept.unlink()


def test_rows_that_are_not_the_versions_are_not_measured(approved):
    forget(approved)
    place = approved.home / "store" / "versions" / PROJECT / approved.version().digest / "losing.jsonl"
    place.write_bytes(place.read_bytes() + b"{}\n")
    with pytest.raises(InvalidInput, match=r"losing\.jsonl: its SHA-256 is"):
        approved.report()


def test_rows_that_are_lost_are_no_rows_that_were_removed(approved):
    forget(approved)
    (approved.home / "store" / "versions" / PROJECT / approved.version().digest / "losing.jsonl").unlink()
    with approved.run().open() as run, pytest.raises(InvalidInput, match=r"losing\.jsonl: is not there"):
        measurements.quality_of(run.store, approved.project, approved.version().digest)


def test_the_numbers_outlive_the_rows(approved):
    approved.report()
    digest = approved.version().digest
    with approved.run().open() as run:
        withdraw(run.store, PROJECT, digest, person="dana", reason="the texts were not ours", at=run.now())
    approved.report()
    page = approved.events("report.published")[-1].body
    assert "(removed 20" in approved.confluence_client().page(page["page"]).body
    with approved.run().open() as run:
        assert measurements.quality_of(run.store, approved.project, digest) is not None
        kept(approved, "agreement")[0].unlink()
        assert measurements.quality_of(run.store, approved.project, digest) is None


def test_versions_are_compared_once_and_the_result_comes_back_as_it_was(tmp_path, monkeypatch):
    store, project = Store(tmp_path), make.project(answers_per_task=1, rule="single", multiple=True)
    register = make.register_of(["anna", "ben"])
    tasks = [make.task(number) for number in range(6)]

    def frozen(person: str, *labels: str) -> str:
        answers = [make.answer(number, person, label) for number, label in enumerate(labels)]
        return freezing.freeze(store, project, form(tasks).digest, tasks, answers, register=register).digest

    old = frozen("anna", "billing", "other", "billing", "account", "delivery", "other")
    new = frozen("ben", "billing", "billing", "billing", "other", "other", "other")
    first = measurements.changes_since(store, project, old, new)
    assert first == diff(store, project, old, new, samples=0)
    assert first is not None
    assert (first.relabelled, first.evidence) == (3, 3)
    monkeypatch.setattr(measurements, "diff", lambda *_, **__: pytest.fail("compared again"))
    again = measurements.changes_since(store, project, old, new)
    assert again == first
    assert list(again.transitions) == list(first.transitions)
    withdraw(store, project, old, person="dana", reason="the texts were not ours", at=make.START)
    assert measurements.changes_since(store, project, old, new) == first
    assert measurements.changes_since(store, project, new, old) is None
