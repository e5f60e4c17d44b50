"""Configuration files that would stop more than themselves: each is refused by name, within a moment, alone."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.base.configuration import YAML_BYTES, parse_yaml
from include.base.errors import InvalidInput
from include.bpmn.mapping import load_mapping
from include.people.register import Register
from include.projects.load import BadProject, load_project, load_projects, project_names
from include.projects.model import Project
from include.settings import ROOT, schedules
from labelops import wiring

DEFINITIONS = ROOT / "include" / "projects" / "definitions"
GOOD, ATTACKED = "product_names", "ticket_topics"

pytestmark = pytest.mark.usefixtures("within_a_moment")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "projects"
    place.mkdir()
    for path in DEFINITIONS.glob("*.yaml"):
        (place / path.name).write_bytes(path.read_bytes())
    return place


@pytest.fixture
def attacked(folder: Path) -> Path:
    return folder / f"{ATTACKED}.yaml"


def reason(folder: Path) -> str:
    """Return why the one project is refused; the other one is read all the same."""
    good, bad = load_projects(folder)
    assert isinstance(good, Project)
    assert good.name == GOOD
    assert isinstance(bad, BadProject)
    assert bad.name == ATTACKED
    return bad.reason


def laughs(levels: int) -> str:
    lines = ["l0: &l0 [ha, ha]"]
    lines += [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, levels)]
    return "\n".join(lines)


def stairs(steps: int) -> str:
    """Return lists that are each shallow, and deep by their aliases."""
    lines = ["s0: &s0 [[[[x]]]]"]
    lines += [f"s{step}: &s{step} [[[[*s{step - 1}]]]]" for step in range(1, steps)]
    return "\n".join(lines)


VALUES = {
    "a date that is none": ("2023-13-45", "not YAML .cannot be read as timestamp; text needs quotes"),
    "a tag for a number before a word": ("!!int x", "cannot be read as int"),
    "a tag for yes or no before a word": ("!!bool x", "cannot be read as bool"),
    "a tag for a fraction before a word": ("!!float x", "cannot be read as float"),
    "a tag for a number before nothing": ("!!int ''", "cannot be read as int"),
    "a tag for a time before a word": ("!!timestamp x", "cannot be read as timestamp"),
    "a tag for bytes before what is none": ("!!binary 'é'", "not YAML"),
    "a tag that would run code": ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
    "a number of 5,000 digits": ("9" * 5000, "a number of 5000 characters; allowed: 100"),
    "a number in base 60 that takes minutes": ("1" + ":59" * 100_000, "characters; allowed: 100"),
    "a fraction in base 60 that overflows": (":".join(["59"] * 33) + ".5", "owner"),
    "a list that holds itself": ("&a [*a]", "a value holds itself"),
    "fields that hold themselves": ("&a {b: {c: *a}}", "a value holds itself"),
    "3,000 nested brackets": ("[" * 3000 + "]" * 3000, "is nested more than 50 deep"),
    "3,000 nested braces": ("{a: " * 3000 + "}" * 3000, "is nested more than 50 deep"),
    "brackets that never close": ("[" * 200_000, "is nested more than 50 deep"),
    "a list for a key": ("{? [a] : b}", "found a sequence for a key; allowed: a word"),
    "fields that are merged into themselves": ("&a {<<: *a}", "a value holds itself"),
    "a key given twice, deep down": ("{a: {b: 1, b: 2}}", "b: given twice"),
    "half of a surrogate pair": (r'"\ud800"', "not YAML|unicode"),
    "an alias of nothing": ("*nothing", "undefined alias"),
}


@pytest.mark.parametrize("what", VALUES)
def test_one_value_stops_its_own_project_alone_and_is_told_with_its_line(attacked: Path, what: str) -> None:
    value, words = VALUES[what]
    before = attacked.read_text("utf-8")
    line = next(number for number, text in enumerate(before.splitlines(), 1) if text.startswith("owner:"))
    attacked.write_text(before.replace(before.splitlines()[line - 1], f"owner: {value}"), "utf-8")
    told = reason(attacked.parent)
    assert told.startswith(f"{attacked}:{line}: ")
    assert re.search(words, told), told
    assert len(told) < 500


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (laughs(12), "its aliases make more than 524288 values of it"),
        (stairs(15), "is nested more than 50 deep, by its aliases"),
        ("x: \x07", "not YAML"),
        ("---\nname: another", "not YAML"),
        ("%YAML 9.9\n---\n", "not YAML"),
    ],
    ids=["aliases that explode", "aliases upon aliases", "a bell", "a second document", "a directive in the middle"],
)
def test_a_whole_file_is_refused_alone(attacked: Path, more: str, words: str) -> None:
    attacked.write_text(f"{attacked.read_text('utf-8')}\n{more}\n", "utf-8")
    told = reason(attacked.parent)
    assert str(attacked) in told
    assert words in told


def test_aliases_as_people_use_them_are_read() -> None:
    document = parse_yaml("base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}\nagain: *b", "a.yaml")
    assert document.value == {"base": {"x": 1, "y": 2}, "other": {"x": 1, "y": 3}, "again": {"x": 1, "y": 2}}
    assert document.line_of(("other", "y")) == 2


def _pipe(place: Path) -> None:
    os.mkfifo(place)


def _link_to_a_pipe(place: Path) -> None:
    os.mkfifo(place.with_name("pipe"))
    place.symlink_to("pipe")


def _socket(place: Path) -> None:
    home = os.getcwd()
    os.chdir(place.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(place.name)
    finally:
        os.chdir(home)


def _huge(place: Path) -> None:
    with place.open("wb") as out:
        out.truncate(1 << 40)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_pipe, "is no regular file"),
        (_link_to_a_pipe, "is no regular file"),
        (_socket, "is no regular file"),
        (Path.mkdir, "is no regular file"),
        (lambda place: place.symlink_to("/dev/zero"), "is no regular file"),
        (lambda place: place.symlink_to(place.name), "ticket_topics"),
        (_huge, f"has more than the {YAML_BYTES} bytes"),
    ],
    ids=["a pipe", "a link to a pipe", "a socket", "a folder", "a device", "a link to itself", "a terabyte"],
)
def test_what_is_no_file_is_neither_waited_for_nor_read_without_end(
    attacked: Path, make: Callable[[Path], None], words: str
) -> None:
    attacked.unlink()
    make(attacked)
    assert words in reason(attacked.parent)


@pytest.mark.parametrize("field", ["due_hours", "reminder_hours", "grace_hours"])
@pytest.mark.parametrize("hours", [".inf", ".nan", "1e300"])
def test_hours_without_end_are_refused_where_they_are_read(attacked: Path, field: str, hours: str) -> None:
    before = attacked.read_text("utf-8")
    lines = [line for line in before.splitlines() if not line.strip().startswith(f"{field}:")]
    place = next(number for number, line in enumerate(lines) if line.startswith("policy:"))
    lines.insert(place + 1, f"  {field}: {hours}")
    attacked.write_text("\n".join(lines), "utf-8")
    assert f":{place + 2}: policy.{field}" in reason(attacked.parent)


def test_fifty_thousand_labels_are_counted_within_a_moment_and_not_all_told(attacked: Path) -> None:
    before = attacked.read_text("utf-8")
    lines = before.splitlines()
    place = next(number for number, line in enumerate(lines) if line.strip().startswith("labels:"))
    lines[place] = "  labels: [" + ", ".join(["a"] * 50_000) + "]"
    attacked.write_text("\n".join(lines), "utf-8")
    assert "named twice: a" in reason(attacked.parent)
    lines[place] = "  labels: [" + ", ".join(["[]"] * 50_000) + "]"
    attacked.write_text("\n".join(lines), "utf-8")
    told = reason(attacked.parent)
    assert re.search(r"and 4998\d more$", told)
    assert told.count("\n") == 20


def test_two_files_of_one_name_are_refused_and_both_are_named(folder: Path, attacked: Path) -> None:
    twin = attacked.with_suffix(".yml")
    twin.write_bytes(attacked.read_bytes())
    told = reason(folder)
    assert f"{attacked} and {twin}" in told
    assert project_names(folder) == [GOOD, ATTACKED]


@pytest.mark.parametrize("tail", ["inbox", "decisions", "v3", "v12"])
def test_projects_that_would_share_a_dataset_are_both_refused_and_the_others_go_on(folder: Path, tail: str) -> None:
    other = f"{ATTACKED}__{tail}"
    content = (folder / f"{ATTACKED}.yaml").read_text("utf-8")
    (folder / f"{other}.yaml").write_text(content.replace(f"name: {ATTACKED}", f"name: {other}"), "utf-8")
    good, *bad = load_projects(folder)
    assert good.name == GOOD
    assert [one.name for one in bad] == [ATTACKED, other]
    for one in bad:
        assert isinstance(one, BadProject)
        assert f"{ATTACKED!r} and {other!r}" in one.reason
        with pytest.raises(InvalidInput, match="would belong to both"):
            load_project(folder, one.name)


@pytest.mark.parametrize("name", [f"{ATTACKED}{tail}" for tail in ("_inbox", "__v", "__inbox_2", "__w3")])
def test_names_that_only_look_alike_are_projects_side_by_side(folder: Path, name: str) -> None:
    content = (folder / f"{ATTACKED}.yaml").read_text("utf-8")
    (folder / f"{name}.yaml").write_text(content.replace(f"name: {ATTACKED}", f"name: {name}"), "utf-8")
    assert all(isinstance(one, Project) for one in load_projects(folder))


def test_a_file_whose_name_is_no_text_is_one_bad_project(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff\x1b[2J.yaml")).write_text("name: x", "utf-8")
    names = project_names(folder)
    assert [name.encode("ascii").decode() for name in names] == names
    assert [type(one).__name__ for one in load_projects(folder)].count("BadProject") == 1


@pytest.mark.parametrize("value", ["2023-13-45", "!!int x", "&a [*a]", "[" * 3000, "9" * 5000])
def test_register_mapping_and_schedules_are_refused_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    place = tmp_path / "file.yaml"
    place.write_text(f"persons: {value}", "utf-8")
    monkeypatch.setenv("LABELOPS_SCHEDULE_FILE", str(place))
    readers: list[Callable[[], object]] = [
        lambda: Register.load(place),
        lambda: load_mapping("file", tmp_path),
        schedules,
    ]
    for read in readers:
        with pytest.raises(InvalidInput, match=r"file\.yaml:1: "):
            read()


@pytest.mark.parametrize(
    "text",
    [
        "cron: {dataset_release: nonsense}",
        "cron: {dataset_release: '0 0 30 2 *'}",
        "cron: {dataset_release: '* * * * * *'}",
        "answers_probe_seconds: .inf",
        "cron: 2023-13-45",
        "cron: &a [*a]",
        "#" * 100_000,
    ],
)
def test_a_dag_is_parsed_under_a_bad_schedule_file_with_its_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    place = tmp_path / "schedules.yaml"
    place.write_text(text, "utf-8")
    monkeypatch.setenv("LABELOPS_SCHEDULE_FILE", str(place))
    monkeypatch.setenv("LABELOPS_SCHEDULES", "on")
    assert wiring.schedule("dataset_release", "15 3 * * *").expression == "15 3 * * *"
    with pytest.raises(InvalidInput, match=r"schedules\.yaml"):
        schedules()


def test_a_dag_is_parsed_beside_a_pipe_for_a_schedule_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "schedules.yaml")
    monkeypatch.setenv("LABELOPS_SCHEDULE_FILE", str(tmp_path / "schedules.yaml"))
    assert wiring.pace().items_per_run == 500


def test_whoever_stays_for_ever_is_in_the_register_today(tmp_path: Path) -> None:
    place = tmp_path / "register.yaml"
    place.write_text(
        "persons:\n- {id: anna, name: A, valid_from: 0001-01-01, valid_until: 9999-12-31, accounts: {prodigy: [anna]}}",
        "utf-8",
    )
    found = Register.load(place).resolve("prodigy", "anna", datetime(2026, 5, 2, tzinfo=UTC))
    assert found is not None
