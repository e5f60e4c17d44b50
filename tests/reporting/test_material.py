"""What approvers are shown: what is new, how good it is, and no more than the project allows."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from datetime import timedelta

import pytest

from include.base.errors import Refused
from include.reporting.material import gather
from include.sandbox import world
from tests.house import House
from tests.integration.airflow_house import FIRST_ANSWER, PROJECT


def page_of(house: House, number: int) -> str:
    """Return the page that shows a version, as text."""
    client = house.confluence_client()
    space = client.space(house.project.confluence.space)
    found = client.find_page(space.id, f"Version {number} of {house.project.title}, for decision")
    assert found is not None
    storage = client.page(found.id).body or ""
    return html.unescape(re.sub(r"<[^>]*>", "|", storage))


def change(house: House) -> str:
    """Let anna and ben agree on something else about one task, and the quiet time go by; return the task."""
    last = {(one["labelops"]["task_id"], one["_session_id"]): one for one in house.examples(PROJECT)}
    said = defaultdict(list)
    for (task, _), one in last.items():
        said[task].append(one["accept"])
    first = min(task for task, given in said.items() if given[0] == given[1] != ["account"])
    moment = int((FIRST_ANSWER + timedelta(days=1)).timestamp())
    house.answer(
        [{**one, "accept": ["account"], "_timestamp": moment} for (task, _), one in last.items() if task == first]
    )
    house.later += timedelta(hours=2)
    return first


def test_the_process_leads_to_a_page_that_shows_the_version(asked: House) -> None:
    said = page_of(asked, 1)
    for told in (
        "holds 11 rows. It rests on no other version.",
        "|Complete||84 % of 13 tasks, 80 % are demanded|",
        "|Left out||2 disputed|",
        "|Krippendorff's alpha (nominal)||0.8",
        "|Quality gate||version_rows passed on 11 rows|",
        "|Guideline||release 1: 22 answers|",
        "|Hands in what is new||anna, ben|",
        "|Who decides||1 quality_reviewer (review), 1 data_owner (approval); evidence attested|",
        "What is new: 11 rows",
        "no content",
    ):
        assert told in said, told
    [event] = asked.events("approval.shown")
    process = asked.events("approval.requested")[0].body["process_id"]
    variables = asked.opentext_client().process(process).variables
    assert event.body["page"] in variables["material"]


def test_a_successor_shows_what_differs_from_what_it_rests_on(approved: House) -> None:
    task = change(approved)
    approved.approve_run()
    said = page_of(approved, 2)
    assert "It rests on version 1: 0 added, 1 changed, 0 removed, 10 as they were." in said
    assert "What is new: 1 row" in said
    assert f"|{task[:12]}||changed|" in said
    assert re.search(r"Relabelled: \w+ > account 1\.", said)


@pytest.mark.parametrize(
    ("exposure", "ids", "content"), [("none", False, False), ("ids", True, False), ("full", True, True)]
)
def test_the_page_shows_as_much_as_the_project_allows(labelled: House, exposure: str, ids: bool, content: bool) -> None:
    labelled.change_project(policy={"confluence_exposure": exposure})
    labelled.approve_run()
    said = page_of(labelled, 1)
    row = next(iter(gather(labelled.run(), labelled.project, labelled.version()).sample))
    text = next(one["text"] for one in labelled.examples(PROJECT) if one["labelops"]["task_id"] == row.task_id)
    assert (row.task_id[:12] in said) is ids
    assert (text in said) is content
    assert ("anna" in said) is ids


def test_everybody_who_looks_sees_the_same_sample(asked: House) -> None:
    once, again = (gather(asked.run(), asked.project, asked.version()) for _ in range(2))
    assert once == again
    assert once.fresh == len(once.sample) == 11


def test_a_page_of_somebody_else_is_left_alone_and_nobody_is_asked(labelled: House) -> None:
    space = labelled.confluence_client().space(labelled.project.confluence.space)
    title = f"Version 1 of {labelled.project.title}, for decision"
    page = {"spaceId": space.id, "title": title, "body": {"representation": "storage", "value": "<p>Notes.</p>"}}
    world._Confluence(labelled.confluence_url).call("olga", "POST", "/api/v2/pages", json={"status": "current", **page})
    with pytest.raises(Refused, match="exists and is not ours"):
        labelled.approve_run()
    assert labelled.events("approval.requested") == []


def test_asked_again_the_same_page_is_shown(asked: House) -> None:
    asked.say("quentin", "rework")
    asked.judged()
    asked.approve_run(by="olga", resubmit=[asked.version().digest[:12]], reason="explained")
    asked.approve_run()
    assert len(asked.events("approval.requested")) == 2
    assert len(asked.events("approval.shown")) == 1
