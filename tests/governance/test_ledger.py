from __future__ import annotations

import json
import signal
import threading
import time as clock
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from include.base.errors import Conflict, InvalidInput, Unavailable, Unsupported
from include.governance import tables
from include.governance.ledger import BODY_LIMIT, Ledger, chain_hash, genesis_hash
from include.governance.records import SourceRecord, read_time, time_text
from include.governance.verify import verify
from tests.governance.ledgers import decision, digest, finish, note, raw, start, version

WRITER = """
import sys
from include.governance.ledger import Ledger
from include.governance.records import NewEvent
ledger = Ledger(sys.argv[1])
for number in range(int(sys.argv[3])):
    ledger.append(NewEvent("anna", "note.taken", "p", "s", body={"who": sys.argv[2], "number": number}))
"""

STUCK_WRITER = """
import sys, time
from include.governance.ledger import Ledger
from include.governance.records import NewEvent
with Ledger(sys.argv[1]).transaction() as transaction:
    for number in range(5):
        transaction.append(NewEvent("anna", "note.lost", "p", "s", body={"number": number}), key=f"lost-{number}")
    print("written", flush=True)
    time.sleep(60)
"""

MIGRATOR = "import sys; from include.governance.ledger import Ledger; print(Ledger(sys.argv[1]).migrate())"


# ---- the chain


def test_an_event_comes_back_as_it_was_written(ledger: Ledger) -> None:
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    event, created = ledger.append(note(7), key="k7", time=moment)
    assert created
    assert list(ledger.events()) == [event]
    assert ledger.find("k7") == event
    assert event.seq == 1
    assert event.time == datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert event.body == note(7).body
    assert (event.actor, event.reason, event.digest_after) == ("anna", "because – ünïcode 🙂", digest(8))


def test_the_chain_can_be_worked_out_by_hand(ledger: Ledger) -> None:
    import hashlib

    for number in range(3):
        ledger.append(note(number), key=f"k{number}")
    identity = json.dumps({"format": 1, "ledger_id": ledger.head().ledger_id}, separators=(",", ":"))
    last = hashlib.sha256(identity.encode()).digest()
    names = "seq time key actor action project subject digest_before digest_after reason run"
    for row in raw(ledger, f"SELECT {names.replace(' ', ', ')}, body, prev_hash, hash FROM event ORDER BY seq"):
        assert row.prev_hash == last.hex()
        fields = {name: getattr(row, name) for name in names.split()} | {"body": json.loads(row.body)}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        last = hashlib.sha256(last + text.encode()).digest()
        assert row.hash == last.hex()
    assert ledger.head().hash == last.hex()


def test_an_empty_ledger_has_a_head(ledger: Ledger) -> None:
    head = ledger.head()
    assert (head.size, head.epoch, head.time) == (0, 1, "")
    assert head.hash == genesis_hash(head.ledger_id)


def test_a_known_key_writes_nothing(ledger: Ledger) -> None:
    first, _ = ledger.append(note(1), key="k")
    again, created = ledger.append(note(1, run="another run"), key="k")
    assert (again, created) == (first, False)
    assert ledger.head().size == 1


