"""The OpenLineage events, held to the specification's own classes and sent through its transports."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import attr
import pytest

from include.base.errors import InvalidInput
from include.passport.lineage import ReleaseAgreementFacet, ReleaseApprovalFacet, read_events
from include.settings import ROOT
from tests.passport.make import CONTEXT, released


@pytest.fixture
def told(tmp_path: Path) -> list[dict[str, Any]]:
    return json.loads((released(tmp_path) / "openlineage.json").read_bytes())


def facet_classes() -> dict[str, type]:
    """Return the facets of the specification, and ours, by the address of their schema."""
    from openlineage.client import facet_v2

    modules = [value for value in vars(facet_v2).values() if inspect.ismodule(value)]
    found = {
        kind._get_schema(): kind
        for module in modules
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, facet_v2.BaseFacet)
    }
    return {**found, **{kind._get_schema(): kind for kind in (ReleaseAgreementFacet, ReleaseApprovalFacet)}}


def facets_of(event: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {**event["run"].get("facets", {}), **event["job"].get("facets", {})}
    for dataset in [*event["inputs"], *event["outputs"]]:
        for kind in ("facets", "inputFacets", "outputFacets"):
            found |= dataset.get(kind, {})
    return found


def test_a_run_begins_and_completes(told: list[dict[str, Any]]) -> None:
    assert [one["eventType"] for one in told] == ["START", "COMPLETE"]
    assert [one["eventTime"] for one in told] == ["2026-05-02T08:00:00+00:00", "2026-05-02T10:00:00+00:00"]
    assert len({one["run"]["runId"] for one in told}) == 1
    UUID(told[0]["run"]["runId"])
    for one in told:
        assert one["schemaURL"].startswith("https://openlineage.io/spec/2-0-2/OpenLineage.json#")
        assert {"eventTime", "producer", "schemaURL", "run", "job"} <= set(one)
        assert (one["job"]["namespace"], one["job"]["name"]) == ("labelops", "dataset_release.ticket_topics")


@pytest.mark.proves("OpenLineage events carry version, quality, ownership, agreement and approval as facets")
def test_each_facet_is_one_of_the_specification_and_whole(told: list[dict[str, Any]]) -> None:
    """No schema files travel with the client; its generated classes name each facet's fields and which are required."""
    classes = facet_classes()
    found = facets_of(told[1])
    assert set(found) >= {
        "version", "schema", "documentation", "ownership", "lifecycleStateChange", "outputStatistics", "test",
        "dataQualityAssertions", "dataQualityMetrics", "jobType", "labelops_agreement",
        "labelops_approval",
    }  # fmt: skip
    for name, facet in found.items():
        assert facet["_producer"] == "urn:labelops", name
        kind = classes[facet["_schemaURL"]]
        fields = {one.name: one for one in attr.fields(kind)}
        assert set(facet) <= set(fields), name
        required = {one.name for one in fields.values() if one.default is attr.NOTHING}
        assert required <= set(facet), name


def test_what_the_facets_say(told: list[dict[str, Any]], tmp_path: Path) -> None:
    found = facets_of(told[1])
    manifest = next(tmp_path.rglob("releases/*/v1-*/manifest.json"))
    assert manifest.parent.name == f"v1-{found['version']['datasetVersion'][:12]}"
    assert found["outputStatistics"]["rowCount"] == 3
    assert found["outputStatistics"]["fileCount"] == 2
    assert found["ownership"]["owners"] == [{"name": "user:olga", "type": "OWNER"}]
    assert found["lifecycleStateChange"]["lifecycleStateChange"] == "CREATE"
    assert [(one["status"], one["severity"]) for one in found["test"]["tests"]] == [("pass", "error"), ("fail", "warn")]
    assert [one["success"] for one in found["dataQualityAssertions"]["assertions"]] == [True, False]
    assert {one["name"]: one["type"] for one in found["schema"]["fields"]}["accept"] == "list<string>"
    assert {one["person"] for one in found["labelops_approval"]["approvals"]} == {"dana", "quentin"}


@pytest.mark.parametrize("name", ["agreement", "approval"])
def test_our_facets_follow_their_published_schema(told: list[dict[str, Any]], name: str) -> None:
    import jsonschema

    facet = facets_of(told[1])[f"labelops_{name}"]
    address, _, pointer = facet["_schemaURL"].partition("#")
    schema = json.loads((ROOT / "include/passport/schemas" / address.rpartition(":")[2]).read_bytes())
    assert schema["$id"] == address
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator({**schema, "$ref": f"#{pointer}", "properties": {}})
    checker.validate(facet)
    with pytest.raises(jsonschema.ValidationError):
        checker.validate({**facet, "mood": "good"})


def test_the_events_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    from openlineage.client.serde import Serde

    content = (released(tmp_path) / "openlineage.json").read_bytes()
    assert [Serde.to_dict(one) for one in read_events(content, "x")] == json.loads(content)
    for broken in (b"{", b"{}", b"[1]", b'[{"eventType": "START"}]'):
        with pytest.raises(InvalidInput, match=r"openlineage\.json"):
            list(read_events(broken, "openlineage.json"))


def test_the_same_release_is_the_same_run(tmp_path: Path) -> None:
    first, second = (json.loads((released(tmp_path / one) / "openlineage.json").read_bytes()) for one in "ab")
    assert first == second
    other = released(tmp_path / "c", context=replace(CONTEXT, released_at=CONTEXT.released_at + timedelta(days=1)))
    assert json.loads((other / "openlineage.json").read_bytes())[0]["run"] != first[0]["run"]
