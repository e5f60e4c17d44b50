from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.base.errors import InvalidInput, LedgerBehind, Refused
from include.base.store import Store
from include.governance import checkpoint as checkpoints
from include.governance.checkpoint import require_not_behind, write_checkpoint
from include.governance.ledger import Ledger, chain_hash
from include.governance.records import Head
from include.governance.verify import FINDINGS_KEPT, verify
from tests.governance.ledgers import (
    decision,
    digest,
    fill,
    moment,
    note,
    raw,
    rechain,
    tamper,
)


@pytest.fixture
def filled_sqlite(sqlite_ledger: Ledger) -> Ledger:
    """Ten events in SQLite, for the many variants of a case that was shown on both kinds of database."""
    return fill(sqlite_ledger)


def kinds(ledger: Ledger, checkpoint: Head | list[Head] | None = None) -> list[tuple[str, int | None]]:
    outcome = verify(ledger, checkpoint)
    assert outcome.ok == all(finding.warning for finding in outcome.findings)
    return [(finding.kind, finding.seq) for finding in outcome.findings]


def swap(first: int, second: int) -> list[str]:
    return [
        f"UPDATE event SET seq = -99 WHERE seq = {first}",
        f"UPDATE event SET seq = {first} WHERE seq = {second}",
        f"UPDATE event SET seq = {second} WHERE seq = -99",
    ]


def shift(first: int, by: int, last: int = 10) -> list[str]:
    """Give the events from ``first`` on other numbers, without two ever having the same."""
    numbers = range(first, last + 1)
    return [
        f"UPDATE event SET seq = {number + by} WHERE seq = {number}"
        for number in (numbers if by < 0 else reversed(numbers))
    ]


COPY = (
    "INSERT INTO event SELECT {seq}, time, 'forged', actor, action, project, subject, digest_before, digest_after, "
    "reason, run, body, '{prev}', '{hash}' FROM event WHERE seq = {like}"
)

# ---- tampering with the chain


def test_a_changed_event_is_found(filled: Ledger) -> None:
    tamper(filled, "UPDATE event SET actor = 'somebody else' WHERE seq = 5")
    outcome = verify(filled)
    assert not outcome.ok
    assert [finding.sentence for finding in outcome.findings] == [
        "Event 5 was changed: its content does not match its hash."
    ]


def test_a_changed_event_with_its_own_hash_made_anew_is_found(filled: Ledger) -> None:
    row = dict(raw(filled, "SELECT * FROM event WHERE seq = 5")[0]._mapping, actor="somebody else")
    new = chain_hash(row["prev_hash"], row, json.loads(row["body"]))
    tamper(filled, f"UPDATE event SET actor = 'somebody else', hash = '{new}' WHERE seq = 5")
    assert kinds(filled) == [("changed", 5)]


@pytest.mark.parametrize("body", ['{"number": 5}', '{"number":5,"number":5}', "{", '{"a":0.5}', "[]", ""])
def test_a_body_that_is_spelled_otherwise_is_found(filled_sqlite: Ledger, body: str) -> None:
    tamper(filled_sqlite, "UPDATE event SET body = :body WHERE seq = 5", body=body)
    assert kinds(filled_sqlite) == [("changed", 5)]


def test_a_removed_event_is_found(filled: Ledger) -> None:
    tamper(filled, "DELETE FROM event WHERE seq = 5")
    assert kinds(filled) == [("removed", 5)]


