"""Files that people write by hand, changed at random: projects, the register, process mappings, schedules."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import yaml

from include.base.configuration import load_model, parse_yaml
from include.bpmn.mapping import MAPPINGS, read_mapping
from include.people.register import Register
from include.projects.load import load_projects
from include.projects.model import Policy, Project
from include.settings import ROOT, Schedules
from tests.fuzz import Target

__all__ = ["TARGETS", "changed", "scribbled"]

PROJECTS = ROOT / "include" / "projects" / "definitions"
NOW = datetime(2026, 5, 2, tzinfo=UTC)

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 10**30, 10**400, 1.5, -0.0, 1e300, float("inf"), float("nan")),
    *("", " ", "x" * 10_000, "\x00", "\u202e", "🙂", "ticket_topics"),
    *("2023-13-45", "9999-12-31", "yes", "*", "../..", "{{"),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": {}}}, ["x"] * 1000),
)
"""Values that a field may not be ready for."""

SNIPPETS = (
    *("2023-13-45", "!!int x", "!!int ''", "!!bool x", "!!binary x", "!!set {a, b}", "!!omap [a: 1]", "!x y"),
    *("&a [*a]", "*a", "&a x", "<<: *a", "<<: [x]", "? [a]", "? {a: b}\n: c", "=", "~", ".inf", "1:59:59"),
    *("0b2", "0x_", "09", "1_000", "|", ">-", "'", '"', '"\\ud800"', '"\\x00"', "\t", "#", "\x85", "\ufeff"),
    *("%YAML 1.2", "---", "...", "0001-01-01", "9999-12-31T23:59:59+99:99", "2001-1-1 1:1:1Z"),
    *("9" * 200, "[" * 60, "{a: " * 60, "- " * 60),
)
"""Pieces of YAML that mean something where they stand."""


def changed(value: Any, random: Random) -> Any:
    """Return a value with one part of it, or some, exchanged, left out, doubled or wrapped."""
    if not isinstance(value, (dict, list)) or not value or random.random() < 0.1:
        return random.choice([*ODD, [value], {"a": value}, str(value)])
    if isinstance(value, list):
        place = random.randrange(len(value))
        more = [changed(value[place], random)] if random.random() < 0.7 else random.choice([[], [value[place]] * 2])
        return [*value[:place], *more, *value[place + 1 :]]
    key = random.choice(list(value))
    kept = {name: one for name, one in value.items() if name != key}
    chance = random.random()
    if chance < 0.7:
        return {**kept, key: changed(value[key], random)}
    return kept if chance < 0.85 else {**kept, random.choice(["", "x", "name", "<<"]): value[key]}


def scribbled(text: str, random: Random) -> str:
    """Return a text with something else in some places."""
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(text) + 1)
        colon = text.find(": ", place)
        snippet = random.choice(SNIPPETS)
        if colon >= 0 and random.random() < 0.6:
            end = text.find("\n", colon)
            text = f"{text[: colon + 2]}{snippet}{text[end:] if random.random() < 0.8 else text[colon + 2 :]}"
        else:
            text = f"{text[:place]}{snippet}{text[place + random.choice([0, 0, 1, 20]) :]}"
    return text


def _target(samples: Callable[[], list[Path]], read: Callable[[Path], object]) -> Target:
    """Return a target that changes one of some files and reads it."""

    def target(random: Random) -> object:
        sample = random.choice(samples())
        text = sample.read_text("utf-8")
        if random.random() < 0.5:
            value = yaml.safe_load(text)
            for _ in range(random.randrange(1, 4)):
                value = changed(value, random)
            text = yaml.safe_dump(value, allow_unicode=random.random() < 0.5)
        else:
            text = scribbled(text, random)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / sample.name
            place.write_bytes(text.encode("utf-8", random.choice(["replace", "surrogatepass"])))
            return read(place)

    return target


def _project(place: Path) -> object:
    """Read a project, and work out what is worked out of one before anything is done for it."""
    found = load_projects(place.parent)
    for one in found:
        if isinstance(one, Project):
            assert Policy.from_pinned(one.policy.pinned()).digest == one.policy.digest
            return NOW + one.policy.due, one.model_dump_json()
    return load_model(place, Project)


def _register(place: Path) -> object:
    register = Register.load(place)
    people = [person for one in register.content.persons for person in register.holders("data_owner", one.id, NOW)]
    return register.digest, people, register.resolve("prodigy", "anna", NOW)


def _yaml(random: Random) -> object:
    """Read YAML that is made of nothing but what YAML may hold."""
    pieces = [
        *SNIPPETS,
        ": ",
        "a",
        "b: ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\n",
        "\n  ",
        "&b ",
        "*b",
        "<<: *b",
        "!!str ",
    ]
    return parse_yaml("".join(random.choices(pieces, k=random.randrange(1, 60))), "any.yaml")


TARGETS: dict[str, Target] = {
    "project file": _target(lambda: sorted(PROJECTS.glob("*.yaml")), _project),
    "register": _target(lambda: [ROOT / "include" / "projects" / "register.yaml"], _register),
    "process mapping": _target(lambda: sorted(MAPPINGS.glob("*.yaml")), read_mapping),
    "schedule file": _target(lambda: [ROOT / "include" / "schedules.yaml"], lambda place: load_model(place, Schedules)),
    "any YAML": _yaml,
}
