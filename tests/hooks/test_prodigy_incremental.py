"""New rows since a state, on every engine: nothing missed, nothing twice, and what changed is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from include.base.errors import InvalidInput
from include.sandbox.prodigy_schema import import_jsonl
from include.systems.prodigy.values import RowFinding
from labelops.hooks.prodigy import ProdigyHook, incremental
from tests.hooks.test_prodigy_hook import INBOX, PROJECT, answered, connect, run, task

ANSWERS = PROJECT.answers


@pytest.fixture
def hook(prodigy_url: str, monkeypatch: pytest.MonkeyPatch) -> ProdigyHook:
    return connect(monkeypatch, prodigy_url)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and ranges so small that few rows fill them."""
    monkeypatch.setattr(incremental, "WINDOW", 5)
    monkeypatch.setattr(incremental, "BUCKETS", 4)
    monkeypatch.setattr(incremental, "RANGE", 7)


def texts(listing: Any) -> list[str]:
    return [row.content["text"] for row in listing]


def read(hook: ProdigyHook, state: str | None = None, dataset: str = INBOX) -> tuple[list[str], str, list[RowFinding]]:
    listing = hook.new_rows(dataset, resume=state)
    found = texts(listing)
    assert listing.complete
    return found, listing.state, list(listing.findings)


def add(hook: ProdigyHook, *numbers: int) -> None:
    hook.add_tasks(INBOX, [task(f"ticket {number}") for number in numbers])


def test_only_what_is_new_comes_and_a_second_read_is_empty(hook: ProdigyHook) -> None:
    found, state, _ = read(hook)
    assert found == []
    add(hook, *range(300))
    found, state, findings = read(hook, state)
    assert found == [f"ticket {number}" for number in range(300)]
    assert findings == []
    assert read(hook, state)[0] == []
    add(hook, *range(300, 310))
    found, state, findings = read(hook, state)
    assert found == [f"ticket {number}" for number in range(300, 310)]
    assert findings == []
    assert len(state) < 12_000


@pytest.mark.usefixtures("small")
def test_a_read_resumed_from_every_state_equals_a_whole_one(hook: ProdigyHook) -> None:
    add(hook, *range(40))
    whole = hook.new_rows(INBOX)
    states = [whole.state]
    for _ in whole:
        assert not whole.complete
        states.append(whole.state)
    for place, state in enumerate(states):
        found, _, findings = read(hook, state)
        assert found == [f"ticket {number}" for number in range(place, 40)]
        assert findings == []
    assert read(hook, whole.state)[0] == []


@pytest.mark.usefixtures("small")
def test_other_datasets_rows_between_ours_change_nothing(hook: ProdigyHook, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, ANSWERS, [answered(f"ticket {number}") for number in range(30)])
    _, state, _ = read(hook, dataset=ANSWERS)
    add(hook, *range(30))
    import_jsonl(prodigy_url, ANSWERS, [answered("late", "ben")])
    listing = hook.new_rows(ANSWERS, resume=state)
    [row] = listing
    assert (row.content["text"], row.session, listing.findings) == ("late", f"{ANSWERS}-ben", ())


@pytest.mark.usefixtures("small")
def test_rows_that_are_gone_are_told(hook: ProdigyHook, prodigy_url: str) -> None:
    add(hook, *range(30))
    _, state, _ = read(hook)
    rows = list(hook.rows(INBOX))
    hook.delete_examples([rows[28].example_id])
    found, after, findings = read(hook, state)
    assert found == []
    assert findings == [RowFinding("gone", rows[28].link_id, rows[28].link_id, 1, 0)]
    assert read(hook, after)[2] == [], "it is told until a listing was read to its end"
    assert read(hook, state)[2] == findings
    hook.delete_examples([rows[3].example_id])
    found, after, [finding] = read(hook, after)
    assert (finding.kind, finding.seen - finding.found) == ("gone", 1)
    assert finding.first_link <= rows[3].link_id <= finding.last_link
    assert "ticket 2" in found, "what is left of that range comes again"
    assert "ticket 3" not in found
    assert read(hook, after)[0::2] == ([], [])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("place", [4, 28])
def test_changed_content_is_told(hook: ProdigyHook, prodigy_url: str, place: int) -> None:
    add(hook, *range(30))
    _, state, _ = read(hook)
    row = list(hook.rows(INBOX))[place]
    other = json.dumps({**row.content, "text": "changed"}).encode()
    run(prodigy_url, "UPDATE example SET content = :content WHERE id = :id", content=other, id=row.example_id)
    found, after, [finding] = read(hook, state)
    assert finding.kind == "changed"
    assert finding.first_link <= row.link_id <= finding.last_link
    assert "changed" in found
    assert read(hook, after)[0::2] == ([], [])


def test_a_dropped_dataset_is_told_and_read_anew_when_made_anew(hook: ProdigyHook) -> None:
    add(hook, 1, 2)
    hook.add_tasks("other", [task("stays")])
    _, state, _ = read(hook)
    assert hook.unlink(INBOX) == 2
    found, gone, [finding] = read(hook, state)
    assert (found, finding.kind, finding.seen, finding.found) == ([], "dropped", 2, 0)
    assert read(hook, gone)[0::2] == ([], [])
    add(hook, 2, 3)
    assert read(hook, gone)[0::2] == (["ticket 2", "ticket 3"], [])
    found, _, findings = read(hook, state)
    assert found == ["ticket 2", "ticket 3"]
    assert findings, "another dataset has taken the place of the one that was read"


