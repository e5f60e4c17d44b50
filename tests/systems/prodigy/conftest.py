"""What most tests of Prodigy's client stand on."""

from __future__ import annotations

import pytest

from include.systems.prodigy.client import ProdigyClient
from tests.systems.prodigy.make import connect


@pytest.fixture
def client(prodigy_url: str) -> ProdigyClient:
    """A client of an empty database, on each engine in turn."""
    return connect(prodigy_url)