def test_removed_first_events_are_found(filled: Ledger) -> None:
    tamper(filled, "DELETE FROM event WHERE seq <= 2")
    outcome = verify(filled)
    assert [finding.sentence for finding in outcome.findings] == [
        "Events 1 to 2 are missing: the ledger goes on with event 3."
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_a_removed_event_whose_gap_was_closed_is_found(filled_sqlite: Ledger, count: int) -> None:
    tamper(filled_sqlite, f"DELETE FROM event WHERE seq >= 2 AND seq < {2 + count}", *shift(2 + count, -count))
    found = [kind for kind in kinds(filled_sqlite) if not kind[0].startswith("row_")]
    assert found == [("removed", 2)]


def test_an_inserted_event_is_found(filled: Ledger) -> None:
    tamper(filled, *shift(6, +1), COPY.format(seq=6, prev="00" * 32, hash="11" * 32, like=5))
    found = [kind for kind in kinds(filled) if not kind[0].startswith("row_")]
    assert found == [("changed", 6), ("inserted", 6)]


def test_an_inserted_event_that_fits_its_place_is_found(filled: Ledger) -> None:
    row = dict(raw(filled, "SELECT * FROM event WHERE seq = 5")[0]._mapping)
    forged = chain_hash(row["hash"], {**row, "seq": 6, "key": "forged"}, json.loads(row["body"]))
    # The chain allows one follower of each event only, so the forger has to unlink the true one.
    with pytest.raises(sa.exc.IntegrityError):
        tamper(filled, *shift(6, +1), COPY.format(seq=6, prev=row["hash"], hash=forged, like=5))
    assert verify(filled).ok


def test_an_event_below_the_first_is_found(filled: Ledger) -> None:
    tamper(filled, "UPDATE event SET seq = -5 WHERE seq = 10")
    assert ("inserted", -5) in kinds(filled)


@pytest.mark.parametrize(("first", "second"), [(5, 6), (1, 2), (9, 10), (2, 9)])
def test_events_that_changed_places_are_found(filled_sqlite: Ledger, first: int, second: int) -> None:
    tamper(filled_sqlite, *swap(first, second))
    found = kinds(filled_sqlite)
    assert ("reordered", first) in found
    assert ("reordered", second) in found


def test_a_cut_tail_is_found_by_the_checkpoint(filled: Ledger) -> None:
    head = filled.head()
    tamper(filled, "DELETE FROM event WHERE seq > 8")
    assert verify(filled).ok, "a chain alone cannot show it"
    outcome = verify(filled, head)
    assert [(finding.kind, finding.seq) for finding in outcome.findings] == [("truncated", 8)]
    assert "it had 10 events: 2 were cut off" in outcome.findings[0].sentence


def test_an_emptied_ledger_is_found_by_the_checkpoint(filled: Ledger) -> None:
    head = filled.head()
    tamper(filled, "DELETE FROM event", "DELETE FROM decision", "DELETE FROM dataset_version")
    assert kinds(filled, head) == [("truncated", 0)]


def test_a_chain_made_anew_is_found_by_the_checkpoint(filled: Ledger) -> None:
    early, head = replace(filled.head(), size=3, hash=filled.find("k3").hash), filled.head()  # type: ignore[union-attr]
    tamper(filled, "UPDATE event SET actor = 'somebody else' WHERE seq = 5")
    rechain(filled, 5)
    assert verify(filled).ok, "a chain alone cannot show it"
    assert kinds(filled, early) == []
    assert kinds(filled, head) == [("rechained", 10)]
    filled.append(note(11))
    assert kinds(filled, [early, head]) == [("rechained", 10)]


def test_a_chain_of_another_identity_is_found(filled: Ledger) -> None:
    head = filled.head()
    raw(filled, "UPDATE ledger_info SET ledger_id = 'forged'")
    assert kinds(filled, head) == [("changed", 1), ("other_ledger", None)]


def test_a_clock_that_went_back_is_a_warning(filled: Ledger) -> None:
    filled.append(note(11), time=moment(0))
    outcome = verify(filled, filled.head())
    assert outcome.ok
    assert [(finding.kind, finding.seq, finding.warning) for finding in outcome.findings] == [("clock_back", 11, True)]
    assert next(filled.events(after=10)).time == moment(0)


def test_switched_off_guards_are_found(filled: Ledger) -> None:
    if filled.dialect == "sqlite":
        raw(filled, "DROP TRIGGER event_no_delete")
        name = "event_no_delete"
    else:
        raw(filled, "ALTER TABLE event DISABLE TRIGGER event_append_only")
        name = "event_append_only"
    outcome = verify(filled)
    assert [finding.kind for finding in outcome.findings] == ["unguarded"]
    assert name in outcome.findings[0].sentence


def test_findings_are_counted_beyond_what_is_kept(sqlite_ledger: Ledger) -> None:
    with sqlite_ledger.transaction() as transaction:
        for number in range(FINDINGS_KEPT + 5):
            transaction.append(note(number))
    tamper(sqlite_ledger, "UPDATE event SET actor = 'x'")
    outcome = verify(sqlite_ledger)
    assert (len(outcome.findings), outcome.more, outcome.ok) == (FINDINGS_KEPT, 5, False)


# ---- any change of any field


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    ledger.migrate()
    for number in range(4):
        ledger.append(note(number, body={}) if number == 2 else note(number), key=None if number == 1 else f"k{number}")
    ledger.record_decision(decision())
    assert verify(ledger).ok
    ledger.close()
    with sqlite3.connect(folder / "ledger.db") as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return folder / "ledger.db"


COLUMNS = (
    "seq", "time", "key", "actor", "action", "project", "subject", "digest_before", "digest_after", "reason", "run",
    "body", "prev_hash", "hash",
)  # fmt: skip

VALUES = st.one_of(
    st.none(),
    st.integers(-(2**40), 2**40),
    st.text(max_size=30),
    st.binary(max_size=10),
    st.floats(allow_nan=False),
    st.sampled_from(
        ["", " ", "{}", "[]", "null", digest(0), digest(1), digest(1).upper(), "2026-01-01T00:00:00.000000Z"]
    ),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seq=st.integers(1, 5), column=st.sampled_from(COLUMNS), value=VALUES)
def test_any_change_of_one_field_is_found(original: Path, tmp_path: Path, seq: int, column: str, value: object) -> None:
    copy = tmp_path / "copy.db"
    for old in tmp_path.glob("copy.db*"):
        old.unlink()
    shutil.copy(original, copy)
    connection = sqlite3.connect(copy)
    query = f"SELECT typeof({column}), {column} FROM event ORDER BY seq LIMIT 1 OFFSET {seq - 1}"
    before = connection.execute(query).fetchone()
    try:
        with connection:
            connection.execute(f"UPDATE event SET {column} = ? WHERE seq = ?", (value, seq))
        where = "seq = ?" if column != "seq" else "rowid = ?"
        place = seq if column != "seq" else value
        after = connection.execute(f"SELECT typeof({column}), {column} FROM event WHERE {where}", (place,)).fetchone()
    except (sqlite3.IntegrityError, OverflowError, UnicodeEncodeError):
        return  # the database refused the change by itself
    finally:
        connection.close()
    ledger = Ledger(f"sqlite:///{copy}")
    found = [finding for finding in verify(ledger).findings if finding.kind not in ("unguarded", "clock_back")]
    ledger.close()
    assert bool(found) == (after != before), (column, seq, before, after, found)


# ---- rows that belong to events


@pytest.mark.parametrize(
    ("statement", "kind", "seq"),
    [
        ("UPDATE decision SET outcome = 'approve' WHERE decision_id = 'd2'", "row_changed", 8),
        ("UPDATE decision SET counts = 0 WHERE decision_id = 'd1'", "row_changed", 7),
        ("UPDATE decision SET person = NULL WHERE decision_id = 'd1'", "row_changed", 7),
        ("UPDATE decision SET decision_id = 'd9' WHERE decision_id = 'd1'", "row_changed", 7),
        ("DELETE FROM decision WHERE decision_id = 'd1'", "row_removed", 7),
        ("UPDATE dataset_version SET number = 5", "row_changed", 4),
        ("UPDATE dataset_version SET rows_digest = digest", "row_changed", 4),
        ("DELETE FROM dataset_version", "row_removed", 4),
    ],
)
def test_rows_that_differ_from_their_events_are_found(filled: Ledger, statement: str, kind: str, seq: int) -> None:
    tamper(filled, statement)
    assert kinds(filled) == [(kind, seq)]


@pytest.mark.parametrize("seq", [-1, 2, 9, 99])
def test_a_decision_that_no_event_records_is_found(filled_sqlite: Ledger, seq: int) -> None:
    row = dict(raw(filled_sqlite, "SELECT * FROM decision WHERE decision_id = 'd1'")[0]._mapping)
    row |= {"decision_id": "forged", "event_seq": seq}
    names = ", ".join(row)
    # Nothing stops an insert: the verifier does.
    raw(filled_sqlite, f"INSERT INTO decision ({names}) VALUES ({', '.join(':' + name for name in row)})", **row)
    outcome = verify(filled_sqlite)
    assert [(finding.kind, finding.seq) for finding in outcome.findings] == [("row_inserted", seq)]
    assert "No event records the decision forged" in outcome.findings[0].sentence


def test_a_decision_moved_to_another_event_is_found(filled: Ledger) -> None:
    tamper(filled, "UPDATE decision SET event_seq = 3 WHERE decision_id = 'd1'")
    assert kinds(filled) == [("row_inserted", 3), ("row_removed", 7)]


def test_a_removed_row_is_not_quietly_written_again(filled_sqlite: Ledger) -> None:
    tamper(filled_sqlite, "DELETE FROM decision WHERE decision_id = 'd1'")
    with pytest.raises(Exception, match="its row is gone"):
        filled_sqlite.record_decision(decision("d1"))


# ---- checkpoints


def test_a_checkpoint_is_written_once_per_size(filled: Ledger, store: Store) -> None:
    require_not_behind(filled, store)
    assert write_checkpoint(filled, store) is True
    assert write_checkpoint(filled, store) is False
    head = filled.head()
    names = [path.name for path in store.at("ledger", "checkpoints").iterdir()]
    assert names == [f"000000000010-{head.hash[:12]}.json"]
    pointer = store.pointer(store.at("ledger", "checkpoint.json"))
    assert pointer is not None
    assert {**pointer, **asdict(head)} == pointer
    assert head.time == raw(filled, "SELECT time FROM event WHERE seq = 10")[0].time
    filled.append(note(11))
    require_not_behind(filled, store)
    assert write_checkpoint(filled, store) is True
    assert [kept.size for kept in checkpoints.kept_checkpoints(store)] == [10, 11]
    assert checkpoints.last_checkpoint(store) == filled.head()


def test_an_empty_ledger_writes_no_checkpoint(ledger: Ledger, store: Store) -> None:
    assert write_checkpoint(ledger, store) is False
    assert not store.root.exists()


def test_a_crash_between_file_and_pointer_is_made_good(filled: Ledger, store: Store) -> None:
    write_checkpoint(filled, store)
    store.at("ledger", "checkpoint.json").unlink()
    assert checkpoints.last_checkpoint(store) == filled.head()
    filled.append(note(11))
    write_checkpoint(filled, store)
    store.at("ledger", "checkpoint.json").write_bytes(
        store.at("ledger", "checkpoints").joinpath(f"000000000010-{filled.find('k10').hash[:12]}.json").read_bytes()  # type: ignore[union-attr]
    )
    assert write_checkpoint(filled, store) is True
    assert checkpoints.last_checkpoint(store) == filled.head()


def test_a_ledger_shorter_than_its_checkpoint_stops_everything(filled: Ledger, store: Store) -> None:
    write_checkpoint(filled, store)
    tamper(filled, "DELETE FROM event WHERE seq > 8")
    for use in (require_not_behind, write_checkpoint):
        with pytest.raises(LedgerBehind, match=r"has 8 events, but its last checkpoint says 10: 2 are lost.*recover"):
            use(filled, store)
    assert checkpoints.last_checkpoint(store).size == 10  # type: ignore[union-attr]


def test_a_ledger_that_grew_another_way_is_stopped(filled_sqlite: Ledger, store: Store) -> None:
    write_checkpoint(filled_sqlite, store)
    tamper(filled_sqlite, "DELETE FROM event WHERE seq > 9")
    filled_sqlite.append(note(77))
    filled_sqlite.append(note(78))
    with pytest.raises(LedgerBehind, match="Event 10 of the ledger has hash"):
        require_not_behind(filled_sqlite, store)


def test_another_ledger_is_stopped(filled_sqlite: Ledger, store: Store, tmp_path: Path) -> None:
    write_checkpoint(filled_sqlite, store)
    other = Ledger(f"sqlite:///{tmp_path / 'other.db'}")
    other.migrate()
    with pytest.raises(LedgerBehind, match="its last checkpoint is of ledger"):
        require_not_behind(other, store)
    other.close()


def test_a_loss_is_recorded_and_stays_visible(filled: Ledger, store: Store) -> None:
    write_checkpoint(filled, store)
    with pytest.raises(Refused, match="nothing is lost"):
        checkpoints.recover(filled, store, actor="olga", reason="x")
    tamper(filled, "DELETE FROM event WHERE seq > 8")
    with pytest.raises(Refused, match="needs a reason"):
        checkpoints.recover(filled, store, actor="olga", reason=" ")
    head = checkpoints.recover(filled, store, actor="olga", reason="the disk broke, the backup was of noon")
    assert (head.size, head.epoch) == (9, 2)
    require_not_behind(filled, store)
    filled.append(note(11))
    write_checkpoint(filled, store)
    everything = list(checkpoints.kept_checkpoints(store))
    assert [kept.size for kept in everything] == [9, 10, 10]
    outcome = verify(filled, everything)
    assert outcome.ok
    assert [finding.kind for finding in outcome.findings] == ["recovered"]
    [event] = filled.events(actions=["ledger.recovered"])
    assert (event.actor, event.reason) == ("olga", "the disk broke, the backup was of noon")


def test_a_loss_explains_no_other_loss(filled_sqlite: Ledger, store: Store) -> None:
    write_checkpoint(filled_sqlite, store)
    tamper(filled_sqlite, "DELETE FROM event WHERE seq > 8")
    checkpoints.recover(filled_sqlite, store, actor="olga", reason="the disk broke")
    head = filled_sqlite.head()
    tamper(filled_sqlite, "UPDATE event SET actor = 'x' WHERE seq = 2")
    rechain(filled_sqlite, 2)
    assert ("rechained", head.size) in kinds(filled_sqlite, list(checkpoints.kept_checkpoints(store)))


def test_a_malformed_checkpoint_is_an_error(filled_sqlite: Ledger, store: Store) -> None:
    write_checkpoint(filled_sqlite, store)
    store.at("ledger", "checkpoint.json").write_text('{"ledger_id": "x", "epoch": 1, "size": "10"}')
    with pytest.raises(InvalidInput, match=r"checkpoint.json: field 'size' is '10'; expected int"):
        require_not_behind(filled_sqlite, store)
