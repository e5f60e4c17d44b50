"""What a release demands, and what a report leaves alone."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from include.base.errors import Refused
from include.base.signing import read_signer
from include.datasets import freeze as freezing
from include.decisions.state import approval_state
from include.governance.checkpoint import write_checkpoint
from include.passport.dsse import read_envelope
from include.passport.verify import verify
from include.releases.passport import release_context
from include.releases.write import write_release
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


def test_airflow_releases_by_itself_where_the_project_says_so(airflow_approved):
    [released] = airflow_approved.release_run()
    assert released["state"] == "released"
    [done] = airflow_approved.events("release.done")
    place = airflow_approved.home / "store" / done.body["path"]
    pointer = json.loads((place.parent / "current.json").read_bytes())
    assert done.digest_after[:12] in json.dumps(pointer)
    assert airflow_approved.events("release.requested") == []
    assert len(airflow_approved.examples(done.body["dataset"])) == airflow_approved.version().row_count


def told_of(place):
    """Return the statement of a release, and what its events say."""
    envelope = read_envelope((place / "attestation.json").read_bytes(), "attestation.json")
    return json.loads(envelope.payload)["predicate"], json.loads((place / "openlineage.json").read_bytes())


def test_a_release_carries_its_passport(approved):
    approved.release()
    [done] = approved.events("release.done")
    place = approved.home / "store" / done.body["path"]
    key = read_signer(approved.signing_key).public
    found = verify(place, key)
    assert (found.problems, found.remarks, found.signature) == ((), (), "pinned")
    assert set(found.persons) == {"quentin (quality_reviewer)", "dana (data_owner)", "rita (release_manager)"}
    predicate, told = told_of(place)
    [published] = approved.events("guideline.published")
    assert [one["digest"] for one in predicate["guidelines"]] == [published.digest_after]
    assert [one["suite"] for one in predicate["gates"]] == ["version_rows", "release_rows"]
    assert all(one["checks"] for one in predicate["gates"])
    alpha = predicate["agreement"]["coefficients"][0]
    assert alpha["name"] == "Krippendorff's alpha (nominal)"
    assert float(alpha["low"]) <= float(alpha["value"]) <= float(alpha["high"])
    assert f"| Krippendorff's alpha (nominal) | {alpha['value']} |" in (place / "README.md").read_text("utf-8")
    event = next(one for one in approved.events() if one.seq == predicate["ledger"]["size"])
    assert (event.hash, event.subject) == (predicate["ledger"]["hash"], done.subject)
    assert datetime.fromisoformat(told[1]["eventTime"]) == event.time < done.time
    assert "@people.example" not in "".join(
        one.read_text("utf-8") for one in place.iterdir() if one.suffix in (".json", ".md")
    )


def transport(monkeypatch, **options):
    """Configure the official provider as an installation does."""
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(options))


def as_we_wrote(event):
    """Return an event without what the client adds to all events: its version, and where it finds itself in git."""
    event["run"]["facets"].pop("tags")
    event["job"]["facets"].pop("sourceCodeLocation", None)
    return event


@pytest.mark.proves("OpenLineage events go through the official provider's transport when one is configured")
def test_the_events_go_through_the_providers_transport(airflow_approved, monkeypatch, tmp_path):
    transport(monkeypatch, type="file", log_file_path=str(tmp_path / "events"), append=True)
    airflow_approved.release_run()
    [done] = airflow_approved.events("release.done")
    _, told = told_of(airflow_approved.home / "store" / done.body["path"])
    assert [as_we_wrote(json.loads(line)) for line in (tmp_path / "events").read_text("utf-8").splitlines()] == told
    assert "lineage not sent" not in {one.body["kind"] for one in airflow_approved.events("finding")}


def test_the_events_are_posted(airflow_approved, monkeypatch):
    taken = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            taken.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        transport(monkeypatch, type="http", url=f"http://127.0.0.1:{server.server_port}", endpoint="api/v1/lineage")
        airflow_approved.release_run()
        server.shutdown()
    [done] = airflow_approved.events("release.done")
    _, told = told_of(airflow_approved.home / "store" / done.body["path"])
    assert [(path, as_we_wrote(event)) for path, event in taken] == [("/api/v1/lineage", one) for one in told]


def test_a_transport_that_fails_is_a_finding_and_stops_no_release(airflow_approved, monkeypatch):
    transport(monkeypatch, type="http", url="http://127.0.0.1:9", timeout=1, retry={"total": 0})
    [released] = airflow_approved.release_run()
    assert released["state"] == "released"
    [found] = [one for one in airflow_approved.events("finding") if one.body["kind"] == "lineage not sent"]
    assert "OpenLineage transport" in found.reason


def test_a_second_try_writes_the_same_passport(airflow_approved):
    airflow_approved.release_run()
    [done] = airflow_approved.events("release.done")
    place = airflow_approved.home / "store" / done.body["path"]
    before = {one.name: one.read_bytes() for one in place.iterdir()}
    (place / "checksums.json").unlink()
    run = airflow_approved.run()
    manifest = freezing.read_manifest(run.store, PROJECT, done.digest_after)
    where = approval_state(run, done.digest_after)
    process = where.requested.body["process_id"]
    airflow_approved.later += timedelta(days=1)
    again = write_release(
        run.store, airflow_approved.project, done.digest_after, 1, manifest,
        json.loads(before["approvals.json"])["approvals"],
        release_context(run, airflow_approved.project, manifest, where.requested, {process}),
        run.signer,
    )  # fmt: skip
    run.ledger.close()
    assert again.created
    assert {one.name: one.read_bytes() for one in place.iterdir()} == before


def test_training_is_called_once_with_a_key(airflow_approved, monkeypatch):
    from labelops.systems import SYSTEMS

    calls = []
    monkeypatch.setitem(SYSTEMS, "training", lambda *_: lambda payload, key: calls.append((payload, key)))
    airflow_approved.release_run()
    airflow_approved.release_run(version="1")
    [(payload, key)] = calls
    assert (payload["project"], payload["version"], payload["digest"]) == (
        PROJECT,
        1,
        airflow_approved.version().digest,
    )
    assert len(key) == 64


def report_page(house):
    """Return our page as the ledger names it."""
    return house.confluence_client().page(house.events("report.published")[-1].body["page"])


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


@pytest.mark.proves("a signed checkpoint stands outside the database, on the report page")
def test_the_page_carries_a_signed_checkpoint_that_shows_a_shortened_ledger(approved):
    from include.base.signing import read_signer
    from include.governance.note import read_note
    from include.governance.verify import verify_with

    approved.report()
    page = report_page(approved)
    client = approved.confluence_client()
    found = client.property(page.id, "labelops_checkpoint")
    told = found.value["note"]
    note = read_note(told, "the report page")
    assert note.text.splitlines()[0].startswith("labelops/ledger/")
    published = approved.events("report.published")[-1]
    size = int(note.text.splitlines()[1])
    assert approved.events("gate.passed")[-1].seq <= size < published.seq
    ledger = approved.ledger()
    try:
        key = read_signer(approved.signing_key).public
        assert verify_with(ledger, None, trusted=[key], notes={"the report page": told}).ok
        with approved.run().open() as at:
            write_checkpoint(at.ledger, at.store, at.signer)
    finally:
        ledger.close()
    approved.report()
    assert client.property(page.id, "labelops_checkpoint") == found, "the page was not written, so its property was not"
    with sqlite3.connect(approved.ledger_file) as conn:
        for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            conn.execute(f"DROP TRIGGER {name}")
        conn.execute("DELETE FROM event WHERE seq >= ?", (size,))
    ledger = approved.ledger()
    try:
        outcome = verify_with(ledger, None, trusted=[key], notes={"the report page": told})
    finally:
        ledger.close()
    assert not outcome.ok
    assert "truncated" in {one.kind for one in outcome.findings}, outcome.findings


def test_without_a_key_the_page_carries_no_checkpoint(approved, monkeypatch, caplog):
    from include.usecases import lineage_report

    monkeypatch.setattr(lineage_report, "last_note", lambda store: None)
    approved.report()
    assert approved.confluence_client().property(report_page(approved).id, "labelops_checkpoint") is None
    assert "No checkpoint of the ledger is signed" in caplog.text


def test_a_report_says_once_on_the_process_what_was_released(approved):
    approved.release()
    approved.report()
    approved.report()
    process = approved.events("release.requested")[-1].body["process_id"]
    comments = [one.message for one in approved.opentext_client().comments(process)]
    assert sum(one.startswith("Lineage of dataset version 1") for one in comments) == 1
