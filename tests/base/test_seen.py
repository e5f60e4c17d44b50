"""Remembering more names than memory should hold."""

from __future__ import annotations

import os

import pytest

from include.base.seen import SeenNames


def test_many_names_are_remembered_in_a_file() -> None:
    with SeenNames(in_memory=100) as seen:
        seen.update(f"name {number}" for number in range(1050))
        folder = seen._folder
        assert folder is not None
        assert len(seen._few) < 100
        assert all(f"name {number}" in seen for number in range(1050))
        assert "name 1050" not in seen
        seen.update(["name 3", "name 1050"])
        assert "name 1050" in seen
    with pytest.raises(FileNotFoundError):
        os.scandir(folder.name)
