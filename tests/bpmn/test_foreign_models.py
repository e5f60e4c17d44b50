"""Models as other tenants draw them: other names, extra steps, called processes; fitting, and broken in each way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from include.base.errors import InvalidInput
from include.bpmn.check import ModelReport, check_model
from include.bpmn.mapping import ProcessMapping, load_mapping, read_mapping, start_variables

MODELS = Path(__file__).parent / "models"
NAMES = ("sequential_de", "parallel_en", "called_es")
CALLED = ("FirmaRevision", "FirmaPropietario")


def xml(name: str) -> str:
    return (MODELS / f"{name}.bpmn").read_text("utf-8")


def mapping(name: str, **changes: Any) -> ProcessMapping:
    found = read_mapping(MODELS / f"{name}.yaml").labeling_approval
    return ProcessMapping.model_validate({**found.model_dump(), **changes})


def deployed(**changed: str) -> Any:
    return {**{key: xml(f"called_es_{key}") for key in CALLED}, **changed}.get


def check(name: str, old: str = "", new: str = "", **changes: Any) -> ModelReport:
    source = xml(name)
    assert old in source
    return check_model(mapping(name, **changes), source.replace(old, new) if old else source, deployed())


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_model_fits_its_mapping(name: str) -> None:
    report = check(name)
    assert report.problems == ()
    assert [role for _, role, _ in report.tasks] == ["quality_reviewer", "data_owner"]


def test_steps_without_a_person_and_side_ends_are_notes() -> None:
    notes = "\n".join(check("sequential_de").notes)
    assert re.search(r"'Eingang bestätigen' \(mail\), .*'Kennzahlen holen' \(http\)|'Kennzahlen holen' \(http\)", notes)
    assert "'Unterlagen ablegen' (id 'UT_Ablage') is nobody's decision" in notes
    assert "'Gemahnt' (id 'E_Gemahnt') is no result" in notes
    assert "go into 'approvalStatus' one after the other" in notes


@pytest.mark.parametrize("name", NAMES)
def test_our_mapping_does_not_fit_a_foreign_model(name: str) -> None:
    report = check_model(load_mapping("default").labeling_approval, xml(name))
    assert not report.fits
    assert "expected one process with the key 'labeling_approval'" in report.text()


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("sequential_de", 'id="UT_Freigabe"', 'id="UT_9"', "no user task with the id 'UT_Freigabe'.*'data_owner'"),
        ("sequential_de", 'name="Freigabe erteilen"', 'name="Freigeben"', "called 'Freigeben'.*set `name: Freigeben`"),
        ("sequential_de", 'id="UT_Ablage"', 'id="UT_Archiv"', "'Unterlagen ablegen'.*add 'UT_Archiv' to other_tasks"),
        ("sequential_de", "${freigabegruppe}", "${gruppe}", "no group_variable of the mapping feeds 'gruppe'"),
        ("sequential_de", ' flowable:candidateGroups="${freigabegruppe}"', "", "Set candidateGroups to"),
        ("sequential_de", "Nicht in Ordnung:NOK", "Vertagen:SPAETER", r"offers the outcome 'SPAETER' \(Vertagen\)"),
        ("sequential_de", "== 'NOK'", "== 'NEIN'", "Sequence flow .id 'f7'.*compares 'approvalStatus' with 'NEIN'"),
        ("sequential_de", 'value="approvalStatus"', 'value="status"', "into the variable 'status'"),
        ("sequential_de", "${approvalStatus ==", "${x ==", "No condition in the model tests 'approvalStatus'"),
        ("sequential_de", '"E_Nein"', '"E_No"', "expects an end event with the id 'E_Nein'.*'E_Ja' .Freigegeben."),
        ("sequential_de", '"E_Gemahnt"', '"E_Weg"', "can end at 'E_Weg'.*other_ends"),
        (
            "parallel_en",
            'Groups="${business_group}">',
            'Groups="${business_group}"><multiInstanceLoopCharacteristics isSequential="false"/>',
            "for each of several persons",
        ),
        ("parallel_en", 'id="again"', 'id="later"', "offers the outcome 'later'"),
        ("called_es", 'calledElement="FirmaRevision"', 'calledElement="Otra"', "calls the process 'Otra', which"),
        ("called_es", 'calledElement="FirmaRevision"', 'calledElement="${cual}"', "known only when it runs"),
        ("called_es", 'source="grupo_revision" target="grupo"', 'source="x" target="y"', "does not hand 'grupo' over"),
        ("called_es", ' flowable:inheritVariables="true"', "", "does not hand 'grupo_propietarios' over"),
        ("called_es", 'target="resultado_firma"', 'target="otro"', "'pedir_firma' hands it back to none"),
        ("called_es", "${con_revision ==", "${si ==", "tests 'con_revision', which says whether"),
    ],
)
def test_each_way_a_model_can_be_wrong_is_said_in_a_sentence(name: str, old: str, new: str, expected: str) -> None:
    report = check(name, old, new)
    assert any(re.search(expected, str(one), re.DOTALL) for one in report.problems), report.text()
    for problem in report.problems:
        assert problem.change
        assert str(problem).count("\n") == 0
        assert str(problem).endswith(".")


def test_two_tasks_at_once_must_not_share_a_variable() -> None:
    tasks = [{**one, "outcome_variable": "methods_ok"} for one in mapping("parallel_en").model_dump()["tasks"]]
    report = check("parallel_en", "business_ok", "methods_ok", tasks=tasks)
    [problem] = report.problems
    assert "can wait at the same time as 'Sign-off: methods' (id 'sid-04')" in str(problem)


def test_a_called_process_is_checked_like_the_calling_one() -> None:
    broken = xml("called_es_FirmaPropietario").replace('id="firmar"', 'id="sellar"').replace('"firmar"', '"sellar"')
    report = check_model(mapping("called_es"), xml("called_es"), deployed(FirmaPropietario=broken))
    assert any("no user task with the id 'firmar'" in str(one) for one in report.problems)
    assert any(
        "in process 'FirmaPropietario'" in str(one) and "not in the mapping" in str(one) for one in report.problems
    )


def test_a_called_process_may_be_in_the_same_file() -> None:
    inner = re.search(r"<process .*</process>", xml("called_es_FirmaRevision"), re.DOTALL)
    other = re.search(r"<process .*</process>", xml("called_es_FirmaPropietario"), re.DOTALL)
    assert inner
    assert other
    whole = xml("called_es").replace("</definitions>", f"{inner[0]}{other[0]}</definitions>")
    assert check_model(mapping("called_es"), whole).fits


def test_a_process_that_calls_itself_is_read_once() -> None:
    loop = xml("called_es_FirmaRevision").replace(
        "<endEvent", '<callActivity id="otra_vez" calledElement="FirmaRevision"/><endEvent'
    )
    report = check_model(mapping("called_es"), xml("called_es"), deployed(FirmaRevision=loop))
    assert any("which called it" in note for note in report.notes)


def test_an_outcome_without_a_variable_is_a_note() -> None:
    report = check("sequential_de", '<flowable:property name="outcomevariable" value="approvalStatus"/>', "")
    assert report.fits
    assert any("names no variable for them" in note for note in report.notes)


def test_markdown_escapes_and_lists_what_to_change() -> None:
    text = check("sequential_de", 'name="Freigabe erteilen"', 'name="Frei | geben"').markdown()
    assert text.startswith("## The process model 'Datenfreigabe' does not fit the mapping: 1 problem.")
    assert "| process | element | found and expected | change |" in text
    assert "Frei \\| geben" in text


def test_groups_of_the_connection_go_before_the_mappings() -> None:
    found = start_variables(mapping("parallel_en"), [], {"data_owner": "EU Owners"})
    assert found == {"methods_group": "methods-team", "business_group": "EU Owners"}
    with pytest.raises(InvalidInput, match=r"no group for the role data_owner.*connection's extra `groups`"):
        start_variables(mapping("parallel_en", groups={"quality_reviewer": "a"}))


def test_a_mapping_of_the_installation_goes_before_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELOPS_MAPPINGS", str(tmp_path))
    assert load_mapping("default").labeling_approval.process_key == "labeling_approval"
    (tmp_path / "own.yaml").write_text((MODELS / "parallel_en.yaml").read_text("utf-8"), "utf-8")
    (tmp_path / "default.yaml").write_text((MODELS / "sequential_de.yaml").read_text("utf-8"), "utf-8")
    assert load_mapping("own").labeling_approval.process_key == "ds-signoff-v2"
    assert load_mapping("default").labeling_approval.process_key == "Datenfreigabe"
    with pytest.raises(InvalidInput, match="found 'other'; allowed: default, own"):
        load_mapping("other")
