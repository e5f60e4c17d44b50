"""A version is the dataset: what it rests on, what it takes in, and what becomes of it when that is withdrawn."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from include.base.errors import Refused
from include.base.store import Store
from include.datasets.diff import changes
from include.datasets.freeze import rows as rows_of
from include.datasets.manifest import read_manifest
from include.questions.labels import trace
from include.questions.shared import Records
from include.questions.soundness import unsound
from include.releases.dataset import Dataset
from include.releases.reproduction import reproduce_version
from include.sandbox.prodigy_schema import import_jsonl
from tests.house import House, opened
from tests.integration.airflow_house import FIRST_ANSWER, PROJECT
from tests.servers import ENGINES, fresh_database

LATE_ROWS = 'id,message\nl-1,"Cancel my order 12 please."\nl-2,"The app crashes at login."\n'


class Story:
    """A dataset on its way, told by what people do."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._hours = count(10)

    def bring_in(self) -> None:
        """Let guideline and tasks arrive, in batches of eight; what Airflow approves it releases."""
        house = self.house
        house.change_project(
            annotation={"batch_size": 8},
            release={"orchestrator": "airflow"},
            policy={"min_completeness_percent": 80, "changed_by": "olga", "reason": "two disputes are expected"},
        )
        house.sync_guidelines()
        house.ingest()

    def answer(self, tasks: set[str]) -> None:
        self.house.answer_all(lambda task: task["labelops"]["task_id"] in tasks)

    def answer_again(self, task_id: str, *labels: str) -> None:
        """Let anna and ben both give a task other labels, and the quiet time go by."""
        last = {
            one["_session_id"]: one for one in self.house.examples(PROJECT) if one["labelops"]["task_id"] == task_id
        }
        moment = int((FIRST_ANSWER + timedelta(hours=next(self._hours))).timestamp())
        self.house.answer([{**one, "accept": list(labels), "_timestamp": moment} for one in last.values()])
        self.house.later += timedelta(hours=2)

    def decide(self, task_id: str, answer: str, decision_id: str) -> None:
        """Let carla decide a task for good."""
        task = next(one for one in self.house.examples(PROJECT) if one["labelops"]["task_id"] == task_id)
        said = {"decision_id": decision_id, "person": "carla", "kind": "decision"}
        moment = int((FIRST_ANSWER + timedelta(hours=next(self._hours))).timestamp())
        row = {**task, "answer": answer, "labelops": {**task["labelops"], **said}, "_timestamp": moment}
        import_jsonl(self.house.prodigy_url, self.house.project.decisions, [row])
        self.house.later += timedelta(hours=2)

    def approve(self) -> str:
        """Let both approvers approve what waits, and Airflow release it; return the version's digest."""
        result = self.house.approve()
        assert result["state"] == "approved", result["sentence"]
        [released] = self.house.release_run()
        assert released["state"] == "released", released["sentence"]
        return str(result["detail"]["digest"])

    @property
    def batches(self) -> list[set[str]]:
        """Return the tasks of each batch, in the order of their assignment."""
        run = self.house.run()
        return [set(run.store.get_value(one.digest_after or "")) for one in self.house.events("batch.assigned")]

    def tasks(self, digest: str) -> set[str]:
        """Return the tasks that a version has a row of."""
        return {row["task_id"] for row in rows_of(self.house.run().store, PROJECT, digest)}

    def manifest(self, digest: str) -> Any:
        return read_manifest(self.house.run().store, PROJECT, digest)

    def changed(self, old: str, new: str) -> list[tuple[str, str, str | None]]:
        """Return kind, task and reason of what differs between two versions."""
        found = changes(self.house.run().store, PROJECT, old, new)
        return [(one.kind, one.task_id, one.elsewhere) for one in found]

    def released(self) -> tuple[int | None, set[str]]:
        """Return the number of the release that training may use, and the tasks in its data."""
        folder = self.house.home / "store" / "releases" / PROJECT
        pointer = json.loads((folder / "current.json").read_bytes())
        if pointer["release"] is None:
            return None, set()
        lines = (folder / pointer["release"] / "data.jsonl").read_text("utf-8").splitlines()
        return pointer["number"], {json.loads(line)["meta"]["task_id"] for line in lines}

    def state(self, digest: str) -> str:
        run = self.house.run()
        return Dataset.of(run, self.house.project).states[digest].state


@pytest.fixture
def story(house: House) -> Story:
    return Story(house)