def test_ids_given_out_again_hide_nothing(hook: ProdigyHook, prodigy_url: str) -> None:
    add(hook, *range(10))
    _, state, _ = read(hook)
    rows = list(hook.rows(INBOX))
    hook.delete_examples(row.example_id for row in rows[6:])
    add(hook, *range(20, 24))
    found, after, findings = read(hook, state)
    assert found == [f"ticket {number}" for number in range(20, 24)]
    reused = prodigy_url.startswith("sqlite")
    assert {finding.kind for finding in findings} == ({"changed"} if reused else {"gone"})
    assert [finding.first_link for finding in findings] == [row.link_id for row in rows[6:]]
    assert read(hook, after)[0::2] == ([], [])


@pytest.mark.usefixtures("small")
def test_the_same_task_answered_anew_under_the_same_ids_is_seen(hook: ProdigyHook, prodigy_url: str) -> None:
    rows = [answered(f"ticket {number}") for number in range(30)]
    import_jsonl(prodigy_url, ANSWERS, rows)
    _, state, _ = read(hook, dataset=ANSWERS)
    last = list(hook.rows(ANSWERS))[-1]
    hook.delete_examples([last.example_id])
    import_jsonl(prodigy_url, ANSWERS, [{**rows[-1], "answer": "reject"}])
    listing = hook.new_rows(ANSWERS, resume=state)
    assert [row.content["answer"] for row in listing] == ["reject"]
    assert listing.findings


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("between", [3, 30])
def test_a_transaction_committed_late_is_not_skipped(hook: ProdigyHook, prodigy_url: str, between: int) -> None:
    if prodigy_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")
    add(hook, *range(30))
    _, state, _ = read(hook)
    engine = create_engine(prodigy_url, poolclass=NullPool, isolation_level="READ COMMITTED")
    late = task("late")
    with engine.connect() as slow:
        content = json.dumps(late, separators=(",", ":")).encode()
        values = {"i": late["_input_hash"], "t": late["_task_hash"], "c": content}
        slow.execute(text("INSERT INTO example (input_hash, task_hash, content) VALUES (:i, :t, :c)"), values)
        slow.execute(
            text(
                "INSERT INTO link (example_id, dataset_id) SELECT (SELECT max(id) FROM example), id FROM dataset "
                "WHERE name = :name"
            ),
            {"name": INBOX},
        )
        add(hook, *range(30, 30 + between))
        found, state, _ = read(hook, state)
        assert "late" not in found
        assert len(found) == between
        slow.commit()
    found, after, findings = read(hook, state)
    assert "late" in found
    assert {finding.kind for finding in findings} == {"late"}
    if between == 3:
        assert found == ["late"], "among the newest rows it comes alone"
    assert read(hook, after)[0::2] == ([], [])


@pytest.mark.usefixtures("small")
def test_an_error_in_between_loses_nothing(hook: ProdigyHook, monkeypatch: pytest.MonkeyPatch) -> None:
    add(hook, *range(20))
    listing = hook.new_rows(INBOX)
    found = [next(listing).content["text"] for _ in range(7)]
    real = ProdigyHook._linked

    def failing(*args: Any, **more: Any) -> Any:
        raise ConnectionError("gone away")

    monkeypatch.setattr(ProdigyHook, "_linked", failing)
    listing._reading = None  # type: ignore[attr-defined]
    with pytest.raises(ConnectionError):
        next(listing)
    monkeypatch.setattr(ProdigyHook, "_linked", real)
    found += texts(listing)
    assert found == [f"ticket {number}" for number in range(20)]


def test_states_of_nonsense_of_another_dataset_and_from_the_future_are_refused(
    hook: ProdigyHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(hook, 1, 2, 3)
    _, state, _ = read(hook)
    for nonsense in ("", "{}", "[]", "null", "17", state[:-9], state.replace('"done":true', '"done":false')):
        with pytest.raises(InvalidInput):
            hook.new_rows(INBOX, resume=nonsense)
    with pytest.raises(InvalidInput, match="belongs to one listing"):
        hook.new_rows("other", resume=state)
    now = incremental._now()
    monkeypatch.setattr(incremental, "_now", lambda: now - 3600)
    with pytest.raises(InvalidInput, match="future"):
        hook.new_rows(INBOX, resume=state)


def test_a_state_past_the_newest_link_is_refused_where_nothing_it_saw_is_left(
    hook: ProdigyHook, prodigy_url: str
) -> None:
    add(hook, *range(10))
    _, state, _ = read(hook)
    run(prodigy_url, "DELETE FROM link WHERE id > 1")
    found, _, findings = read(hook, state)
    assert (found, len(findings)) == ([], 9), "as long as something is left, it is rows that are gone"
    run(prodigy_url, "DELETE FROM link")
    with pytest.raises(InvalidInput, match="nothing it saw is left"):
        list(hook.new_rows(INBOX, resume=state))


def test_the_checksum_is_the_same_here_and_in_the_database(hook: ProdigyHook, prodigy_url: str) -> None:
    add(hook, *range(5))
    run(prodigy_url, "UPDATE example SET input_hash = -2147483648, task_hash = 2147483647 WHERE id = 2")
    if prodigy_url.startswith("sqlite"):
        run(prodigy_url, "UPDATE example SET content = :text WHERE id = 3", text='{"text":"édité"}')
    rows = list(hook.rows(INBOX))
    [info] = hook.datasets()
    sums = hook._sums(hook._tables(), info.id, rows[-1].link_id, 10)
    assert sums == {0: (5, sum(incremental._row_checksum(row) for row in rows))}
