"""What the processes of one run share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from include.sandbox.processes import Process
from include.settings import ROOT
from tests import order, workers
from tests.workers import FOLDER, TOTALS, ends_with_run, once

ASK = """
import sys, time, uuid
from pathlib import Path
from tests.workers import once
def make():
    time.sleep(0.3)
    return uuid.uuid4().hex
print(once(Path(sys.argv[1]), "thing", make))
"""


def test_a_thing_is_made_by_one_process_and_had_by_all(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASK, str(tmp_path)]
    begun = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    made = {one.communicate(timeout=60)[0].strip() for one in begun}
    assert made == {once(tmp_path, "thing", lambda: "made again")}


def test_what_could_not_be_made_is_tried_again(tmp_path: Path) -> None:
    def fail() -> str:
        pytest.skip("no binaries")

    with pytest.raises(pytest.skip.Exception):
        once(tmp_path, "thing", fail)
    assert once(tmp_path, "thing", lambda: "made") == "made"


def test_what_was_begun_for_the_run_ends_with_it(tmp_path: Path) -> None:
    folder, files = tmp_path / "run", tmp_path / "files"
    folder.mkdir()
    files.mkdir()
    begun = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    process = Process.of(begun.pid)
    assert process is not None
    ends_with_run(folder, process, files)
    worker = SimpleNamespace(stash={FOLDER: folder}, workerinput={})
    workers.pytest_unconfigure(worker)
    assert process.alive()
    workers.pytest_unconfigure(SimpleNamespace(stash={FOLDER: folder}))
    assert not process.alive()
    assert list(tmp_path.iterdir()) == []


def test_counts_of_all_workers_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TOTALS, "tried", raising=False)
    for counts in ([(("GET", 200), 2)], [(("GET", 200), 3), (("PUT", 409), 1)]):
        workers.pytest_testnodedown(SimpleNamespace(workeroutput={"totals": {"tried": counts}}))
    workers.pytest_testnodedown(SimpleNamespace())  # one that crashed
    assert TOTALS.pop("tried") == {("GET", 200): 5, ("PUT", 409): 1}


def test_files_marked_as_long_begin_first_and_stay_whole() -> None:
    def tests(file: str, *marks: pytest.Mark) -> list[SimpleNamespace]:
        module = SimpleNamespace(iter_markers=lambda name: (one for one in marks if one.name == name))
        return [SimpleNamespace(name=f"{file}{number}", getparent=lambda kind: module) for number in (1, 2)]

    long, longest = (pytest.mark.long(seconds).mark for seconds in (30, 200))
    items = [*tests("quick"), *tests("long", long), *tests("other"), *tests("longest", longest)]
    order.pytest_collection_modifyitems(items)
    names = ["longest1", "longest2", "long1", "long2", "quick1", "quick2", "other1", "other2"]
    assert [one.name for one in items] == names