@pytest.mark.parametrize("field", ["actor", "action", "project", "subject", "reason", "digest_before", "digest_after"])
def test_a_known_key_with_other_content_is_a_conflict(sqlite_ledger: Ledger, field: str) -> None:
    sqlite_ledger.append(note(1), key="k")
    other = digest(99) if field.startswith("digest") else "other"
    with pytest.raises(Conflict, match=f"'k'.*{field}"):
        sqlite_ledger.append(note(1, **{field: other}), key="k")
    with pytest.raises(Conflict, match="body"):
        sqlite_ledger.append(note(1, body={"number": 2}), key="k")
    assert sqlite_ledger.head().size == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"body": {"score": 0.5}}, "float 0.5"),
        ({"body": {"deep": [{"x": [float("nan")]}]}}, "float nan"),
        ({"body": {"text": "x" * BODY_LIMIT}}, f"{BODY_LIMIT} are allowed"),
        ({"body": {1: "x"}}, "keys are strings"),
        ({"body": {"when": datetime(2026, 1, 1, tzinfo=UTC)}}, "body cannot be written"),
        ({"body": {"half": "\ud800"}}, "body cannot be written"),
        ({"body": ["x"]}, "expected an object"),
        ({"digest_after": "abc"}, "64 lower-case hex"),
        ({"digest_before": "A" * 64}, "64 lower-case hex"),
        ({"actor": ""}, "actor is empty"),
        ({"subject": "s" * 501}, "501 characters; 500 are allowed"),
        ({"reason": "a\0b"}, "NUL character at 1"),
        ({"reason": "\udfff"}, "lone surrogate"),
        ({"run": 7}, "run is a int"),
    ],
)
def test_what_a_ledger_cannot_keep_is_refused(sqlite_ledger: Ledger, fields: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        sqlite_ledger.append(note(1, **fields))
    assert sqlite_ledger.head().size == 0


def test_a_body_of_exactly_the_limit_fits(ledger: Ledger) -> None:
    body = {"t": "x" * (BODY_LIMIT - len('{"t":""}'))}
    ledger.append(note(1, body=body))
    assert next(ledger.events()).body == body


def test_a_time_without_zone_is_refused(sqlite_ledger: Ledger) -> None:
    with pytest.raises(InvalidInput, match="no zone"):
        sqlite_ledger.append(note(1), time=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused
    assert read_time(time_text(datetime.min.replace(tzinfo=UTC))) == datetime.min.replace(tzinfo=UTC)


def test_all_or_nothing(ledger: Ledger) -> None:
    def fail() -> None:
        with ledger.transaction() as transaction:
            transaction.append(note(1))
            transaction.record_version(version())
            transaction.record_decision(decision())
            transaction.save_sync_state("s", {"a": 1})
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        fail()
    assert ledger.head().size == 0
    assert ledger.versions("ticket_topics") == []
    assert ledger.decisions(digest(1001)) == []
    assert ledger.sync_state("s") is None
    assert verify(ledger).ok


def test_events_are_listed_by_project_action_and_subject(ledger: Ledger) -> None:
    for number in range(25):
        project, action = ("even", "odd")[number % 2], ("a.x", "b.x", "c.x")[number % 3]
        ledger.append(note(number, project=project, action=action, subject=f"s{number % 5}"))
    assert [event.seq for event in ledger.events(project="odd")] == list(range(2, 26, 2))
    assert [event.seq for event in ledger.events(actions=["a.x", "b.x"], limit=4)] == [1, 2, 4, 5]
    assert [event.seq for event in ledger.events(subject="s3", after=4)] == [9, 14, 19, 24]
    assert [event.seq for event in ledger.events(project="even", actions=["c.x"], subject="s0")] == [21]
    assert list(ledger.events(limit=0)) == []
    assert list(ledger.events(actions=[])) == []


def test_long_listings_go_on_over_pages(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.governance.ledger.PAGE", 4)
    with ledger.transaction() as transaction:
        for number in range(12):
            transaction.append(note(number))
    assert [event.seq for event in ledger.events()] == list(range(1, 13))
    assert [event.seq for event in ledger.events(limit=9)] == list(range(1, 10))


# ---- many writers, killed writers


def test_eight_processes_write_one_chain(ledger: Ledger, empty_url: str) -> None:
    each = 25
    writers = [start(WRITER, empty_url, str(number), str(each)) for number in range(8)]
    for writer in writers:
        finish(writer)
    events = list(ledger.events())
    assert [event.seq for event in events] == list(range(1, 8 * each + 1))
    for who in range(8):
        mine = [event.body["number"] for event in events if event.body["who"] == str(who)]
        assert mine == list(range(each))
    outcome = verify(ledger)
    assert outcome.ok, outcome.findings


@pytest.mark.proves("many writing processes, one of them killed, give one unbroken chain")
def test_a_killed_writer_among_others_breaks_no_chain(ledger: Ledger, empty_url: str) -> None:
    """Writers are killed at moments of their own: between two events, in the middle of one, while they wait."""
    endless = [start(WRITER, empty_url, f"killed{number}", "1000000") for number in range(2)]
    each = 40
    writers = [start(WRITER, empty_url, str(number), str(each)) for number in range(4)]
    for victim in endless:
        clock.sleep(0.3)
        while not any(event.body["who"].startswith("killed") for event in ledger.events(limit=None)):
            clock.sleep(0.05)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    for writer in writers:
        finish(writer)
    ledger.append(note(1, body={"who": "after", "number": 0}))
    events = list(ledger.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    numbers: dict[str, list[int]] = {}
    for event in events:
        numbers.setdefault(event.body["who"], []).append(event.body["number"])
    assert all(found == list(range(len(found))) for found in numbers.values()), "none is missing, twice, or moved"
    assert all(len(numbers[str(number)]) == each for number in range(4))
    outcome = verify(ledger)
    assert outcome.ok, outcome.findings


def test_threads_share_one_ledger(ledger: Ledger) -> None:
    def write() -> None:
        for number in range(20):
            ledger.append(note(number))

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.head().size == 120
    assert verify(ledger).ok


def test_a_writer_killed_half_way_leaves_nothing(ledger: Ledger, empty_url: str) -> None:
    ledger.append(note(1))
    writer = start(STUCK_WRITER, empty_url)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    assert ledger.head().size == 1, "a reader sees nothing of what is not committed"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    event, _ = ledger.append(note(2))
    assert event.seq == 2
    assert ledger.find("lost-0") is None
    assert verify(ledger).ok


def test_a_stuck_writer_is_an_error_that_says_so(
    ledger: Ledger, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.governance.ledger.LOCK_SECONDS", 0.2)
    waiting = Ledger(empty_url)
    waiting.head()
    monkeypatch.setattr("include.governance.ledger.LOCK_SECONDS", 1)
    with ledger.transaction() as transaction:
        transaction.append(note(1))
        with pytest.raises(Unavailable, match="another writer has held the ledger"):
            waiting.append(note(2))
    assert ledger.append(note(2))[0].seq == 2
    waiting.close()


FORKED = """
import os, sys
from include.governance.ledger import Ledger
from include.governance.records import NewEvent
ledger = Ledger(sys.argv[1])
ledger.append(NewEvent("parent", "note.taken", "p", "s"))
child = os.fork()
for number in range(20):
    ledger.append(NewEvent("parent" if child else "child", "note.taken", "p", "s"))
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.head().size == 41
"""


def test_a_fork_opens_connections_of_its_own(ledger: Ledger, empty_url: str) -> None:
    finish(start(FORKED, empty_url))
    assert verify(ledger).ok


# ---- append-only


@pytest.mark.parametrize("table", tables.APPEND_ONLY)
def test_rows_cannot_be_changed_or_removed(ledger: Ledger, table: str) -> None:
    ledger.append(note(1))
    ledger.record_version(version())
    ledger.record_decision(decision())
    column = {"event": "reason", "decision": "account", "dataset_version": "path"}[table]
    before = raw(ledger, f"SELECT * FROM {table}")
    attempts = [f"UPDATE {table} SET {column} = 'x'", f"DELETE FROM {table}"]
    if ledger.dialect == "postgresql":
        attempts += [f"TRUNCATE {table}", f"SET session_replication_role = 'replica'; DELETE FROM {table}"]
    else:
        attempts += [
            f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
            f"REPLACE INTO {table} SELECT * FROM {table}",
        ]
    for attempt in attempts:
        with pytest.raises(sa.exc.DBAPIError, match=f"{table} is append-only"):
            raw(ledger, attempt)
    assert raw(ledger, f"SELECT * FROM {table}") == before
    assert verify(ledger).ok


def test_replace_cannot_push_an_event_out_by_its_key(sqlite_ledger: Ledger) -> None:
    sqlite_ledger.append(note(1), key="k")
    columns = "time, key, actor, action, project, subject, digest_before, digest_after, reason, run, body"
    forged = f"INSERT OR REPLACE INTO event (seq, {columns}, prev_hash, hash) SELECT 2, {columns}, 'p', 'h' FROM event"
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        raw(sqlite_ledger, forged)
    assert sqlite_ledger.find("k") is not None


# ---- versions and decisions


def test_versions_are_numbered_per_project(ledger: Ledger) -> None:
    first, second = ledger.record_version(version(1)), ledger.record_version(version(2))
    other = ledger.record_version(version(3, project="product_names"))
    assert (first.number, second.number, other.number) == (1, 2, 1)
    assert ledger.versions("ticket_topics") == [first, second]
    assert ledger.version(digest(1002)) == second
    assert ledger.version(digest(5)) is None
    assert [event.action for event in ledger.events(subject=f"version:{digest(1001)}")] == ["version.frozen"]


def test_a_known_version_is_recorded_once(ledger: Ledger) -> None:
    first = ledger.record_version(version(1))
    again = ledger.record_version(version(1, run="freeze/2", frozen_at=datetime(2030, 1, 1, tzinfo=UTC)))
    assert again == first
    assert ledger.head().size == 1
    with pytest.raises(Conflict, match="rows_digest"):
        ledger.record_version(version(1, rows_digest=digest(5)))
    with pytest.raises(Conflict, match="the next is 2"):
        ledger.record_version(version(2, number=7))


def test_a_decision_is_recorded_once(ledger: Ledger) -> None:
    moment = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
    made = decision(decided_at=moment, raw_digest=digest(1), statement="I approve 000001")
    assert ledger.record_decision(made) is True
    assert ledger.record_decision(made) is False
    assert ledger.decisions(digest(1001)) == [made]
    assert ledger.head().size == 1
    with pytest.raises(Conflict, match="outcome"):
        ledger.record_decision(decision(decided_at=moment, outcome="reject"))


def test_decisions_are_listed_in_their_order(ledger: Ledger) -> None:
    made = [decision(f"d{9 - number}", person=None, counts=False, void_reason="unknown") for number in range(3)]
    for one in made:
        ledger.record_decision(one)
    ledger.record_decision(decision("other", digest=digest(7), project="product_names"))
    assert ledger.decisions(digest(1001)) == made
    assert ledger.decisions(project="product_names") == [decision("other", digest=digest(7), project="product_names")]
    actors = [event.actor for event in ledger.events(project="ticket_topics")]
    assert actors == ["confluence:acc-dana"] * 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"outcome": "approved"}, "outcome is 'approved'; allowed: approve"),
        ({"grade": "sure"}, "allowed: asserted, attested"),
        ({"digest": ""}, "64 lower-case hex"),
        ({"attempt": 0}, "whole number from 1"),
        ({"decided_at": datetime(2026, 1, 1)}, "no zone"),  # noqa: DTZ001 - what is refused
    ],
)
def test_a_malformed_decision_is_refused(sqlite_ledger: Ledger, fields: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        sqlite_ledger.record_decision(decision(**fields))
    assert sqlite_ledger.head().size == 0


# ---- states and sources


def test_sync_state_is_kept_and_quiet(ledger: Ledger) -> None:
    assert ledger.sync_state("guidelines/p") is None
    assert ledger.save_sync_state("guidelines/p", {"pages": {"1": 4}, "ü": None}) is True
    saved = raw(ledger, "SELECT saved_at FROM sync_state")
    assert ledger.save_sync_state("guidelines/p", {"ü": None, "pages": {"1": 4}}) is False
    assert raw(ledger, "SELECT saved_at FROM sync_state") == saved
    assert ledger.save_sync_state("guidelines/p", {"pages": {}}) is True
    assert ledger.sync_state("guidelines/p") == {"pages": {}}
    with pytest.raises(InvalidInput, match="float"):
        ledger.save_sync_state("guidelines/p", {"x": 1.5})


def test_sources_are_kept_once(ledger: Ledger) -> None:
    records = [SourceRecord(digest(number // 2), "tickets.csv", str(number), digest(number)) for number in range(1201)]
    assert ledger.record_sources("p", iter(records)) == 1201
    assert ledger.record_sources("p", iter([*records[:600], SourceRecord(digest(1), "b.csv", "1", digest(0))])) == 1
    assert ledger.record_sources("q", records[:1]) == 1
    assert ledger.record_sources("p", []) == 0
    assert [record.source for record in ledger.sources("p", digest(1))] == ["b.csv", "tickets.csv", "tickets.csv"]
    assert ledger.sources("p", digest(999_999)) == []
    with pytest.raises(InvalidInput, match="sha256"):
        ledger.record_sources("p", [SourceRecord(digest(1), "a", "1", "no")])


# ---- schema


def test_migration_builds_what_the_code_expects(ledger: Ledger) -> None:
    assert ledger.migrate() is False
    engine = sa.create_engine(ledger.url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": tables.VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_migrating_again_keeps_the_events(ledger: Ledger, empty_url: str) -> None:
    ledger.append(note(1))
    before = ledger.head()
    assert Ledger(empty_url).migrate() is False
    assert ledger.head() == before


def test_processes_migrate_at_once(empty_url: str) -> None:
    processes = [start(MIGRATOR, empty_url) for _ in range(4)]
    assert sorted(finish(process).strip() for process in processes) == ["False", "False", "False", "True"]
    assert verify(Ledger(empty_url)).ok


def test_a_ledger_without_tables_says_what_to_do(empty_url: str, tmp_path: Path) -> None:
    ledger = Ledger(empty_url)
    for use in (ledger.head, lambda: verify(ledger), lambda: ledger.append(note(1)), lambda: list(ledger.events())):
        with pytest.raises(Unsupported, match=r"`labelops migrate`"):
            use()
    assert not (tmp_path / "ledger.db").exists(), "looking makes no file"


def test_another_schema_is_refused(ledger: Ledger, empty_url: str) -> None:
    raw(ledger, "UPDATE ledger_schema SET version_num = '0000'")
    with pytest.raises(Unsupported, match=f"older than {tables.REVISION}"):
        Ledger(empty_url).head()
    raw(ledger, "UPDATE ledger_schema SET version_num = '9999'")
    for use in (lambda: Ledger(empty_url).append(note(1)), lambda: Ledger(empty_url).migrate()):
        with pytest.raises(Unsupported, match="made by a newer release"):
            use()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "nonsense"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        Ledger(url)


def test_no_password_in_words() -> None:
    ledger = Ledger("postgresql://ledger:geheim@127.0.0.1:1/none")
    assert "geheim" not in repr(ledger)
    with pytest.raises(Unavailable) as caught:
        ledger.head()
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_the_hash_covers_every_column_but_itself() -> None:
    row = {column.name: f"{column.name}" for column in tables.event.columns}
    base = chain_hash("00" * 32, row, {})
    for name in row.keys() - {"hash", "prev_hash", "body"}:
        assert chain_hash("00" * 32, {**row, name: "other"}, {}) != base, name
    assert chain_hash("01" * 32, row, {}) != base
    assert chain_hash("00" * 32, row, {"a": 1}) != base
