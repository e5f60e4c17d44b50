"""How far a decision is a signature and which statement was seen; guards on the tables outside the chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# What is never done to these tables: a slip in a later release, or a hand at the database, is refused.
KEPT = {
    "effect_claim": ("update", "delete"),
    "source_record": ("update",),
    "effect": ("delete",),
    "sync_state": ("delete",),
}


def upgrade() -> None:
    # Rows written before stay as they are: their events hold digests of them.
    op.add_column("decision", sa.Column("signature", sa.String(20)))
    op.add_column("decision", sa.Column("statement_version", sa.Integer()))
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgresql()


def _guard_sqlite() -> None:
    for table, verbs in KEPT.items():
        for verb in verbs:
            refuse = f"SELECT RAISE(ABORT, 'the table {table} refuses {verb}')"
            op.execute(f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} BEGIN {refuse}; END")


def _guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION ledger_refuse_verb() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION 'the table % refuses %', TG_TABLE_NAME, lower(TG_OP); END $$"
    )
    for table, verbs in KEPT.items():
        refused = " OR ".join([*verbs, *(["truncate"] if "delete" in verbs else [])]).upper()
        op.execute(
            f"CREATE TRIGGER {table}_kept BEFORE {refused} ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_verb()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_kept")


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back: restore a backup instead")
