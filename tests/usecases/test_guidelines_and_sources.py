"""What people do to pages and files between two runs."""

from __future__ import annotations

import json

import pytest
import requests

from include.base.errors import Fenced
from include.queues.batches import assign
from include.run.run import Effect
from include.sandbox import world
from labelops.operators.gate import GateFailed
from tests.integration.airflow_house import PROJECT


def edit(house, title, change):
    """Let olga edit a page."""
    client = house.confluence_client()
    page = client.page(client.find_page(client.space("LAB").id, title).id)
    reply = requests.put(
        f"{house.confluence_url}/wiki/api/v2/pages/{page.id}",
        auth=("olga@people.example", f"{world.TOKEN}olga"),
        json={
            "id": page.id,
            "status": "current",
            "title": page.title,
            "body": {"representation": "storage", "value": change(page.body)},
            "version": {"number": page.version.number + 1},
        },
        timeout=30,
    )
    assert reply.ok, reply.text
    return page.id


def approve(house, page_id):
    """Let greta approve a page."""
    reply = requests.put(
        f"{house.confluence_url}/wiki/rest/api/content/{page_id}/state",
        auth=("greta@people.example", f"{world.TOKEN}greta"),
        params={"status": "current"},
        json={"name": "Verified", "color": "#57d9a3"},
        timeout=30,
    )
    assert reply.ok, reply.text


def published(house):
    """Return the text that annotators see."""
    guidelines = house.home / "store" / "publications" / PROJECT / "guidelines"
    pointer = json.loads((guidelines / "current.json").read_bytes())
    return (guidelines / pointer["release"] / "guidelines.html").read_text("utf-8")


def test_an_edit_is_published_once_it_is_approved(house):
    assert house.sync_guidelines()["detail"]["number"] == 1
    page = edit(house, "Ticket topics: labels", lambda body: body + "<p>Vouchers are billing.</p>")
    assert house.sync_guidelines() is None
    assert "Vouchers" not in published(house)
    assert any("since" in event.body["kind"] for event in house.events("finding"))
    approve(house, page)
    assert house.sync_guidelines()["detail"]["number"] == 2
    assert "Vouchers are billing" in published(house)


def as_olga(house, method, path, value):
    """Let olga send something to Confluence."""
    auth = ("olga@people.example", f"{world.TOKEN}olga")
    reply = requests.request(method, house.confluence_url + path, auth=auth, json=value, timeout=30)
    assert reply.ok, reply.text
    return reply.json()


def test_a_page_in_a_folder_is_published_and_stops_all_once_it_is_hidden(house):
    client = house.confluence_client()
    root = client.find_page(client.space("LAB").id, house.project.confluence.guideline.root)
    below = {"spaceId": root.space_id, "title": "Rare", "parentId": root.id}
    folder = as_olga(house, "POST", "/wiki/api/v2/folders", below)
    body = {"representation": "storage", "value": "<p>Vouchers are billing.</p>"}
    page = as_olga(house, "POST", "/wiki/api/v2/pages", {**below, "parentId": folder["id"], "body": body})
    approve(house, page["id"])
    assert house.sync_guidelines()["detail"]["number"] == 1
    assert "Vouchers are billing" in published(house)
    me = as_olga(house, "GET", "/wiki/rest/api/user/current", None)["accountId"]
    only = [{"operation": "read", "restrictions": {"user": [{"type": "known", "accountId": me}]}}]
    as_olga(house, "PUT", f"/wiki/rest/api/content/{page['id']}/restriction", {"results": only})
    with pytest.raises(GateFailed):
        house.sync_guidelines()
    assert "Vouchers are billing" in published(house)
    assert "page_hidden" in [event.body["kind"] for event in house.events("finding")]


def test_a_missing_image_stops_at_the_gate(house):
    broken = '<p><ac:image><ri:attachment ri:filename="lost.png"/></ac:image></p>'
    approve(house, edit(house, "Ticket topics: labels", lambda body: body + broken))
    with pytest.raises(GateFailed):
        house.sync_guidelines()
    assert not (house.home / "store" / "publications").exists()
    assert house.events("guideline.published") == []


def test_a_later_file_with_content_that_is_there_adds_no_task_but_its_source(house):
    first = house.ingest()
    (house.home / "sources" / PROJECT / "late.txt").write_text("How do I change my delivery address?\n", "utf-8")
    again = house.ingest()
    assert first["detail"]["inserted"] > 0
    assert (again["detail"]["inserted"], again["detail"]["present"]) == (0, 1)
    [task] = [one for one in house.examples(house.project.inbox) if one["text"].startswith("How do I change")]
    ledger = house.ledger()
    files = {one.source for one in ledger.sources(PROJECT, task["labelops"]["task_id"])}
    ledger.close()
    assert {name.rsplit("/", 1)[-1] for name in files} == {"late.txt", "walk-in.txt"}


def test_equal_content_from_two_sources_is_one_task_with_both(house):
    house.ingest()
    tasks = [one for one in house.examples(house.project.inbox) if one["text"].startswith("Where is my parcel")]
    assert len(tasks) == 1
    assert len(tasks[0]["labelops"]["sources"]) == 2


def test_answers_that_came_after_the_freeze_make_a_batch_of_their_own(asked):
    late = next(one for one in asked.examples(asked.project.answers) if one["_session_id"].endswith("-anna"))
    late = {**late, "accept": ["other"], "_timestamp": late["_timestamp"] + 86_400}
    asked.answer([late])
    before = asked.version().digest
    results = {one["subject"]: one["state"] for one in asked.approve_run()}
    assert results[f"version:{before}"] == "waiting"
    assert len(asked.events("batch.assigned")) == 2
    assert any(event.body["kind"] == "late answers" for event in asked.events("finding"))


def test_tasks_whose_hashes_collide_are_all_taken(house, monkeypatch):
    from include.annotation import tasks as making

    def colliding(task, overwrite=False):
        """Give every task the same two 32-bit hashes, the worst that can happen."""
        return {**task, "_input_hash": 7, "_task_hash": 7}

    monkeypatch.setattr(making, "set_hashes", colliding)
    result = house.ingest()
    inbox = house.examples(house.project.inbox)
    assert {one["_task_hash"] for one in inbox} == {7}
    assert len({one["labelops"]["task_id"] for one in inbox}) == len(inbox) == result["detail"]["inserted"] == 13


def test_batches_are_cut_by_the_newest_try_alone(house):
    """A try that stood still has read how far the inbox was cut: since then, another may have cut it."""
    house.sync_guidelines()
    house.ingest()
    task = {"text": "late", "_input_hash": 1, "_task_hash": 2, "labelops": {"task_id": "ab" * 32}}
    house.prodigy().add_tasks(house.project.inbox, [task])
    claims = []
    for number in (1, 2):
        run = house.run("raw_data_ingestion", "load", "manual__r", try_number=number)
        effect = Effect(run, "raw_data_ingestion", house.project.name, "source:x", "cd" * 32, 1)
        effect.begin()
        claims.append((run, effect))
    before = len(house.events("batch.assigned"))
    (old, stale), (new, effect) = claims
    with pytest.raises(Fenced):
        assign(old, house.project, house.prodigy(), stale)
    assert len(house.events("batch.assigned")) == before
    assert assign(new, house.project, house.prodigy(), effect) == 1
