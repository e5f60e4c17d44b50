from __future__ import annotations

from dataclasses import replace

import pytest

from include.agreement.accounting import Expected, Limits
from include.agreement.given import gather
from include.agreement.measure import Scheme, measure
from include.agreement.summary import Score
from include.base.canonical import digest_of
from include.datasets.diff import LabelShift, ManifestChange, VersionDiff
from include.projects.model import Exposure, Interface
from include.reporting import markup, quality
from include.reporting.facts import LineageFacts, VersionFacts
from include.reporting.lineage import build, summary_text
from include.systems.confluence import storage
from tests.agreement.make import choice, given
from tests.reporting.test_lineage import DAY, FACTS, sha, text

OLD, NEW = FACTS.versions


def measured(people: int = 3, tasks: int = 20, **limits: int):
    answers = [
        given(f"{task:02}", f"p{person}", choice("b" if (task + person) % 7 == 0 else "a"), at=task * 4000)
        for task in range(tasks)
        for person in range(people)
    ]
    answers.append(given("00", "p0", choice("a"), at=500))
    return measure(
        gather(answers), Scheme(Interface.CHOICE, ("a", "b")), digest_of("v"), Expected(people, tasks=tasks),
        limits=Limits(**limits),
    )  # fmt: skip


DIFF = VersionDiff(
    project="topics", old=OLD.digest, new=NEW.digest, old_rows=40, new_rows=5, unchanged=3, added=1, removed=36,
    relabelled=1, evidence=0, transitions={("billing", "<other>"): 1}, labels={"billing": LabelShift(30, 5, 1, 26)},
    persons={"dora": 1}, bases={"review": 1}, came_from={}, went_to={},
    manifest=(ManifestChange("counts.tasks", "43", "6"), ManifestChange("adjudicators", None, "dora")), samples=(),
)  # fmt: skip
WITH = replace(
    FACTS,
    versions=(replace(OLD, quality=measured(2)), replace(NEW, quality=measured(), changes=DIFF)),
    names={**FACTS.names, "p1": "Petra Pohl"},
)


@pytest.mark.proves("the report page shows agreement with intervals, the accounting table and the diff")
def test_the_page_shows_agreement_accounting_and_changes():
    said = text(build(WITH).body_storage)
    latest = WITH.versions[1].quality
    assert latest is not None
    alpha = latest.score("krippendorff_alpha")
    assert f"Krippendorff's alpha (nominal) {alpha.value} {alpha.low} to {alpha.high} 20" in said
    assert f"seed {latest.seed}" in said
    assert "reject: own class; ignore: missing; accept of nothing: own class" in said
    assert "Of one person's answers to a task the latest counts: 1 passed over" in said
    assert "Agreement by label, version 2" in said
    assert "Agreement by person, version 2" in said
    assert "Agreement of earlier versions" in said
    assert "Counted Version 2 " in said
    assert "Tasks from inbox " in said
    assert "Tasks 20 " in said
    assert "Expected 60 " in said
    assert "Repeated 1 " in said
    assert "Persons per task: 3: 20 tasks." in said
    assert "Repeated answers, version 2" in said
    assert "2 aaaaaaaaaaaa 3 1 36 1 0" in said
    assert "billing <other> 1" in said
    assert "dora 1" in said
    assert "counts.tasks 43 6" in said
    assert "adjudicators" not in said


def test_a_number_that_is_not_defined_says_why():
    found = measured()
    broken = replace(
        found,
        scores=(
            Score("krippendorff_alpha", None, units=3, reason="no unit has two ratings"),
            Score("percent_agreement", "1.000", units=1, reason="fewer than two units"),
        ),
    )
    said = text(build(replace(FACTS, versions=(replace(NEW, quality=broken),))).body_storage)
    assert "Krippendorff's alpha (nominal) not defined: no unit has two ratings" in said
    assert "Percent agreement 1.000 not defined: fewer than two units 1" in said


def test_p4_the_sections_have_the_same_bytes_for_the_same_facts():
    again = replace(WITH, versions=(replace(OLD, quality=measured(2)), replace(NEW, quality=measured(), changes=DIFF)))
    assert build(again) == build(WITH)


@pytest.mark.parametrize(
    ("exposure", "there", "absent"),
    [
        (Exposure.FULL, ["Petra Pohl (p1)", "p2", "dora"], []),
        (Exposure.IDS, ["p1", "p2", "dora"], ["Petra"]),
        (Exposure.NONE, ["person "], ["p0", "p1", "p2", "dora", "Petra"]),
    ],
)
def test_p10_people_appear_in_the_sections_as_far_as_the_policy_allows(exposure, there, absent):
    page = build(WITH, exposure=exposure)
    said = text(page.body_storage)
    for piece in there:
        assert piece in said
    for piece in absent:
        assert piece not in said.split()
        assert piece not in page.summary_text.split()
    assert summary_text(WITH, exposure=exposure) == page.summary_text


def test_the_summary_has_the_numbers_without_people():
    said = summary_text(WITH, exposure=Exposure.NONE)
    assert "Agreement of version 2: Krippendorff's alpha (nominal) " in said
    assert "Answers of version 2: 60 of 60 expected; 0 task(s) with too few, 0 with too many; 1 repeated." in said
    assert f"Version 2 against {DIFF.old[:12]}: 3 unchanged, 1 added, 36 removed, 1 relabelled" in said


def test_tables_are_bounded_and_the_rest_is_counted():
    many = replace(NEW, quality=measured(people=quality.MOST + 4))
    said = text(build(replace(FACTS, versions=(many,))).body_storage)
    assert said.count("4 more people are not shown.") == 3
    assert markup.table(("a",), [["1"], ["2"], ["3"]], "none", most=2, what="things").endswith(
        "<p>1 more things are not shown.</p>"
    )
    top = markup.top({str(number): number for number in range(40)})
    assert (top[:13], top[-14:]) == ("39 39, 38 38,", "10 10, 10 more")


@pytest.mark.proves("the report page stays within Confluence's size however much there is to tell")
def test_a_project_of_many_versions_people_and_labels_still_fits_a_page():
    found = measured(people=120, tasks=30)
    wide = replace(
        DIFF,
        transitions={(f"label {number}", f"label {number + 1}"): 5 for number in range(5000)},
        labels={f"label {number}": LabelShift(1, 2, 1, 0) for number in range(5000)},
        persons={f"person {number}": 1 for number in range(5000)},
    )
    versions = [
        VersionFacts(
            number, sha("a"), DAY, 40, {f"label {one}": 3 for one in range(500)},
            {f"p{one}": 9 for one in range(120)}, {sha("e"): 40}, 2, 1, sha("d"), quality=found, changes=wide,
        )
        for number in range(1, 301)
    ]  # fmt: skip
    page = build(LineageFacts("topics", "Topics", versions=versions))
    assert len(page.body_storage.encode()) < 1024 * 1024


def test_an_adopted_batch_is_all_orphans():
    adopted = replace(NEW, quality=measured(), origin="adopted")
    said = text(build(replace(FACTS, versions=(adopted,))).body_storage)
    assert "Tasks from adopted " in said
    assert "Orphans 61 " in said


def test_a_release_that_was_recalled_is_not_to_be_used():
    recalled = replace(FACTS, releases=(replace(FACTS.releases[0], recalled_at=DAY),))
    said = text(build(recalled).body_storage)
    assert "there is nothing that training may use" in said
    assert "topics__v1 2026-03-02 09:30 UTC" in said
    assert "; recalled 2026-03-02 09:30 UTC." in summary_text(recalled)
    assert storage.parse(build(recalled).body_storage) is not None
