"""A version that rests on another: what is taken over, byte for byte, and what is counted anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.annotation.answers import Answer
from include.base.errors import InvalidInput
from include.base.store import Store
from include.datasets import freeze as freezing
from include.datasets.freeze import FrozenVersion, freeze, rows, verify_version
from include.datasets.kept import KeptVersion
from include.datasets.manifest import since
from include.datasets.resolve import FinalDecision
from include.datasets.withdrawals import VersionWithdrawn, withdraw
from include.queues.progress import form
from tests.datasets.make import REGISTER, START, answer, project, task

PROJECT = project()
LABELS = ("billing", "delivery", "account", "other")


def agreed(number: int, label: str | None, minutes: int = 0) -> list[Answer]:
    """Return the same answer of anna and ben; an ``ignore`` where there is no label."""
    what = (label,) if label else ()
    verdict = "accept" if label else "ignore"
    return [
        answer(
            number, person, *what, verdict=verdict, minutes=minutes + place, link=1000 * minutes + 10 * number + place
        )
        for place, person in enumerate(("anna", "ben"))
    ]


def made(
    store: Store, numbers: list[int], answers: list[Answer], base: FrozenVersion | None = None, **more: Any
) -> FrozenVersion:
    ids = sorted(task(number) for number in numbers)
    on = KeptVersion(store, PROJECT, base.digest) if base else None
    return freeze(store, PROJECT, form(ids).digest, ids, answers, register=REGISTER, base=on, **more)


def lines(version: FrozenVersion, name: str = "rows.jsonl") -> dict[bytes, bytes]:
    """Return the lines of a version's file by the task that they are about."""
    place = Path(str(version.path / name).removeprefix("file://"))
    return {line.split(b'"task_id":"')[-1][:64]: line for line in place.read_bytes().splitlines()}


FIRST = [one for number, label in ((1, "billing"), (2, "other"), (3, None)) for one in agreed(number, label)]
DISPUTED = [answer(4, "anna", "billing"), answer(4, "ben", "other")]


def test_rows_of_other_tasks_are_taken_over_byte_for_byte(store: Store) -> None:
    first = made(store, [1, 2, 3, 4], [*FIRST, *DISPUTED])
    second = made(store, [2, 5], [*agreed(2, "account", 30), *agreed(5, "billing", 40)], first)
    base = second.manifest.base
    assert base is not None
    assert (base.digest, base.kept, base.added, base.changed, base.removed) == (first.digest, 1, 1, 1, 0)
    assert lines(second)[task(1).encode()] == lines(first)[task(1).encode()]
    assert [row["task_id"] for row in rows(store, PROJECT, second.digest)] == sorted(map(task, (1, 2, 5)))
    assert verify_version(store, PROJECT, second.digest) == []
    counts = second.manifest.counts
    assert (counts.tasks, counts.rows, counts.ignored, counts.disputed) == (5, 3, 1, 1)
    assert [one.task_id for one in second.manifest.disputed.items or ()] == [task(4)]
    assert since(store, "ticket_topics", second.digest, None) == first.digest
    assert since(store, "ticket_topics", second.digest, second.manifest.batch) == second.digest


def test_four_eyes_cover_who_had_a_hand_in_what_is_new(store: Store) -> None:
    first = made(store, [1], agreed(1, "billing"))
    new = [answer(2, "carla", "other"), answer(2, "ben", "other")]
    second = made(store, [2], new, first)
    assert first.manifest.hands == {"anna", "ben"}
    assert second.manifest.hands == {"carla", "ben"}
    assert {share.id for share in second.manifest.persons} == {"anna", "ben", "carla"}
    decided = {"interface": "choice", "answer": "accept", "accept": ["delivery"]}
    third = made(
        store, [1], agreed(1, "billing"), second, decisions=[FinalDecision(task(1), "d1", decided, "dana", START)]
    )
    assert third.manifest.hands == {"anna", "ben", "dana"}
    assert made(store, [2], new, third, unfinished=True).manifest.adjudicators == ["dana"]


def test_what_is_ignored_now_leaves_the_dataset(store: Store) -> None:
    first = made(store, [1, 2], [*agreed(1, "billing"), *agreed(2, "other")])
    second = made(store, [2], agreed(2, None, 50), first)
    assert second.manifest.base is not None
    assert (second.manifest.base.kept, second.manifest.base.removed) == (1, 1)
    assert list(lines(second)) == [task(1).encode()]


