from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.base.errors import InvalidInput
from include.projects.model import Exposure
from include.reporting import charts
from include.reporting.lineage import (
    DecisionFacts,
    FindingFacts,
    GuidelineFacts,
    LedgerHead,
    LineageFacts,
    ReleaseFacts,
    VersionFacts,
    build,
    summary_text,
)
from include.systems.confluence import storage

DAY = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def sha(letter: str) -> str:
    return letter * 64


FACTS = LineageFacts(
    project="topics",
    title="Ticket topics",
    versions=(
        VersionFacts(
            1,
            sha("a"),
            DAY,
            40,
            {"billing": 30, "a <b> & c": 10},
            {"anna": 25, "ben": 15},
            {sha("e"): 40},
            2,
            1,
            sha("d"),
            "released",
        ),
        VersionFacts(
            2,
            sha("c"),
            DAY + timedelta(days=3),
            5,
            {"billing": 5},
            {"anna": 5},
            {"unknown": 5},
            0,
            0,
            sha("d"),
        ),
    ),
    decisions=(
        DecisionFacts(
            sha("a"),
            "data_owner",
            "dana",
            "approve",
            "approval",
            DAY,
            "attested",
            "opentext",
            "P1",
            "https://ot.example/P1",
        ),
        DecisionFacts(
            sha("a"),
            "quality_reviewer",
            "anna",
            "approve",
            "review",
            DAY,
            "asserted",
            "opentext",
            "P1",
            "javascript:x",
            counted=False,
            reason="labelled this version",
        ),
    ),
    guidelines=(GuidelineFacts(1, sha("e"), DAY - timedelta(days=1), 4), GuidelineFacts(2, sha("9"), DAY, 4)),
    releases=(ReleaseFacts(1, sha("8"), sha("a"), DAY + timedelta(days=1), "releases/topics/v1", "topics__v1"),),
    findings=(FindingFacts("not_approved", "page 3", "its state is <empty>"),),
    answers_by_day={DAY.date(): 20, (DAY + timedelta(days=2)).date(): 25},
    names={"anna": "Anna Arnold", "dana": "Dana Dietz"},
    ledger_head=LedgerHead(17, sha("7")),
)


def text(body: str) -> str:
    return storage.text_of(storage.parse(body))


def test_the_page_is_storage_format_and_says_who_decided_what() -> None:
    page = build(FACTS)
    said = text(page.body_storage)
    assert page.title == "Ticket topics: lineage report"
    assert "has 2 dataset versions; the latest, number 2 (cccccccccccc), holds 5 answers and is frozen" in said
    assert "dana approve approval 2026-03-02 09:30 UTC attested opentext P1 yes" in said
    assert "no: labelled this version" in said
    assert "a <b> & c 10" in said
    assert "its state is <empty>" in said
    assert "up to event 17" in said
    assert sha("a") in said
    assert "javascript" not in page.body_storage


def test_each_version_has_its_lozenge_and_the_charts_are_shown() -> None:
    page = build(FACTS)
    root = storage.parse(page.body_storage)
    lozenges = [
        storage.parameters(item)
        for item in root.iter(f"{{{storage.AC}}}structured-macro")
        if item.get(f"{{{storage.AC}}}name") == "status"
    ]
    assert [item["title"] for item in lozenges] == ["FROZEN", "FROZEN", "RELEASED"]
    assert lozenges[2]["colour"] == "Green"
    shown = [item.get(f"{{{storage.RI}}}filename") for item in root.iter(f"{{{storage.RI}}}attachment")]
    assert shown == [chart.name for chart in page.charts] == ["labelops-labels.png", "labelops-answers.png"]


def test_p4_the_same_facts_in_any_order_give_the_same_bytes() -> None:
    again = replace(
        FACTS,
        versions=FACTS.versions[::-1],
        decisions=FACTS.decisions[::-1],
        guidelines=FACTS.guidelines[::-1],
        answers_by_day=dict(reversed(FACTS.answers_by_day.items())),
    )
    assert build(again) == build(FACTS)


def test_a_time_is_shown_in_utc_whatever_its_zone() -> None:
    elsewhere = timezone(timedelta(hours=5))
    moved = replace(
        FACTS, releases=(replace(FACTS.releases[0], released_at=FACTS.releases[0].released_at.astimezone(elsewhere)),)
    )
    assert build(moved) == build(FACTS)
    with pytest.raises(InvalidInput, match="without a zone"):
        build(replace(FACTS, releases=(replace(FACTS.releases[0], released_at=datetime(2026, 1, 1)),)))  # noqa: DTZ001


