"""What a release demands, and what a report leaves alone."""

from __future__ import annotations

import json

import pytest

from include.base.errors import Refused
from tests.integration.airflow_house import PROJECT


def test_a_version_that_waits_for_approval_is_refused_by_name(asked):
    assert asked.release_run() == []
    with pytest.raises(Refused, match="the ledger says of its approval: requested"):
        asked.release_run(version="1")
    [event] = asked.events("release.refused")
    assert event.body["problems"] >= 1


def test_the_release_manager_may_refuse(approved):
    [waiting] = approved.release_run()
    assert waiting["state"] == "waiting"
    approved.say("rita", "refused")
    with pytest.raises(Refused):
        approved.release_run()
    assert not (approved.home / "store" / "releases").exists()


def test_airflow_releases_by_itself_where_the_project_says_so(approved):
    approved.change_project(release={"orchestrator": "airflow"})
    [released] = approved.release_run()
    assert released["state"] == "released"
    [done] = approved.events("release.done")
    place = approved.home / "store" / done.body["path"]
    pointer = json.loads((place.parent / "current.json").read_bytes())
    assert done.digest_after[:12] in json.dumps(pointer)
    assert approved.events("release.requested") == []
    assert len(approved.examples(done.body["dataset"])) == approved.version().row_count


def test_training_is_called_once_with_a_key(approved, monkeypatch):
    from labelops.operators import dataset_release as operators

    calls = []
    monkeypatch.setattr(operators, "_webhook", lambda conn_id: lambda payload, key: calls.append((payload, key)))
    approved.change_project(release={"orchestrator": "airflow"})
    approved.release_run()
    approved.release_run(version="1")
    [(payload, key)] = calls
    assert (payload["project"], payload["version"], payload["digest"]) == (PROJECT, 1, approved.version().digest)
    assert len(key) == 64


def report_page(house):
    """Return our page as the ledger names it."""
    return house.confluence_hook().page(house.events("report.published")[-1].body["page"])


def test_a_report_that_a_person_edited_is_never_overwritten(asked):
    asked.report()
    page = report_page(asked)
    asked.confluence.database.rows("select 1 from pages")
    import requests

    from include.sandbox import world

    reply = requests.put(
        f"{asked.confluence_url}/wiki/api/v2/pages/{page.id}",
        auth=("olga@people.example", f"{world.TOKEN}olga"),
        json={
            "id": page.id,
            "status": "current",
            "title": page.title,
            "body": {"representation": "storage", "value": "<p>Olga's own words.</p>"},
            "version": {"number": page.version.number + 1},
        },
        timeout=30,
    )
    assert reply.ok, reply.text
    with pytest.raises(Refused, match="somebody edited the page"):
        asked.report()
    assert "Olga's own words" in report_page(asked).body


def test_a_report_says_once_on_the_process_what_was_released(approved):
    approved.release()
    approved.report()
    approved.report()
    process = approved.events("release.requested")[-1].body["process_id"]
    comments = [one.message for one in approved.opentext_hook().comments(process)]
    assert sum(one.startswith("Lineage of dataset version 1") for one in comments) == 1