def live(story: Story) -> dict[str, str]:
    """Go through seven versions; return their digests by what they are."""
    house = story.house
    story.bring_in()
    first, second = story.batches
    story.answer(first)
    [asked] = house.approve_run()
    one = asked["detail"]["digest"]

    # Two more batches finish beside each other while the first version is before its approvers: they wait.
    (house.home / "sources" / PROJECT / "late.csv").write_text(LATE_ROWS, "utf-8")
    house.ingest()
    third = story.batches[2]
    story.answer(second | third)
    assert [item["detail"]["digest"] for item in house.approve_run()] == [one]
    assert story.approve() == one
    assert story.tasks(one) <= first
    assert story.manifest(one).base is None
    assert story.released() == (1, story.tasks(one))

    # The successor holds the whole dataset; it is refused, and nothing else is made while nothing else is new.
    [asked] = house.approve_run()
    two = asked["detail"]["digest"]
    base = story.manifest(two).base
    assert (base.digest, base.kept, base.changed, base.removed) == (one, len(story.tasks(one)), 0, 0)
    assert {kind for kind, _, _ in story.changed(one, two)} == {"added"}
    assert story.tasks(two) - story.tasks(one) <= second | third
    house.say("quentin", "rejected")
    assert [item["state"] for item in house.judged()] == ["rejected"]
    assert house.approve_run() == []

    # Reworked, its batches come back, on the base that it had.
    reworked = min(story.tasks(two) & second)
    story.answer_again(reworked, "account")
    [asked] = house.approve_run()
    three = asked["detail"]["digest"]
    assert story.manifest(three).base.digest == one
    assert story.tasks(three) == story.tasks(two)
    assert story.changed(two, three) == [("relabelled", reworked, None)]
    assert story.approve() == three
    assert story.released() == (3, story.tasks(three))

    # One row of the first version is withdrawn by a decision: whom four eyes cover is who did that.
    withdrawn = min(story.tasks(one))
    story.decide(withdrawn, "ignore", "case-7")
    [asked] = house.approve_run()
    four = asked["detail"]["digest"]
    base = story.manifest(four).base
    assert (base.digest, base.added, base.changed, base.removed) == (three, 0, 0, 1)
    assert "carla" in base.hands
    assert story.changed(three, four) == [("removed", withdrawn, "ignored")]
    assert story.approve() == four
    assert story.released() == (4, story.tasks(three) - {withdrawn})

    # Another row is labelled anew: it is a changed one, and the others keep the bytes that were approved.
    relabelled = max(story.tasks(four) & second)
    story.answer_again(relabelled, "delivery", "other")
    [asked] = house.approve_run()
    five = asked["detail"]["digest"]
    base = story.manifest(five).base
    assert (base.added, base.changed, base.removed) == (0, 1, 0)
    assert story.changed(four, five) == [("relabelled", relabelled, None)]
    assert sorted(base.hands) == ["anna", "ben"]
    assert story.approve() == five

    # The first is withdrawn: all that rest on it go stale, their releases are recalled, nothing of it is left.
    house.approve_run(by="dana", withdraw=[one[:12]], reason="the guideline was misread")
    states = {name: story.state(digest) for name, digest in (("1", one), ("2", two), ("3", three), ("5", five))}
    assert states == {"1": "withdrawn", "2": "rejected", "3": "stale", "5": "stale"}
    assert {item["state"] for item in house.release_run()} == {"recalled"}
    assert story.released() == (None, set())

    # What was only stale comes back by itself, without the base: nobody said anything against it.
    [asked] = house.approve_run()
    six = asked["detail"]["digest"]
    assert story.manifest(six).base is None
    assert story.tasks(six) == story.tasks(five) - first
    assert story.approve() == six
    assert story.released() == (6, story.tasks(five) - first)

    # The withdrawn rows come back with their rework, but for the one that was withdrawn by itself.
    mended = min(story.tasks(four) & first)
    story.answer_again(mended, "other")
    [asked] = house.approve_run()
    seven = asked["detail"]["digest"]
    assert story.manifest(seven).base.digest == six
    assert story.tasks(seven) == story.tasks(four)
    assert story.approve() == seven
    assert house.approve_run() == []
    assert house.release_run() == []
    made = {"one": one, "two": two, "three": three, "four": four, "five": five, "six": six, "seven": seven}
    proven(story, made, reworked)
    return made


