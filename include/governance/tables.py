"""The ledger's tables, as the code expects to find them. The migrations build them."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, String, Table, Text
from sqlalchemy import UniqueConstraint as Unique

__all__ = [
    "ADDED_LATER",
    "APPEND_ONLY",
    "GUARDS",
    "KEPT",
    "REVISION",
    "VERSION_TABLE",
    "dataset_version",
    "decision",
    "effect",
    "effect_claim",
    "event",
    "ledger_info",
    "metadata",
    "source_record",
    "sync_state",
]

REVISION = "0002"
"""The migration this code is written for."""

VERSION_TABLE = "ledger_schema"
"""Where the database says which migration it has; its own name, so that a database may be shared."""

APPEND_ONLY = ("event", "decision", "dataset_version")
"""Tables whose rows are never changed or removed: triggers refuse it."""

KEPT = {
    "effect_claim": ("update", "delete"),
    "source_record": ("update",),
    "effect": ("delete",),
    "sync_state": ("delete",),
}
"""What else triggers refuse. These tables are outside the chain: a guard stops a slip, not somebody who removes it."""

GUARDS = {
    "sqlite": (
        *(f"{table}_no_{verb}" for table in APPEND_ONLY for verb in ("update", "delete", "replace")),
        *(f"{table}_no_{verb}" for table, verbs in KEPT.items() for verb in verbs),
    ),
    "postgresql": (*(f"{table}_append_only" for table in APPEND_ONLY), *(f"{table}_kept" for table in KEPT)),
}
"""Names of those triggers by kind of database."""

ADDED_LATER = {"decision": ("signature", "statement_version")}
"""Columns that rows of the first schema do not have: empty ones are left out of a row's digest."""

metadata = MetaData()

# SQLite's INTEGER PRIMARY KEY refuses everything but integers; BIGINT would not.
BigNumber = BigInteger().with_variant(Integer(), "sqlite")
Digest = String(64)

ledger_info = Table(
    "ledger_info",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("ledger_id", String(36), nullable=False),
    Column("epoch", Integer, nullable=False),
    CheckConstraint("one = 1", name="ledger_info_one_row"),
)

event = Table(
    "event",
    metadata,
    Column("seq", BigNumber, primary_key=True, autoincrement=False),
    Column("time", String(27), nullable=False),
    Column("key", String(300), unique=True),
    Column("actor", String(300), nullable=False),
    Column("action", String(100), nullable=False),
    Column("project", String(200), nullable=False),
    Column("subject", String(500), nullable=False),
    Column("digest_before", Digest),
    Column("digest_after", Digest),
    Column("reason", Text, nullable=False),
    Column("run", String(500), nullable=False),
    Column("body", Text, nullable=False),
    # Unique, so that no two events can follow the same one.
    Column("prev_hash", Digest, nullable=False, unique=True),
    Column("hash", Digest, nullable=False, unique=True),
    Index("event_project_action", "project", "action", "seq"),
    Index("event_subject", "subject", "seq"),
)

decision = Table(
    "decision",
    metadata,
    Column("decision_id", String(300), primary_key=True),
    Column("event_seq", BigNumber, nullable=False, unique=True),
    Column("project", String(200), nullable=False),
    Column("subject", String(500), nullable=False),
    Column("digest", Digest, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("role", String(200), nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("counts", Integer, nullable=False),
    Column("void_reason", Text, nullable=False),
    Column("person", String(300)),
    Column("account", String(300), nullable=False),
    Column("system", String(50), nullable=False),
    Column("decided_at", String(27)),
    Column("meaning", String(200), nullable=False),
    Column("grade", String(20), nullable=False),
    Column("statement", Text, nullable=False),
    Column("raw_digest", String(64), nullable=False),
    Column("process_id", String(500), nullable=False),
    Column("task_id", String(500), nullable=False),
    Column("signature", String(20)),
    Column("statement_version", Integer),
    Index("decision_digest", "digest"),
    Index("decision_project", "project"),
)

dataset_version = Table(
    "dataset_version",
    metadata,
    Column("digest", Digest, primary_key=True),
    Column("event_seq", BigNumber, nullable=False, unique=True),
    Column("project", String(200), nullable=False),
    Column("number", Integer, nullable=False),
    Column("rows_digest", Digest, nullable=False),
    Column("batch", String(64), nullable=False),
    Column("policy_digest", String(64), nullable=False),
    Column("path", String(1000), nullable=False),
    Column("row_count", BigNumber, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("requested_by", String(300), nullable=False),
    Column("run", String(500), nullable=False),
    Column("frozen_at", String(27), nullable=False),
    Unique("project", "number", name="dataset_version_number"),
)

effect_claim = Table(
    "effect_claim",
    metadata,
    # The effect's subject as one digest: its parts are too long for an index of some servers.
    Column("scope", Digest, primary_key=True),
    Column("token", BigNumber, primary_key=True, autoincrement=False),
    Column("key", String(300), nullable=False),
    Column("use_case", String(100), nullable=False),
    Column("project", String(200), nullable=False),
    Column("subject", String(500), nullable=False),
    Column("run", String(500), nullable=False),
    Column("try_number", Integer, nullable=False),
    Column("claimed_at", String(27), nullable=False),
    Index("effect_claim_key", "key"),
)

effect = Table(
    "effect",
    metadata,
    Column("key", String(300), primary_key=True),
    Column("scope", Digest, nullable=False),
    Column("token", BigNumber, nullable=False),
    Column("reference", Text, nullable=False),
    Column("created", Integer, nullable=False),
    Column("updated", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Column("done_at", String(27), nullable=False),
)

sync_state = Table(
    "sync_state",
    metadata,
    Column("scope", String(500), primary_key=True),
    Column("value", Text, nullable=False),
    Column("saved_at", String(27), nullable=False),
)

source_record = Table(
    "source_record",
    metadata,
    Column("project", String(200), primary_key=True),
    Column("task_id", Digest, primary_key=True),
    Column("sha256", Digest, primary_key=True),
    Column("source", String(500), primary_key=True),
    Column("record", String(300), primary_key=True),
)