def server_rewrites(body: str) -> str:
    """What Confluence does to a page it is given."""
    body = body.replace(" />", "/>").replace("<p>", '<p local-id="x1">')
    body = body.replace("<ac:structured-macro ", '<ac:structured-macro ac:schema-version="1" ac:macro-id="77" ')
    return body.replace("'", "\u2019").replace("&#39;", "&rsquo;")


def test_p4_the_page_as_the_server_keeps_it_is_the_page_we_wrote() -> None:
    body = build(FACTS).body_storage
    assert server_rewrites(body) != body
    assert storage.equal(server_rewrites(body), body)


def test_any_changed_fact_changes_the_page() -> None:
    for changed in (
        replace(FACTS, versions=(FACTS.versions[0], replace(FACTS.versions[1], state="approved"))),
        replace(FACTS, decisions=FACTS.decisions[:1]),
        replace(FACTS, guidelines=FACTS.guidelines[:1]),
        replace(FACTS, releases=()),
        replace(FACTS, findings=()),
    ):
        assert not storage.equal(build(changed).body_storage, build(FACTS).body_storage)


@pytest.mark.parametrize(
    ("exposure", "there", "absent"),
    [
        (Exposure.FULL, ["Anna Arnold (anna)", "Dana Dietz (dana)"], []),
        (Exposure.IDS, ["anna", "dana"], ["Arnold", "Dietz"]),
        (Exposure.MASKED, ["anna"], ["Arnold"]),
        (Exposure.NONE, ["person 1", "person 3"], ["anna", "dana", "ben", "Arnold"]),
    ],
)
def test_p10_people_appear_as_far_as_the_policy_allows(exposure: Exposure, there: list[str], absent: list[str]) -> None:
    page = build(FACTS, exposure=exposure)
    for said in (text(page.body_storage), page.summary_text):
        assert there[-1] in said
        for piece in absent:
            assert piece not in said
    for piece in there:
        assert piece in text(page.body_storage)


def test_an_empty_project_has_a_page_too() -> None:
    page = build(LineageFacts("new", "New project"))
    said = text(page.body_storage)
    assert "Project new has no dataset version yet." in said
    assert "Nothing was released yet." in said
    assert all(chart.content.startswith(b"\x89PNG") for chart in page.charts)


def test_the_summary_is_plain_text_of_the_same_facts() -> None:
    said = summary_text(FACTS)
    assert said == build(FACTS).summary_text
    assert "Version 1: released; digest " + sha("a") in said
    assert "does not count (labelled this version)" in said
    assert "<" not in said.replace("a <b> & c", "")


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_in_the_facts_gives_a_page_that_parses(one: str, other: str) -> None:
    facts = replace(
        FACTS,
        title=one or "t",
        findings=(FindingFacts(one, other, one),),
        decisions=(replace(FACTS.decisions[1], reason=other, process_id=one),),
    )
    from include.reporting import lineage
    from include.reporting.people import People

    people = People(facts, Exposure.IDS)
    storage.parse(lineage._findings(facts, people) + lineage._decisions(facts, people))


# charts


def size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def test_charts_have_the_same_bytes_each_time_and_no_metadata() -> None:
    counts = {"billing": 3, "other": 1}
    png = charts.labels("Labels", counts)
    assert png == charts.labels("Labels", dict(reversed(counts.items())))
    assert png != charts.labels("Labels", {"billing": 4, "other": 1})
    assert size(png)[0] == 800
    for chunk in (b"Software", b"tEXt", b"iTXt", b"tIME"):
        assert chunk not in png


def test_a_chart_of_many_labels_stays_readable() -> None:
    few = charts.labels("Labels", {f"label {number}": number for number in range(charts.MOST_BARS)})
    many = charts.labels("Labels", {f"label {number}": number for number in range(500)})
    assert size(many) == size(few)


def test_labels_with_signs_of_formulas_do_not_break_the_chart() -> None:
    assert charts.labels("$x_", {"$a^{": 1, "b$": 2, " ": 0}).startswith(b"\x89PNG")


def test_days_without_answers_are_empty_places_and_long_times_are_weeks() -> None:
    start = date(2026, 1, 1)
    unit, steps = charts._steps({start: 2, start + timedelta(days=3): 1})
    assert unit == "day"
    assert [count for _, count in steps] == [2, 0, 0, 1]
    counts = {start + timedelta(days=offset): random.Random(offset).randint(0, 9) for offset in range(400)}
    unit, steps = charts._steps(counts)
    assert unit.startswith("week")
    assert sum(count for _, count in steps) == sum(counts.values())
    assert len(steps) < 60


def test_charts_can_be_opened() -> None:
    from matplotlib.image import imread

    picture = imread(BytesIO(charts.answers_by_day("Answers", {date(2026, 1, 1): 2})), format="png")
    assert picture.shape[1] == 800
    assert picture.std() > 0.01, "something is drawn"
