from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from include.base.errors import InvalidInput
from include.projects.load import BadProject, load_project, load_projects, project_names
from include.projects.model import Exposure, Policy, Project
from include.settings import ROOT, schedules, settings

DEFINITIONS = ROOT / "include" / "projects" / "definitions"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in DEFINITIONS.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text("utf-8"), "utf-8")
    return tmp_path


def edit(folder: Path, project: str, /, **changes: Any) -> None:
    """Change fields of a project file, ``a__b`` reaching into objects."""
    path = folder / f"{project}.yaml"
    value = yaml.safe_load(path.read_text("utf-8"))
    for field, new in changes.items():
        place = value
        *outer, last = field.split("__")
        for part in outer:
            place = place[part]
        place[last] = new
    path.write_text(yaml.safe_dump(value, sort_keys=False), "utf-8")


def test_the_sample_projects_are_good(folder: Path) -> None:
    projects = load_projects(folder)
    assert [one.name for one in projects] == ["product_names", "ticket_topics"]
    assert all(isinstance(one, Project) for one in projects)
    tickets = load_project(folder, "ticket_topics")
    assert (tickets.inbox, tickets.decisions, tickets.version_dataset(3)) == (
        "ticket_topics__inbox",
        "ticket_topics__decisions",
        "ticket_topics__v3",
    )
    assert tickets.view_id == "choice"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotation__labels": ["a", "a"]}, r"annotation\.labels: .*named twice: a"),
        ({"annotation__labels": []}, r"annotation\.labels"),
        ({"annotation__rule": "single"}, r"rule `single` goes with answers_per_task 1"),
        (
            {"annotation__interface": "video"},
            r"annotation\.interface: .*'textcat', 'choice', .* or 'relations'.*found 'video'",
        ),
        ({"annotation__interface": "relations"}, r"interface `relations` needs relation_labels"),
        ({"annotation__relation_labels": ["of"]}, r"relation_labels: found some with interface `choice`"),
        (
            {"annotation__interface": "relations", "annotation__relation_labels": ["of", "other"]},
            r"label both of spans and of relations: other",
        ),
        (
            {"annotation__interface": "relations", "annotation__relation_labels": ["of", "of"]},
            r"annotation\.relation_labels: .*named twice: of",
        ),
        ({"annotation__colour": "red"}, r"annotation\.colour: Extra inputs are not permitted.*found 'red'"),
        ({"policy__approvals": []}, r"policy\.approvals"),
        ({"policy__reminder_hours": 100}, r"reminder_hours 100\.0 is after due_hours 72"),
        ({"policy__evidence": "sworn"}, r"policy\.evidence"),
        ({"name": "other_name"}, r"name: found 'other_name', but the file is called 'ticket_topics'"),
        ({"name": "Ticket Topics"}, r"name: .*a-z"),
        ({"confluence__guideline__approved": {"by": "rumour", "value": "x"}}, r"confluence\.guideline\.approved\.by"),
        ({"source__routes": [{"match": ""}]}, r"source\.routes\.0\.match"),
    ],
)
def test_a_bad_field_is_named_with_file_line_found_and_allowed(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    edit(folder, "ticket_topics", **changes)
    with pytest.raises(InvalidInput, match=words) as caught:
        load_project(folder, "ticket_topics")
    assert "ticket_topics.yaml" in str(caught.value)


def test_the_line_is_the_fields_own(folder: Path) -> None:
    path = folder / "ticket_topics.yaml"
    lines = path.read_text("utf-8").splitlines()
    place = next(number for number, line in enumerate(lines, 1) if "batch_size" in line)
    path.write_text("\n".join(lines).replace("batch_size: 100", "batch_size: many"), "utf-8")
    with pytest.raises(InvalidInput, match=rf"ticket_topics\.yaml:{place}: annotation\.batch_size"):
        load_project(folder, "ticket_topics")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "name: [", "name: a\nname: b\n", "\x00"])
def test_a_file_that_is_no_project_is_one_bad_project(folder: Path, text: str) -> None:
    (folder / "ticket_topics.yaml").write_text(text, "utf-8")
    good, bad = load_projects(folder)
    assert isinstance(good, Project)
    assert isinstance(bad, BadProject)
    assert bad.name == "ticket_topics"
    assert "ticket_topics.yaml" in bad.reason


def test_a_file_that_is_not_utf8_is_one_bad_project(folder: Path) -> None:
    (folder / "ticket_topics.yaml").write_bytes(b"name: \xff")
    assert [type(one).__name__ for one in load_projects(folder)] == ["Project", "BadProject"]


def test_unknown_names_are_refused_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="found nothing_here; allowed: product_names, ticket_topics"):
        load_projects(folder, ["ticket_topics", "nothing_here"])
    with pytest.raises(InvalidInput, match=r"no project '\.\./x'"):
        load_project(folder, "../x")


def test_listing_names_never_raises(tmp_path: Path) -> None:
    assert project_names(tmp_path / "absent") == []


def test_a_policys_digest_changes_with_every_field(folder: Path) -> None:
    policy = load_project(folder, "ticket_topics").policy
    changes: dict[str, Any] = {
        "approvals": policy.approvals[:1],
        "evidence": "asserted",
        "signature": "authenticated",
        "four_eyes": False,
        "due_hours": 73,
        "reminder_hours": 47,
        "grace_hours": 25,
        "escalation_role": None,
        "min_completeness_percent": 81,
        "require_guideline_stamp": False,
        "confluence_exposure": Exposure.NONE,
        "opentext_exposure": Exposure.NONE,
        "quarantine_exposure": Exposure.NONE,
        "guard": "head_of_data",
    }
    who_and_why = {"changed_by", "reason"}
    assert set(changes) == set(Policy.model_fields) - who_and_why
    assert policy.model_copy(update=dict.fromkeys(who_and_why, "olga")).digest == policy.digest
    digests = {policy.model_copy(update={field: value}).digest for field, value in changes.items()}
    assert len(digests | {policy.digest}) == len(changes) + 1


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STORE", "LEDGER", "PROJECTS", "REGISTER", "SOURCES", "SCHEDULES", "RETRY_SECONDS", "STORE_SHARED"):
        monkeypatch.delenv(f"LABELOPS_{name}", raising=False)
    monkeypatch.setenv("LABELOPS_HOME", str(tmp_path))
    assert settings().store == str(tmp_path / "store")
    assert settings().ledger_url == f"sqlite:///{tmp_path / 'ledger.db'}"
    assert settings().scheduled is True
    monkeypatch.setenv("LABELOPS_STORE", "s3://bucket/labelops")
    monkeypatch.setenv("LABELOPS_SCHEDULES", "off")
    monkeypatch.setenv("LABELOPS_RETRY_SECONDS", "soon")
    assert settings().store == "s3://bucket/labelops"
    assert settings().scheduled is False
    assert settings().retry_seconds == 60.0


def test_the_schedule_file_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LABELOPS_SCHEDULE_FILE", raising=False)
    assert schedules().items_per_run == 500
    bad = tmp_path / "schedules.yaml"
    bad.write_text("cron: {}\nitems_per_run: 5000\n", "utf-8")
    monkeypatch.setenv("LABELOPS_SCHEDULE_FILE", str(bad))
    with pytest.raises(InvalidInput, match=r"schedules\.yaml:2: items_per_run: .*found 5000"):
        schedules()
