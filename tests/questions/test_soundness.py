"""``labelops verify --all``: one thing in the store is wrong at a time, and each is found in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labelops.commands import main
from tests.house import House, copied
from tests.integration.airflow_house import PROJECT


@pytest.fixture(scope="module")
def released_home(tmp_path_factory: pytest.TempPathFactory, airflow_approved_home: Path) -> Path:
    """A closed installation with a release."""
    home = tmp_path_factory.mktemp("released") / "house"
    with copied(home, airflow_approved_home) as house:
        house.change_project(release={"orchestrator": "airflow"})
        house.release_run()
    return home


@pytest.fixture
def released(tmp_path: Path, released_home: Path) -> Iterator[House]:
    with copied(tmp_path / "house", released_home) as house:
        yield house


def verify(house: House, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[tuple[str, str]]]:
    capsys.readouterr()
    url = f"sqlite:///{house.ledger_file}"
    code = main(["verify", "--all", "--json", "--ledger", url, "--store", str(house.home / "store")])
    told = json.loads(capsys.readouterr().out)
    return code, [(one["kind"], one["sentence"]) for one in told["unsound"]]


def evidence(house: House) -> Path:
    ledger = house.ledger()
    digest = ledger.decisions(house.version().digest)[0].raw_digest
    ledger.close()
    return house.home / "store" / "objects" / digest[:2] / digest


def mapping(house: House) -> Path:
    digest = house.events("approval.requested")[0].body["mapping"]
    return house.home / "store" / "objects" / digest[:2] / digest


def register(house: House) -> Path:
    digest = house.events("register.in_force")[0].digest_after
    return house.home / "store" / "objects" / digest[:2] / digest


def gate(house: House) -> Path:
    return house.home / "store" / house.events("gate.passed")[0].body["report"]


def rows(house: House) -> Path:
    return house.home / "store" / house.version().path / "rows.jsonl"


def sources(house: House) -> Path:
    return rows(house).with_name("sources.jsonl")


def release(house: House) -> Path:
    return house.home / "store" / house.events("release.done")[0].body["path"]


def release_data(house: House) -> Path:
    return release(house) / "data.jsonl"


def publication(house: House) -> Path:
    return house.home / "store" / house.events("guideline.published")[0].body["path"] / "guidelines.html"


def pointer(house: House) -> Path:
    return house.home / "store" / "releases" / PROJECT / "current.json"


def guideline_pointer(house: House) -> Path:
    return house.home / "store" / "publications" / PROJECT / "guidelines" / "current.json"


def test_a_store_that_is_what_the_ledger_says_is_sound(released: House, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(released, capsys) == (0, [])
    assert main(["verify", "--all", "--ledger", f"sqlite:///{released.ledger_file}"]) == 0
    assert "are what the ledger says" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["changed", "gone"])
@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (evidence, "object"),
        (mapping, "object"),
        (register, "object"),
        (gate, "gate"),
        (rows, "version"),
        (sources, "version"),
        (release_data, "release"),
        (publication, "publication"),
        (pointer, "pointer"),
        (guideline_pointer, "pointer"),
    ],
)
def test_what_was_changed_or_is_gone_is_found(
    released: House, capsys: pytest.CaptureFixture[str], place: Callable[[House], Path], kind: str, how: str
) -> None:
    file = place(released)
    if how == "gone":
        file.unlink()
    elif kind == "pointer":
        file.write_text('{"release": "v9-000000000000"}')
    else:
        file.write_bytes(file.read_bytes()[:-1] + b" \n")
    code, found = verify(released, capsys)
    assert code == 1
    assert {one for one, _ in found} == {kind}
    assert all(len(sentence.replace(str(released.home), "")) < 400 for _, sentence in found)


def test_a_release_that_is_gone_as_a_whole_is_found(released: House, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(release(released))
    code, found = verify(released, capsys)
    assert code == 1
    assert [kind for kind, _ in found] == ["release"]


@pytest.mark.parametrize("place", [pointer, guideline_pointer])
def test_a_pointer_to_the_right_release_with_another_digest_is_found(
    released: House, capsys: pytest.CaptureFixture[str], place: Callable[[House], Path]
) -> None:
    file = place(released)
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "digest": "0" * 64}))
    code, [(kind, sentence)] = verify(released, capsys)
    assert (code, kind) == (1, "pointer")
    assert "another number or digest" in sentence
