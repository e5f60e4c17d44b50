"""Splits: what is assigned stays, near-duplicates are on one side, and whoever is between two sides is reported."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.base.errors import InvalidInput
from include.exports.similar import EQUAL, VALUES, Groups, near, normal, sketches
from include.exports.splits import STRADDLES, Entry, Split, assign, input_digest, read_splits

SHARES = {"train": 60, "dev": 20, "test": 20}
WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "né", "東", "ру") for b in ("ta", "ron", "s", "vel", "京", "🙂")]


def rows(texts: list[str]) -> list[dict[str, Any]]:
    return [{"task_id": f"task {text}", "shown": {"text": text, "label": "x"}} for text in texts]


def split(texts: list[str], previous: Mapping[str, Entry] | None = None, *, project: str = "p") -> Split:
    return assign(rows(texts), project, SHARES, previous)


def part_of(text: str, made: Split, *, project: str = "p") -> str | None:
    return made.entries[input_digest(project, {"text": text})].part


def sentences(seed: int, count: int, words: int = 30) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choice(WORDS) + str(chance.randrange(100)) for _ in range(words)) for _ in range(count)]


def no_near_pair_is_apart(entries: Mapping[str, Entry]) -> bool:
    """Compare every pair: no index, no bands."""
    kept = [entry for entry in entries.values() if entry.part is not None]
    return all(
        one.part == other.part
        for one, other in combinations(kept, 2)
        if sum(a == b for a, b in zip(one.sketch, other.sketch, strict=True)) >= EQUAL
    )


@st.composite
def growing(draw: st.DrawFn) -> list[list[str]]:
    """Texts in steps; most of a step are edits of texts that are there: words changed, texts joined half and half."""
    chance = random.Random(draw(st.integers(0, 10_000)))
    known = sentences(chance.randrange(10**6), 3)
    steps = [list(known)]
    for _ in range(draw(st.integers(1, 3))):
        step = sentences(chance.randrange(10**6), 1)
        for _ in range(draw(st.integers(0, 8))):
            words = chance.choice(known).split()
            kind = chance.randrange(3)
            if kind == 0:
                for _ in range(chance.randrange(4)):
                    words[chance.randrange(len(words))] = chance.choice(WORDS)
            elif kind == 1:
                words = words[chance.randrange(5) : len(words) - chance.randrange(5)]
            else:
                words += chance.choice(known).split()[: chance.randrange(15)]
            step.append(" ".join(words).upper() if chance.random() < 0.2 else " ".join(words))
        known += step
        steps.append(step)
    return steps


@pytest.mark.proves("splits: an input never moves when data is added, and near-duplicates stay on one side")
@settings(deadline=None, max_examples=80)
@given(steps=growing(), keep=st.booleans())
def test_growing_data_moves_nothing(steps: list[list[str]], keep: bool) -> None:
    entries: Mapping[str, Entry] = {}
    everything: list[str] = []
    for step in steps:
        everything += step
        made = split(everything if keep else step, entries)
        for digest, entry in entries.items():
            assert made.entries[digest] == entry
        assert no_near_pair_is_apart(made.entries)
        # Whoever is in no part is named, with the reason.
        for text in step:
            task, part = f"task {text}", part_of(text, made)
            assert made.assignment.by_task.get(task) == part
            assert (part is None) == (made.assignment.reasons.get(task) == STRADDLES)
        assert len(made.entries) == len(entries) + made.added
        entries = made.entries


def between() -> tuple[str, str, str]:
    """Return two texts that are not near, and one that is near to both."""
    for seed in range(20):
        words = sentences(seed, 1, words=120)[0].split()
        changed = sentences(seed + 100, 1, words=26)[0].split()
        texts = " ".join(changed[:13] + words[13:]), " ".join(words[:-13] + changed[13:]), " ".join(words)
        first, second, middle = sketches(texts)
        if near(middle, np.array([first, second])).all() and not near(first, second[None])[0]:
            return texts
    raise AssertionError("no seed gives three such texts")


def apart(first: str, second: str) -> str:
    """Return the name of a project in which two texts are in different parts."""
    for number in range(100):
        made = split([first, second], project=f"p{number}")
        if part_of(first, made, project=f"p{number}") != part_of(second, made, project=f"p{number}"):
            return f"p{number}"
    raise AssertionError("they are near to each other")


@pytest.mark.proves("splits: an input near to two sides is left out and reported")
def test_an_input_between_two_sides_is_left_out() -> None:
    first, second, middle = between()
    project = apart(first, second)
    before = split([first, second], project=project)
    copy = middle + " zz"
    made = assign(rows([first, second, middle, copy]), project, SHARES, before.entries)
    assert made.assignment.reasons == {f"task {middle}": STRADDLES, f"task {copy}": STRADDLES}
    assert made.counts[STRADDLES] == 2
    assert no_near_pair_is_apart(made.entries)
    # It stays left out, even where only its neighbour of one side is looked at.
    again = assign(rows([middle, first]), project, SHARES, made.entries)
    assert again.assignment.reasons == {f"task {middle}": STRADDLES}
    assert again.added == 0


def test_when_all_are_new_the_one_between_ties_them_together() -> None:
    first, second, middle = between()
    made = split([first, second, middle], project=apart(first, second))
    assert len({entry.part for entry in made.entries.values()}) == 1


def test_a_new_input_joins_its_duplicate() -> None:
    texts = sentences(1, 40)
    before = split(texts)
    edits = [text.upper() + "  !" for text in texts]
    made = split(edits, before.entries)
    assert {part_of(text, before) for text in texts} == {"train", "dev", "test"}
    for text, edit in zip(texts, edits, strict=True):
        assert part_of(edit, made) == part_of(text, before)


@pytest.mark.proves("splits: labels do not decide, the project's salt and the input do")
def test_only_the_input_decides() -> None:
    texts = sentences(2, 60)
    made = split(texts)
    shuffled = rows(texts)
    random.Random(1).shuffle(shuffled)
    for row in shuffled:
        row["shown"]["label"] = "another"
        row["shown"]["options"] = [{"id": 1, "text": "x"}]
    assert assign(shuffled, "p", SHARES).entries == made.entries
    elsewhere = split(texts, project="q")
    assert [part_of(text, elsewhere, project="q") for text in texts] != [part_of(text, made) for text in texts]


def test_shares_are_kept_to_on_the_whole_and_may_change() -> None:
    texts = sentences(3, 3000, words=6)
    made = split(texts)
    counts = made.counts
    # Binomial: five standard deviations.
    assert abs(counts["train"] - 1800) < 5 * (3000 * 0.6 * 0.4) ** 0.5
    assert abs(counts["dev"] - 600) < 5 * (3000 * 0.2 * 0.8) ** 0.5
    more = sentences(4, 50)
    later = assign(rows(texts + more), "p", {"train": 90, "dev": 10}, made.entries)
    assert all(later.entries[digest] == entry for digest, entry in made.entries.items())
    assert later.assignment.parts == ("train", "dev", "test")
    assert "test" not in {part_of(text, later) for text in more}


def test_files_are_the_same_by_their_bytes() -> None:
    shown = [{"image": f"s3://a/{n}.png", "image_sha256": str(n % 10) * 64} for n in range(20)]
    made = assign([{"task_id": str(n), "shown": one} for n, one in enumerate(shown)], "p", SHARES)
    for n in range(10):
        assert made.assignment.by_task[str(n)] == made.assignment.by_task[str(n + 10)]
    assert len(made.entries) == 10
    # With other words beside it, it is another input of the same bytes.
    worded = {**shown[3], "image": "s3://b.png", "text": "look"}
    later = assign([{"task_id": "w", "shown": worded}], "p", SHARES, made.entries)
    assert later.added == 1
    assert later.assignment.by_task["w"] == made.assignment.by_task["3"]
    unknown = assign([{"task_id": "u", "shown": {"audio": "s3://c.wav"}}], "p", SHARES)
    assert next(iter(unknown.entries.values())).media == ("s3://c.wav",)


def test_two_files_of_two_sides_are_between_them() -> None:
    shown = [{"image": f"{n}.png", "image_sha256": f"{n:064x}"} for n in range(30)]
    made = assign([{"task_id": str(n), "shown": one} for n, one in enumerate(shown)], "p", SHARES)
    train = next(n for n in range(30) if made.assignment.by_task[str(n)] == "train")
    test = next(n for n in range(30) if made.assignment.by_task[str(n)] == "test")
    both = {**shown[train], "video": "x", "video_sha256": shown[test]["image_sha256"]}
    later = assign([{"task_id": "both", "shown": both}], "p", SHARES, made.entries)
    assert later.assignment.reasons == {"both": STRADDLES}


def test_the_file_gives_the_assignment_back(tmp_path: Path) -> None:
    place = tmp_path / "splits.jsonl"
    made = split([*sentences(6, 20), "", " 🙂 ", "a"])
    place.write_bytes(b"".join(made.lines()))
    assert read_splits(place, "p") == made.entries
    assert split(sentences(7, 3), read_splits(place, "p")).added == 3
    assert all(isinstance(json.loads(line), dict) for line in place.read_bytes().splitlines())
    for text in sentences(6, 20):
        assert text[:12] not in place.read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: [lines[0].replace('"p"', '"q"'), *lines[1:]], r":1: .*project: found 'q'; allowed: 'p'"),
        (lambda lines: [lines[0].replace("arrays/1", "x").replace("splits/1", "splits/9"), *lines[1:]], ":1: .*layout"),
        (lambda lines: [*lines[:2], lines[2].replace('"part":"', '"part":"x'), *lines[3:]], ":3: .*part or sketch"),
        (lambda lines: [*lines[:2], "nothing", *lines[3:]], ":3: not a line"),
        (lambda lines: lines[:-1], "found 4 inputs, its first line says 5"),
        (lambda lines: [], "is empty"),
    ],
)
def test_a_file_that_is_none_is_refused(change: Any, problem: str, tmp_path: Path) -> None:
    lines = b"".join(split(sentences(8, 5)).lines()).decode().splitlines()
    place = tmp_path / "splits.jsonl"
    place.write_text("\n".join(change(lines)))
    with pytest.raises(InvalidInput, match=problem):
        read_splits(place, "p")


@pytest.mark.parametrize("shares", [{}, {"train": 99}, {"train": 50, "holdout": 50}, {"train": 100, "dev": 0}])
def test_shares_that_are_no_whole_are_refused(shares: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="splits: found"):
        assign([], "p", shares)


def test_nothing_to_assign() -> None:
    made = split([])
    assert (made.entries, made.counts, made.added) == ({}, {}, 0)
    assert made.assignment.parts == ("train", "dev", "test")


def test_a_sketch_estimates_the_similarity() -> None:
    chance = random.Random(9)
    errors = []
    for _ in range(60):
        words = sentences(chance.randrange(10**6), 1, words=60)[0].split()
        other = list(words)
        for place in chance.sample(range(60), 6):
            other[place] = "Ω" * chance.randrange(4, 9)
        one, two = " ".join(words), " ".join(other)
        first, second = ({text[n : n + 5] for n in range(len(text) - 4)} for text in (one, normal(two)))
        found = sketches([one, two])
        errors.append(float((found[0] == found[1]).mean()) - len(first & second) / len(first | second))
    assert abs(float(np.mean(errors))) < 0.02
    assert float(np.std(errors)) < 0.06


def test_sketches_do_not_depend_on_what_else_is_sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    from include.exports import similar

    texts = [*sentences(10, 7), "", "a", "abcde", "\u00a0", "🙂" * 9]
    whole = sketches(texts)
    monkeypatch.setattr(similar, "_MANY", 50)
    assert (sketches(texts) == whole).all()
    assert (np.concatenate([sketches([text]) for text in texts]) == whole).all()
    # Kept with releases, so they may never change.
    assert sketches(["The quick brown fox"])[0, :8].tolist() == PINNED


PINNED = [133, 39, 4, 70, 41, 51, 248, 83]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 60), changed=st.integers(0, 34))
def test_no_near_pair_is_missed(seed: int, count: int, changed: int) -> None:
    """Groups found through bands are those of comparing every pair, also right at the limit."""
    chance = np.random.default_rng(seed)
    base = chance.integers(0, 3, (3, VALUES)).astype(np.uint8)
    found = base[chance.integers(0, 3, count)]
    for line in found:
        places = chance.permutation(VALUES)[: chance.integers(0, changed + 1)]
        line[places] = chance.integers(0, 256, len(places))
    things = np.arange(count) + 5
    groups, expected = Groups(count + 5), Groups(count + 5)
    groups.join_near(things, found)
    for one in range(count):
        for other in np.flatnonzero(near(found[one], found)).tolist():
            expected.join(one + 5, other + 5)
    assert [groups.find(n) for n in range(count + 5)] == [expected.find(n) for n in range(count + 5)]


def test_texts_at_the_limit_are_found_wherever_they_differ() -> None:
    """Thirty differing bytes, one in each of thirty bands: the two bands that are left find the pair."""
    chance = np.random.default_rng(4)
    for bands in combinations(range(32), 2):
        one = chance.integers(0, 256, VALUES).astype(np.uint8)
        other = one.copy()
        other[[4 * band + int(chance.integers(0, 4)) for band in range(32) if band not in bands]] += 1
        groups = Groups(2)
        groups.join_near(np.arange(2), np.array([one, other]))
        assert groups.find(1) == 0, bands
        other[4 * bands[0]] += 1
        apart = Groups(2)
        apart.join_near(np.arange(2), np.array([one, other]))
        assert apart.find(1) == 1
