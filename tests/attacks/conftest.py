from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz import no_longer_than


@pytest.fixture
def within_a_moment() -> Iterator[None]:
    """End a test that would wait for ever."""
    with no_longer_than(20):
        yield
