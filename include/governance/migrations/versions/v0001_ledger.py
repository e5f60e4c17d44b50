"""The ledger's first tables, and the triggers that keep three of them append-only."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BigNumber = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Unique columns of each append-only table: SQLite's INSERT OR REPLACE removes the row in the way without firing
# its delete trigger, so the insert itself is refused.
UNIQUE = {
    "event": (("seq",), ("key",), ("prev_hash",), ("hash",)),
    "decision": (("decision_id",), ("event_seq",)),
    "dataset_version": (("digest",), ("event_seq",), ("project", "number")),
}


def upgrade() -> None:
    info = op.create_table(
        "ledger_info",
        sa.Column("one", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("ledger_id", sa.String(36), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.CheckConstraint("one = 1", name="ledger_info_one_row"),
    )
    op.bulk_insert(info, [{"one": 1, "ledger_id": str(uuid.uuid4()), "epoch": 1}])
    _create_event()
    _create_decision()
    _create_dataset_version()
    _create_effects()
    _create_states()
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgresql()


def _create_event() -> None:
    op.create_table(
        "event",
        sa.Column("seq", BigNumber, primary_key=True, autoincrement=False),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("key", sa.String(300), unique=True),
        sa.Column("actor", sa.String(300), nullable=False),
        sa.Column("action", sa.String(100), nullable=False),
        sa.Column("project", sa.String(200), nullable=False),
        sa.Column("subject", sa.String(500), nullable=False),
        sa.Column("digest_before", sa.String(64)),
        sa.Column("digest_after", sa.String(64)),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("run", sa.String(500), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )
    op.create_index("event_project_action", "event", ["project", "action", "seq"])
    op.create_index("event_subject", "event", ["subject", "seq"])


def _create_decision() -> None:
    op.create_table(
        "decision",
        sa.Column("decision_id", sa.String(300), primary_key=True),
        sa.Column("event_seq", BigNumber, nullable=False, unique=True),
        sa.Column("project", sa.String(200), nullable=False),
        sa.Column("subject", sa.String(500), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(200), nullable=False),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("counts", sa.Integer(), nullable=False),
        sa.Column("void_reason", sa.Text(), nullable=False),
        sa.Column("person", sa.String(300)),
        sa.Column("account", sa.String(300), nullable=False),
        sa.Column("system", sa.String(50), nullable=False),
        sa.Column("decided_at", sa.String(27)),
        sa.Column("meaning", sa.String(200), nullable=False),
        sa.Column("grade", sa.String(20), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("raw_digest", sa.String(64), nullable=False),
        sa.Column("process_id", sa.String(500), nullable=False),
        sa.Column("task_id", sa.String(500), nullable=False),
    )
    op.create_index("decision_digest", "decision", ["digest"])
    op.create_index("decision_project", "decision", ["project"])


def _create_dataset_version() -> None:
    op.create_table(
        "dataset_version",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("event_seq", BigNumber, nullable=False, unique=True),
        sa.Column("project", sa.String(200), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("rows_digest", sa.String(64), nullable=False),
        sa.Column("batch", sa.String(64), nullable=False),
        sa.Column("policy_digest", sa.String(64), nullable=False),
        sa.Column("path", sa.String(1000), nullable=False),
        sa.Column("row_count", BigNumber, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("requested_by", sa.String(300), nullable=False),
        sa.Column("run", sa.String(500), nullable=False),
        sa.Column("frozen_at", sa.String(27), nullable=False),
        sa.UniqueConstraint("project", "number", name="dataset_version_number"),
    )


def _create_effects() -> None:
    op.create_table(
        "effect_claim",
        sa.Column("scope", sa.String(64), primary_key=True),
        sa.Column("token", BigNumber, primary_key=True, autoincrement=False),
        sa.Column("key", sa.String(300), nullable=False),
        sa.Column("use_case", sa.String(100), nullable=False),
        sa.Column("project", sa.String(200), nullable=False),
        sa.Column("subject", sa.String(500), nullable=False),
        sa.Column("run", sa.String(500), nullable=False),
        sa.Column("try_number", sa.Integer(), nullable=False),
        sa.Column("claimed_at", sa.String(27), nullable=False),
    )
    op.create_index("effect_claim_key", "effect_claim", ["key"])
    op.create_table(
        "effect",
        sa.Column("key", sa.String(300), primary_key=True),
        sa.Column("scope", sa.String(64), nullable=False),
        sa.Column("token", BigNumber, nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("created", sa.Integer(), nullable=False),
        sa.Column("updated", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("done_at", sa.String(27), nullable=False),
    )


def _create_states() -> None:
    op.create_table(
        "sync_state",
        sa.Column("scope", sa.String(500), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("saved_at", sa.String(27), nullable=False),
    )
    op.create_table(
        "source_record",
        sa.Column("project", sa.String(200), primary_key=True),
        sa.Column("task_id", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(500), primary_key=True),
        sa.Column("record", sa.String(300), primary_key=True),
    )


def _guard_sqlite() -> None:
    for table, uniques in UNIQUE.items():
        refuse = f"SELECT RAISE(ABORT, 'the table {table} is append-only')"
        for verb in ("update", "delete"):
            op.execute(f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} BEGIN {refuse}; END")
        taken = " OR ".join(
            "(" + " AND ".join(f'"{column}" = NEW."{column}"' for column in columns) + ")" for columns in uniques
        )
        known = f"EXISTS (SELECT 1 FROM {table} WHERE {taken})"  # noqa: S608 - only names of this file
        op.execute(f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {known} BEGIN {refuse}; END")


def _guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION 'the table % is append-only', TG_TABLE_NAME; END $$"
    )
    for table in UNIQUE:
        # For each statement: refused even where no row matches. ALWAYS: fires in a replication session too.
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only")


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back: restore a backup instead")
