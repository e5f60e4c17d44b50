"""Each target some times, in every run; ``make fuzz`` does it for minutes."""

from __future__ import annotations

import pytest

from tests.fuzz import targets, wrong_with

SEEDS = 40


@pytest.mark.parametrize("name", sorted(targets()))
def test_what_a_seed_makes_is_read_or_refused_by_name(name: str) -> None:
    target = targets()[name]
    wrong = {seed: found for seed in range(SEEDS) if (found := wrong_with(name, target, seed)) is not None}
    assert not wrong, wrong
