"""A fresh ledger, on each kind of database; a store and a key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.base.signing import Signer, make_key
from include.base.store import Store
from include.governance.ledger import Ledger
from tests.governance.ledgers import fill, fresh_postgres


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without a ledger."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return fresh_postgres(request.getfixturevalue("postgres_url"))


@pytest.fixture
def ledger(empty_url: str) -> Iterator[Ledger]:
    """An empty ledger, once on each kind of database."""
    made = Ledger(empty_url)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger in SQLite, for what does not depend on the database."""
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """Ten events on each kind of database."""
    return fill(ledger)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """A key of this test alone."""
    return make_key(tmp_path / "key.pem")
