"""A ledger that an earlier release wrote is brought up to date without a changed byte in what is proven."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from include.governance import tables
from include.governance.effects import claim
from include.governance.ledger import Ledger
from include.governance.records import SourceRecord
from include.governance.verify import verify
from tests.governance.ledgers import decision, digest, raw, tamper

HERE = Path(__file__).parent
MIGRATIONS = HERE.parents[1] / "include" / "governance" / "migrations"
ROWS: dict[str, list[dict[str, Any]]] = json.loads((HERE / "ledger_0001.json").read_text(encoding="utf-8"))
"""All rows of a ledger, as the code of schema 0001 wrote them."""


def build_0001(url: str) -> None:
    """Build a ledger of schema 0001 and put the old rows into it."""
    ledger = Ledger(url)
    engine = sa.create_engine(ledger.url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        [info] = ROWS["ledger_info"]
        connection.execute(sa.text("UPDATE ledger_info SET ledger_id = :ledger_id, epoch = :epoch"), info)
        for table, rows in ROWS.items():
            for row in rows if table != "ledger_info" else ():
                names = ", ".join(row)
                values = ", ".join(f":{name}" for name in row)
                connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)
    engine.dispose()


@pytest.fixture
def old(empty_url: str) -> Iterator[Ledger]:
    """A ledger of schema 0001 with events, a version, decisions and effects."""
    build_0001(empty_url)
    made = Ledger(empty_url)
    yield made
    made.close()


@pytest.mark.proves("a ledger written by an earlier release stays provable after the upgrade")
def test_an_old_ledger_is_brought_up_to_date(old: Ledger) -> None:
    assert old.migrate() is True
    assert old.migrate() is False
    outcome = verify(old)
    assert outcome.ok, outcome.findings
    assert outcome.findings == [], "no guard is missing"
    assert outcome.size == len(ROWS["event"])
    for table in tables.APPEND_ONLY:
        for before in ROWS[table]:
            known = {key: value for key, value in before.items() if key in ("event_seq", "seq")}
            [after] = [
                row._mapping for row in raw(old, f"SELECT * FROM {table}") if known.items() <= row._mapping.items()
            ]
            assert {name: after[name] for name in before} == before


def test_old_decisions_read_back_as_they_were_made(old: Ledger) -> None:
    old.migrate()
    first = old.decisions()[0]
    assert first == decision("d1")
    assert (first.signature, first.statement_version) == ("recorded", None)


def test_an_old_decision_that_is_read_again_at_its_source_is_known(old: Ledger) -> None:
    old.migrate()
    size = old.head().size
    for level in ("recorded", "authenticated", "signed"):
        assert old.record_decision(decision("d1", signature=level, statement_version=2)) is False
    assert old.head().size == size
    assert old.decisions()[0].signature == "recorded", "what was written stays"


def test_an_upgraded_ledger_goes_on(old: Ledger) -> None:
    old.migrate()
    old.record_decision(decision("d3", signature="authenticated", statement_version=2))
    assert old.decisions()[-1] == decision("d3", signature="authenticated", statement_version=2)
    assert verify(old).ok
    tamper(old, "UPDATE decision SET signature = 'signed' WHERE decision_id = 'd3'")
    assert [finding.kind for finding in verify(old).findings] == ["row_changed"]


def test_a_signature_level_put_on_an_old_decision_is_found(old: Ledger) -> None:
    old.migrate()
    tamper(old, "UPDATE decision SET signature = 'signed' WHERE decision_id = 'd1'")
    assert [finding.kind for finding in verify(old).findings] == ["row_changed"]


@pytest.mark.parametrize(("table", "verb"), [(table, verb) for table, verbs in tables.KEPT.items() for verb in verbs])
def test_a_slip_on_what_is_outside_the_chain_is_refused(old: Ledger, table: str, verb: str) -> None:
    old.migrate()
    column = {"effect_claim": "run", "source_record": "source", "effect": "detail", "sync_state": "value"}[table]
    attempt = f"UPDATE {table} SET {column} = 'x'" if verb == "update" else f"DELETE FROM {table}"
    with pytest.raises(sa.exc.DBAPIError, match=f"{table} refuses {verb}"):
        raw(old, attempt)
    assert len(raw(old, f"SELECT * FROM {table}")) == len(ROWS[table])


def test_what_the_ledger_itself_does_there_is_not_refused(old: Ledger) -> None:
    old.migrate()
    again = claim(old, "effect-1", use_case="u", project="p", subject="s", run="r", try_number=2)
    again.done("page 8", created=0, updated=1)
    assert old.record_sources("p", [SourceRecord(digest(1), "f.csv", "1", digest(2))]) == 0
    assert old.save_sync_state("guidelines/p", {"page": 8})
    assert verify(old).ok
