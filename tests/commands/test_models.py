"""``labelops check-model``: what a modeller is told, and the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from labelops.commands import main
from tests.bpmn.test_foreign_models import CALLED, MODELS


def test_the_command_says_what_to_change_and_exits_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, names = str(MODELS / "called_es.bpmn"), str(MODELS / "called_es.yaml")
    called = [part for key in CALLED for part in ("--called", str(MODELS / f"called_es_{key}.bpmn"))]
    assert main(["check-model", model, names, *called]) == 0
    assert "fits the mapping (read: VistoBueno, FirmaRevision, FirmaPropietario)" in capsys.readouterr().out
    assert main(["check-model", model, names]) == 1
    assert "which is not deployed" in capsys.readouterr().out
    assert main(["check-model", model, names, "--markdown"]) == 1
    assert capsys.readouterr().out.startswith("## ")
    assert main(["check-model", str(tmp_path / "none.bpmn"), names]) == 2
    assert main(["check-model", str(MODELS / "parallel_en.bpmn"), names]) == 2
    assert "'ds-signoff-v2'" in capsys.readouterr().err


def test_the_command_needs_a_group_for_every_role(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = yaml.safe_load((MODELS / "parallel_en.yaml").read_text("utf-8"))
    value["labeling_approval"]["groups"] = {"quality_reviewer": "a"}
    place = tmp_path / "without.yaml"
    place.write_text(yaml.safe_dump(value), "utf-8")
    model = str(MODELS / "parallel_en.bpmn")
    assert main(["check-model", model, str(place)]) == 1
    assert "no group for the role data_owner" in capsys.readouterr().out
    assert main(["check-model", model, str(place), "--group", "data_owner=b"]) == 0
    assert main(["check-model", model, str(place), "--group", "data_owner"]) == 2