def proven(story: Story, made: dict[str, str], reworked: str) -> None:
    """Ask for proof: all is what the ledger says, can be made again, and a row tells since when it is as it is."""
    house = story.house
    run = house.run()
    records = Records(run.ledger, Store(house.home / "store"))
    assert list(unsound(records)) == []
    for name, digest in made.items():
        chain = list(reproduce_version(run.store, house.project, run.register, digest, house.prodigy()))
        assert all(one.reproduced for one in chain), [one.sentence for one in chain]
        assert [one.digest for one in chain] == list(Dataset.of(run, house.project).chain(digest)), name
    told = trace(records, reworked, PROJECT).versions
    assert {one.version.number: one.since.number for one in told if one.since is not None} == {
        2: 2,
        3: 3,
        4: 3,
        5: 3,
        6: 6,
        7: 6,
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_a_dataset_through_its_versions(
    request: pytest.FixtureRequest, tmp_path: Path, run_folder: Path, engine: str
) -> None:
    server = "postgres_url" if engine == "postgresql" else "mariadb_url"
    database = nullcontext() if engine == "sqlite" else fresh_database(request.getfixturevalue(server))
    with database as url, opened(House(tmp_path / "house", url)) as house:
        house.seed()
        made = live(Story(house))
    place = run_folder / "dataset_versions.json"
    if place.exists():
        assert json.loads(place.read_text("utf-8")) == made, "digests differ between the engines"
    place.write_text(json.dumps(made), "utf-8")


# ---- increments, and from them to a dataset --------------------------------------------------------------------------


def increments(story: Story) -> None:
    """Let each of two batches be a version by itself, both before their approvers at once."""
    story.house.change_version("batch")
    story.bring_in()
    story.house.answer_all()
    asked = story.house.approve_run()
    assert [item["state"] for item in asked] == ["waiting", "waiting"]
    tasks = [story.tasks(item["detail"]["digest"]) for item in asked]
    assert tasks[0]
    assert tasks[1]
    assert not tasks[0] & tasks[1]
    assert [story.manifest(item["detail"]["digest"]).base for item in asked] == [None, None]


def test_increments_are_a_batch_each(story: Story) -> None:
    increments(story)
    house = story.house
    first, second = (event.digest_after for event in house.events("version.frozen"))
    house.say_all("quentin", "approved")
    house.say_all("dana", "approved")
    assert [item["state"] for item in house.approve_run()] == ["approved", "approved"]
    assert [item["state"] for item in house.release_run()] == ["released", "released"]
    house.approve_run(by="dana", withdraw=[first[:12]], reason="the guideline was misread")
    assert (story.state(first), story.state(second)) == ("withdrawn", "approved")


def test_a_project_goes_from_increments_to_a_dataset(story: Story) -> None:
    """What is before its approvers stays there; the next version holds what the increments held."""
    increments(story)
    house = story.house
    first, second = (event.digest_after for event in house.events("version.frozen"))
    house.change_version("dataset")
    assert [item["state"] for item in house.approve_run()] == ["waiting", "waiting"]
    house.say_all("quentin", "approved")
    house.say_all("dana", "approved")
    assert [item["state"] for item in house.approve_run()] == ["approved", "approved"]
    assert house.approve_run() == []
    task = min(story.tasks(first))
    story.answer_again(task, "account", "other")
    [asked] = house.approve_run()
    third = asked["detail"]["digest"]
    assert story.manifest(third).base.digest == second
    assert story.tasks(third) == story.tasks(first) | story.tasks(second)
    assert house.approve()["state"] == "approved"


def test_batches_that_two_persons_closed_go_one_after_the_other(story: Story) -> None:
    """A version says who closed its batch unfinished, and why: it has one place for that."""
    story.bring_in()
    first, second = (event.digest_after for event in story.house.events("batch.assigned"))
    house = story.house
    house.change_project(policy={"min_completeness_percent": 0})
    some = [set(sorted(tasks)[:3]) for tasks in story.batches]
    story.answer(some[0] | some[1])
    house.approve_run(by="olga", close=[first[:12]], reason="the season is over")
    house.approve_run(by="carla", close=[second[:12]], reason="nobody is left")
    story.approve()
    [asked] = house.approve_run()
    manifest = story.manifest(asked["detail"]["digest"])
    assert (manifest.closed_by.person, manifest.closed_by.reason) == ("carla", "nobody is left")
    assert manifest.base.kept == 3
    assert manifest.counts.missing == 7


# ---- what stands in the way ------------------------------------------------------------------------------------------


def test_rows_of_an_approval_that_expired_come_back_with_the_next_version(story: Story) -> None:
    house = story.house
    story.bring_in()
    first, second = story.batches
    story.answer(first)
    [asked] = house.approve_run()
    house.later += timedelta(days=300)
    assert [item["state"] for item in house.approve_run()] == ["expired"]
    assert house.approve_run() == []
    story.answer(second)
    [again] = house.approve_run()
    assert story.tasks(again["detail"]["digest"]) >= story.tasks(asked["detail"]["digest"])
    assert story.manifest(again["detail"]["digest"]).counts.tasks == len(first | second)


def test_a_version_that_cannot_be_asked_about_is_overtaken_by_its_rework(story: Story) -> None:
    """What stands in its way here is that nobody may approve; it holds up what finishes beside it, and no longer."""
    house = story.house
    story.bring_in()
    first, second = story.batches
    story.answer(first)
    house.change_register(
        "dana", roles=[{"role": "data_owner"}], accounts={"prodigy": ["dana"], "opentext": ["dana@people.example"]}
    )
    row = next(one for one in house.examples(PROJECT) if one["labelops"]["task_id"] in first)
    house.answer([{**row, "_annotator_id": f"{PROJECT}-dana", "_session_id": f"{PROJECT}-dana"}])
    with pytest.raises(Refused, match="dana had a hand in it"):
        house.approve_run()
    story.answer(second)
    with pytest.raises(Refused, match="dana had a hand in it"):
        house.approve_run()
    assert len(house.events("version.ready")) == 1
    house.add_deputy()
    story.answer_again(min(first), "account")
    [asked] = house.approve_run()
    assert [event.reason for event in house.events("approval.stale")] == [
        "Its tasks were labelled or decided again before anybody was asked."
    ]
    assert story.manifest(asked["detail"]["digest"]).counts.tasks == len(first | second)
