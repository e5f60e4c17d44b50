from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.base.store import Store
from include.guidelines.sync import Collected, collect
from include.projects.model import Project
from tests.guidelines.fake_confluence import FakeConfluence

STATE = {"by": "state", "value": "Verified"}


def make_project(approved: dict[str, Any] = STATE, **guideline: Any) -> Project:
    return Project.model_validate(
        {
            "name": "topics",
            "title": "Ticket topics",
            "owner": "olga",
            "confluence": {"space": "LAB", "guideline": {"root": "Guideline", "approved": approved, **guideline}},
            "source": {"location": "topics"},
            "annotation": {"interface": "choice", "labels": ["billing", "delivery"]},
            "policy": {"approvals": [{"role": "data_owner"}]},
        }
    )


class Sync:
    """Runs the sync again and again, carrying the state from one run to the next as JSON does."""

    def __init__(self, space: FakeConfluence, store: Store, project: Project) -> None:
        self.space, self.store, self.project = space, store, project
        self.seen: dict[str, Any] | None = None

    def run(self) -> Collected:
        import json

        collected = collect(self.project, self.space, self.store, self.seen)
        self.seen = json.loads(json.dumps(collected.seen))
        return collected


@pytest.fixture
def space() -> FakeConfluence:
    return FakeConfluence()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
