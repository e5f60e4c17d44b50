"""The use case that the contributor's guide shows, played as it stands there."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import pytest

from include.settings import ROOT
from labelops.flow import USE_CASES

NAME = "waiting_tasks"
SECTION = (ROOT / "docs" / "contributor.md").read_text("utf-8").partition("## 4.")[2].partition("## 5.")[0]
MODULE, DAG_FILE, STORY = re.findall(r"^```python\n(.*?)^```", SECTION, re.M | re.S)


def made_of(code: str, name: str) -> ModuleType:
    """Return a module made of a part of the guide."""
    module = ModuleType(name)
    exec(compile(code, "contributor.md", "exec"), vars(module))
    return module


STORIES = [name for name in vars(made_of(STORY, "story")) if name.startswith("test_")]


@pytest.mark.parametrize("story", STORIES)
def test_the_use_case_of_the_guide_does_what_its_story_says(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, story: str
) -> None:
    module = f"include.usecases.{NAME}"
    monkeypatch.setitem(sys.modules, module, made_of(MODULE, module))
    # the entry that the file makes is taken out again at the end
    monkeypatch.setitem(USE_CASES, NAME, None)
    made_of(DAG_FILE, NAME)
    told: Any = vars(made_of(STORY, "story"))[story]
    told(*(request.getfixturevalue(name) for name in told.__code__.co_varnames[: told.__code__.co_argcount]))
