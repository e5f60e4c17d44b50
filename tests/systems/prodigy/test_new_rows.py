"""New rows since a state, on every engine: nothing missed, nothing twice, and what changed is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from include.base.errors import InvalidInput
from include.sandbox.prodigy_schema import import_jsonl
from include.systems.prodigy import new_rows
from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.rows import linked_rows
from include.systems.prodigy.values import RowFinding
from tests.systems.prodigy.make import ANSWERS, INBOX, answered, run, task


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and ranges so small that few rows fill them."""
    monkeypatch.setattr(new_rows, "WINDOW", 5)
    monkeypatch.setattr(new_rows, "BUCKETS", 4)
    monkeypatch.setattr(new_rows, "RANGE", 7)


def texts(listing: Any) -> list[str]:
    return [row.content["text"] for row in listing]


def read(
    client: ProdigyClient, state: str | None = None, dataset: str = INBOX
) -> tuple[list[str], str, list[RowFinding]]:
    listing = client.new_rows(dataset, resume=state)
    found = texts(listing)
    assert listing.complete
    return found, listing.state, list(listing.findings)


def add(client: ProdigyClient, *numbers: int) -> None:
    client.add_tasks(INBOX, [task(f"ticket {number}") for number in numbers])


def test_only_what_is_new_comes_and_a_second_read_is_empty(client: ProdigyClient) -> None:
    found, state, _ = read(client)
    assert found == []
    add(client, *range(300))
    found, state, findings = read(client, state)
    assert found == [f"ticket {number}" for number in range(300)]
    assert findings == []
    assert read(client, state)[0] == []
    add(client, *range(300, 310))
    found, state, findings = read(client, state)
    assert found == [f"ticket {number}" for number in range(300, 310)]
    assert findings == []
    assert len(state) < 12_000


@pytest.mark.usefixtures("small")
def test_a_read_resumed_from_every_state_equals_a_whole_one(client: ProdigyClient) -> None:
    add(client, *range(40))
    whole = client.new_rows(INBOX)
    states = [whole.state]
    for _ in whole:
        assert not whole.complete
        states.append(whole.state)
    for place, state in enumerate(states):
        found, _, findings = read(client, state)
        assert found == [f"ticket {number}" for number in range(place, 40)]
        assert findings == []
    assert read(client, whole.state)[0] == []


@pytest.mark.usefixtures("small")
def test_other_datasets_rows_between_ours_change_nothing(client: ProdigyClient, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, ANSWERS, [answered(f"ticket {number}") for number in range(30)])
    _, state, _ = read(client, dataset=ANSWERS)
    add(client, *range(30))
    import_jsonl(prodigy_url, ANSWERS, [answered("late", "ben")])
    listing = client.new_rows(ANSWERS, resume=state)
    [row] = listing
    assert (row.content["text"], row.session, listing.findings) == ("late", f"{ANSWERS}-ben", ())


@pytest.mark.usefixtures("small")
def test_rows_that_are_gone_are_told(client: ProdigyClient, prodigy_url: str) -> None:
    add(client, *range(30))
    _, state, _ = read(client)
    rows = list(client.rows(INBOX))
    client.delete_examples([rows[28].example_id])
    found, after, findings = read(client, state)
    assert found == []
    assert findings == [RowFinding("gone", rows[28].link_id, rows[28].link_id, 1, 0)]
    assert read(client, after)[2] == [], "it is told until a listing was read to its end"
    assert read(client, state)[2] == findings
    client.delete_examples([rows[3].example_id])
    found, after, [finding] = read(client, after)
    assert (finding.kind, finding.seen - finding.found) == ("gone", 1)
    assert finding.first_link <= rows[3].link_id <= finding.last_link
    assert "ticket 2" in found, "what is left of that range comes again"
    assert "ticket 3" not in found
    assert read(client, after)[0::2] == ([], [])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("place", [4, 28])
def test_changed_content_is_told(client: ProdigyClient, prodigy_url: str, place: int) -> None:
    add(client, *range(30))
    _, state, _ = read(client)
    row = list(client.rows(INBOX))[place]
    other = json.dumps({**row.content, "text": "changed"}).encode()
    run(prodigy_url, "UPDATE example SET content = :content WHERE id = :id", content=other, id=row.example_id)
    found, after, [finding] = read(client, state)
    assert finding.kind == "changed"
    assert finding.first_link <= row.link_id <= finding.last_link
    assert "changed" in found
    assert read(client, after)[0::2] == ([], [])


def test_a_dropped_dataset_is_told_and_read_anew_when_made_anew(client: ProdigyClient) -> None:
    add(client, 1, 2)
    client.add_tasks("other", [task("stays")])
    _, state, _ = read(client)
    assert client.unlink(INBOX) == 2
    found, gone, [finding] = read(client, state)
    assert (found, finding.kind, finding.seen, finding.found) == ([], "dropped", 2, 0)
    assert read(client, gone)[0::2] == ([], [])
    add(client, 2, 3)
    assert read(client, gone)[0::2] == (["ticket 2", "ticket 3"], [])
    found, _, findings = read(client, state)
    assert found == ["ticket 2", "ticket 3"]
    assert findings, "another dataset has taken the place of the one that was read"


