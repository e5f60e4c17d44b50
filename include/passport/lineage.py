"""OpenLineage events of a release: what was read, what was written, how good it is and who answers for it.

Format: OpenLineage 2-0-2, built with the classes of ``openlineage-python``, which check each value. Agreement and
approval have no facet in the standard: ours carry the prefix ``labelops_`` and are described by the JSON schemas in
``schemas/``, as the specification asks of custom facets. Run id and times are derived from the release, so sending
the events twice tells a receiver nothing new. Where the code is kept is added by the client that sends them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import attr
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    data_quality_assertions_dataset,
    data_quality_metrics_dataset,
    dataset_version_dataset,
    documentation_dataset,
    job_type_job,
    lifecycle_state_change_dataset,
    output_statistics_output_dataset,
    ownership_dataset,
    ownership_job,
    schema_dataset,
    test_run,
)
from openlineage.client.serde import Serde
from openlineage.client.uuid import generate_static_uuid

from include.base.errors import InvalidInput
from include.base.reading import parse_json
from include.passport.facts import Check, Column, Facts, Gate

__all__ = ["NAMESPACE", "PRODUCER", "ReleaseAgreementFacet", "ReleaseApprovalFacet", "content", "events", "read_events"]

NAMESPACE = "labelops"
PRODUCER = "urn:labelops"
_SCHEMAS = "urn:labelops:schema:1-0-0"


@attr.define
class ReleaseAgreementFacet(DatasetFacet):
    """How far the annotators agree: one entry for each coefficient, numbers as decimal text."""

    coefficients: list[dict[str, Any]] = attr.field(factory=list)
    intervalLevel: str | None = attr.field(default=None)
    intervalMethod: str | None = attr.field(default=None)

    @staticmethod
    def _get_schema() -> str:
        return f"{_SCHEMAS}:ReleaseAgreementDatasetFacet.json#/$defs/ReleaseAgreementDatasetFacet"


@attr.define
class ReleaseApprovalFacet(DatasetFacet):
    """Who approved exactly this version, in which role and with which meaning, under which policy."""

    policyDigest: str = attr.field()
    approvals: list[dict[str, Any]] = attr.field(factory=list)

    @staticmethod
    def _get_schema() -> str:
        return f"{_SCHEMAS}:ReleaseApprovalDatasetFacet.json#/$defs/ReleaseApprovalDatasetFacet"


def events(facts: Facts) -> list[RunEvent]:
    """Return the run's START and COMPLETE.

    :raises InvalidInput: when no time of the release is known.
    """
    if facts.moment is None:
        raise InvalidInput(
            f"release {facts.number} of {facts.project.name}: nothing says when it was released, so it makes no event"
        )
    moment = facts.moment
    identity = f"{facts.project.name}:{facts.digest}:{facts.number}:{facts.edition}".encode()
    run_id = str(generate_static_uuid(datetime.fromisoformat(moment), identity))
    begun = min(facts.begun or moment, moment)

    def event(kind: RunState, time: str, run: Run, outputs: list[OutputDataset]) -> RunEvent:
        return RunEvent(
            eventType=kind,
            eventTime=time,
            run=run,
            job=_job(facts),
            inputs=[_input(facts)],
            outputs=outputs,
            producer=PRODUCER,
        )

    gates: dict[str, Any] = {"test": _tests(facts.context.gates)} if facts.context.gates else {}
    return [
        event(RunState.START, begun, Run(run_id), []),
        event(RunState.COMPLETE, moment, Run(run_id, facets=gates), [_output(facts)]),
    ]


def content(run: Sequence[RunEvent]) -> bytes:
    """Return the events as the file ``openlineage.json`` holds them: a list, keys sorted."""
    told = [Serde.to_dict(one) for one in run]
    return json.dumps(told, sort_keys=True, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"


def read_events(file: bytes, source: str) -> Iterator[RunEvent]:
    """Yield the events of a file as a transport takes them.

    :raises InvalidInput: naming ``source`` when it holds anything else.
    """
    try:
        told = parse_json(file, source)
        if not isinstance(told, list):
            raise TypeError(f"found {type(told).__name__}, allowed: a list")
        for one in told:
            run, job = one["run"], one["job"]
            yield RunEvent(
                eventType=RunState(one["eventType"]),
                eventTime=one["eventTime"],
                producer=one["producer"],
                run=Run(run["runId"], facets=run.get("facets", {})),
                job=Job(job["namespace"], job["name"], facets=job.get("facets", {})),
                inputs=[InputDataset(**each) for each in one["inputs"]],
                outputs=[OutputDataset(**each) for each in one["outputs"]],
            )
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{source}: holds no OpenLineage events ({error})") from error


def _job(facts: Facts) -> Job:
    facets: dict[str, Any] = {
        "jobType": job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="LABELOPS", jobType="JOB", producer=PRODUCER
        ),
        "ownership": ownership_job.OwnershipJobFacet(
            owners=[ownership_job.Owner(name=f"user:{facts.project.owner}", type="OWNER")], producer=PRODUCER
        ),
    }
    return Job(NAMESPACE, f"dataset_release.{facts.project.name}", facets=facets)


def _input(facts: Facts) -> InputDataset:
    assertions = [_assertion(gate, check) for gate in facts.context.gates for check in gate.checks]
    checked: dict[str, Any] = {}
    if assertions:
        checked["dataQualityAssertions"] = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions=assertions, producer=PRODUCER
        )
    return InputDataset(
        NAMESPACE,
        f"{facts.project.name}.versions",
        inputFacets=checked,
        facets={"version": _version(facts)},
    )


def _output(facts: Facts) -> OutputDataset:
    size, counts = sum(one.bytes for one in facts.files), facts.manifest.counts
    facets: dict[str, Any] = {
        "version": _version(facts),
        "documentation": documentation_dataset.DocumentationDatasetFacet(
            description=facts.card.description or f"{facts.project.title}, version {facts.number}", producer=PRODUCER
        ),
        "ownership": ownership_dataset.OwnershipDatasetFacet(
            owners=[ownership_dataset.Owner(name=f"user:{facts.project.owner}", type="OWNER")], producer=PRODUCER
        ),
        "lifecycleStateChange": lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(
            lifecycleStateChange=lifecycle_state_change_dataset.LifecycleStateChange.CREATE, producer=PRODUCER
        ),
        "dataQualityMetrics": data_quality_metrics_dataset.DataQualityMetricsDatasetFacet(
            columnMetrics={}, rowCount=counts.rows, bytes=size, fileCount=len(facts.files), producer=PRODUCER
        ),
        "labelops_approval": ReleaseApprovalFacet(
            policyDigest=facts.manifest.policy_digest,
            approvals=[
                {
                    name: one[name]
                    for name in ("role", "person", "outcome", "meaning", "grade", "decided_at")
                    if one.get(name) is not None
                }
                for one in facts.approvals
            ],
            producer=PRODUCER,
        ),
    }
    columns = next((one.columns for one in facts.files if one.columns), ())
    if columns:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=_fields(columns), producer=PRODUCER)
    agreement = facts.context.agreement
    if agreement is not None:
        facets["labelops_agreement"] = ReleaseAgreementFacet(
            coefficients=[{k: v for k, v in vars(one).items() if v is not None} for one in agreement.coefficients],
            intervalLevel=agreement.level or None,
            intervalMethod=agreement.method or None,
            producer=PRODUCER,
        )
    return OutputDataset(
        NAMESPACE,
        f"{facts.project.name}.releases",
        outputFacets={
            "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=counts.rows, size=size, fileCount=len(facts.files), producer=PRODUCER
            )
        },
        facets=facets,
    )


def _version(facts: Facts) -> DatasetFacet:
    return dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=facts.digest, producer=PRODUCER)


def _fields(columns: Sequence[Column]) -> list[schema_dataset.SchemaDatasetFacetFields]:
    return [
        schema_dataset.SchemaDatasetFacetFields(
            name=one.name,
            type=f"list<{one.type}>" if one.repeated else one.type,
            ordinal_position=place,
            fields=_fields(one.fields),
        )
        for place, one in enumerate(columns, 1)
    ]


def _severity(check: Check) -> str:
    return "error" if check.severity == "critical" else "warn"


def _assertion(gate: Gate, check: Check) -> data_quality_assertions_dataset.Assertion:
    return data_quality_assertions_dataset.Assertion(
        assertion=gate.suite,
        success=check.passed,
        severity=_severity(check),
        name=f"{gate.suite}.{check.column}",
        description=check.name,
        expected=check.expected,
        actual=check.observed,
    )


def _tests(gates: Sequence[Gate]) -> test_run.TestRunFacet:
    return test_run.TestRunFacet(
        tests=[
            test_run.TestExecution(
                name=f"{gate.suite}.{check.column}",
                status="pass" if check.passed else "fail",
                severity=_severity(check),
                type=gate.suite,
                description=check.name,
                expected=check.expected,
                actual=check.observed,
            )
            for gate in gates
            for check in gate.checks
        ],
        producer=PRODUCER,
    )