def test_an_altered_base_is_refused(store: Store) -> None:
    first = made(store, [1, 2], [*agreed(1, "billing"), *agreed(2, "other")])
    place = Path(str(first.path / "rows.jsonl").removeprefix("file://"))
    place.write_bytes(place.read_bytes().replace(b"billing", b"account"))
    with pytest.raises(InvalidInput, match="was frozen"):
        made(store, [3], agreed(3, "other"), first)


def test_an_altered_list_of_sources_is_refused(store: Store) -> None:
    first = made(store, [1], agreed(1, "billing"))
    place = Path(str(first.path / "sources.jsonl").removeprefix("file://"))
    sums = freezing.measure(first.path / "sources.jsonl").sha256
    place.write_bytes(place.read_bytes().replace(b'"link_id":10', b'"link_id":99'))
    ids = [task(2)]
    with pytest.raises(InvalidInput, match="was frozen"):
        freeze(
            store, PROJECT, form(ids).digest, ids, agreed(2, "other"), register=REGISTER,
            base=KeptVersion(store, PROJECT, first.digest, sums),
        )  # fmt: skip


def test_a_base_whose_content_was_removed_is_refused_by_name(store: Store) -> None:
    first = made(store, [1], agreed(1, "billing"))
    withdraw(store, PROJECT, first.digest, person="olga", reason="erased", at=START)
    with pytest.raises(VersionWithdrawn, match="olga"):
        made(store, [2], agreed(2, "other"), first)


def test_a_base_of_another_interface_is_refused(store: Store) -> None:
    first = made(store, [1], agreed(1, "billing"))
    other = project(interface="textcat", labels=["billing"], multiple=False)
    with pytest.raises(InvalidInput, match="interface choice"):
        freeze(
            store, other, form([task(2)]).digest, [task(2)], [], register=REGISTER, unfinished=True,
            base=KeptVersion(store, PROJECT, first.digest),
        )  # fmt: skip


def test_long_lists_of_the_base_are_taken_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "INLINE", 2)
    numbers = list(range(1, 6))
    disputed = [
        one for number in numbers for one in (answer(number, "anna", "billing"), answer(number, "ben", "other"))
    ]
    repeated = [*agreed(7, "billing"), *agreed(7, "billing", 90), *agreed(8, "other"), *agreed(8, "other", 90)]
    first = made(store, [*numbers, 7, 8], [*disputed, *repeated])
    assert first.manifest.disputed.file is not None
    assert first.manifest.repeats is not None
    second = made(store, [1, 9], [*agreed(1, "billing"), *agreed(9, "other")], first)
    assert second.manifest.disputed.count == 4
    assert second.manifest.repeats is not None
    assert (second.manifest.repeats.count, second.manifest.repeats.answers) == (4, 4)
    assert verify_version(store, PROJECT, second.digest) == []


STEPS = st.lists(
    st.dictionaries(st.integers(1, 8), st.sampled_from([*LABELS, None]), min_size=1, max_size=5), min_size=1, max_size=5
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_a_chain_of_versions_holds_what_was_said_last_of_each_task(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[int, str | None]]
) -> None:
    """Each step labels some tasks; whichever way they came in, the last word on each is what the version holds."""
    store = Store(tmp_path_factory.mktemp("chain"))
    version, said, answers = None, dict[int, str | None](), dict[int, list[Answer]]()
    for number, step in enumerate(steps, 1):
        fresh = {one: agreed(one, label, 100 * number) for one, label in step.items()}
        answers |= fresh
        said |= step
        version = made(store, list(step), [one for some in fresh.values() for one in some], version)
    assert version is not None
    whole = made(store, list(said), [one for some in answers.values() for one in some])
    held = {row["task_id"]: row["value"]["accept"] for row in rows(store, PROJECT, version.digest)}
    assert held == {task(one): [label] for one, label in said.items() if label}
    mine, theirs = version.manifest, whole.manifest
    same = (
        "counts",
        "labels",
        "answers",
        "losing_reasons",
        "persons",
        "guidelines",
        "first_answer_at",
        "last_answer_at",
    )
    assert [getattr(mine, name) for name in same] == [getattr(theirs, name) for name in same]
    assert [mine.ignored, mine.losing.sha256] == [theirs.ignored, theirs.losing.sha256]
    assert verify_version(store, PROJECT, version.digest) == []