def test_ids_given_out_again_hide_nothing(client: ProdigyClient, prodigy_url: str) -> None:
    add(client, *range(10))
    _, state, _ = read(client)
    rows = list(client.rows(INBOX))
    client.delete_examples(row.example_id for row in rows[6:])
    add(client, *range(20, 24))
    found, after, findings = read(client, state)
    assert found == [f"ticket {number}" for number in range(20, 24)]
    reused = prodigy_url.startswith("sqlite")
    assert {finding.kind for finding in findings} == ({"changed"} if reused else {"gone"})
    assert [finding.first_link for finding in findings] == [row.link_id for row in rows[6:]]
    assert read(client, after)[0::2] == ([], [])


@pytest.mark.usefixtures("small")
def test_the_same_task_answered_anew_under_the_same_ids_is_seen(client: ProdigyClient, prodigy_url: str) -> None:
    rows = [answered(f"ticket {number}") for number in range(30)]
    import_jsonl(prodigy_url, ANSWERS, rows)
    _, state, _ = read(client, dataset=ANSWERS)
    last = list(client.rows(ANSWERS))[-1]
    client.delete_examples([last.example_id])
    import_jsonl(prodigy_url, ANSWERS, [{**rows[-1], "answer": "reject"}])
    listing = client.new_rows(ANSWERS, resume=state)
    assert [row.content["answer"] for row in listing] == ["reject"]
    assert listing.findings


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("between", [3, 30])
def test_a_transaction_committed_late_is_not_skipped(client: ProdigyClient, prodigy_url: str, between: int) -> None:
    if prodigy_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")
    add(client, *range(30))
    _, state, _ = read(client)
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
        add(client, *range(30, 30 + between))
        found, state, _ = read(client, state)
        assert "late" not in found
        assert len(found) == between
        slow.commit()
    found, after, findings = read(client, state)
    assert "late" in found
    assert {finding.kind for finding in findings} == {"late"}
    if between == 3:
        assert found == ["late"], "among the newest rows it comes alone"
    assert read(client, after)[0::2] == ([], [])


@pytest.mark.usefixtures("small")
def test_an_error_in_between_loses_nothing(client: ProdigyClient, monkeypatch: pytest.MonkeyPatch) -> None:
    add(client, *range(20))
    listing = client.new_rows(INBOX)
    found = [next(listing).content["text"] for _ in range(7)]

    def failing(*args: Any, **more: Any) -> Any:
        raise ConnectionError("gone away")

    monkeypatch.setattr(new_rows, "linked_rows", failing)
    listing._reading = None  # type: ignore[attr-defined]
    with pytest.raises(ConnectionError):
        next(listing)
    monkeypatch.setattr(new_rows, "linked_rows", linked_rows)
    found += texts(listing)
    assert found == [f"ticket {number}" for number in range(20)]


def test_states_of_nonsense_of_another_dataset_and_from_the_future_are_refused(
    client: ProdigyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, 1, 2, 3)
    _, state, _ = read(client)
    for nonsense in ("", "{}", "[]", "null", "17", state[:-9], state.replace('"done":true', '"done":false')):
        with pytest.raises(InvalidInput):
            client.new_rows(INBOX, resume=nonsense)
    with pytest.raises(InvalidInput, match="belongs to one listing"):
        client.new_rows("other", resume=state)
    now = new_rows._now()
    monkeypatch.setattr(new_rows, "_now", lambda: now - 3600)
    with pytest.raises(InvalidInput, match="future"):
        client.new_rows(INBOX, resume=state)


def test_a_state_past_the_newest_link_is_refused_where_nothing_it_saw_is_left(
    client: ProdigyClient, prodigy_url: str
) -> None:
    add(client, *range(10))
    _, state, _ = read(client)
    run(prodigy_url, "DELETE FROM link WHERE id > 1")
    found, _, findings = read(client, state)
    assert (found, len(findings)) == ([], 9), "as long as something is left, it is rows that are gone"
    run(prodigy_url, "DELETE FROM link")
    with pytest.raises(InvalidInput, match="nothing it saw is left"):
        list(client.new_rows(INBOX, resume=state))


def test_the_checksum_is_the_same_here_and_in_the_database(client: ProdigyClient, prodigy_url: str) -> None:
    add(client, *range(5))
    run(prodigy_url, "UPDATE example SET input_hash = -2147483648, task_hash = 2147483647 WHERE id = 2")
    if prodigy_url.startswith("sqlite"):
        run(prodigy_url, "UPDATE example SET content = :text WHERE id = 3", text='{"text":"édité"}')
    rows = list(client.rows(INBOX))
    [info] = client.datasets()
    sums = new_rows.sums_of(client._database, info.id, rows[-1].link_id, 10)
    assert sums == {0: (5, sum(new_rows._row_checksum(row) for row in rows))}
