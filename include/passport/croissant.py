"""Croissant metadata of a release: what the files hold, how to read them, and the responsible-AI facts about them.

Format: Croissant 1.0 and Croissant RAI 1.0 (MLCommons), which the reader ``mlcroissant`` checks. The provenance terms
that Croissant 1.1 recommends (PROV-O) stand beside them, as properties that a 1.0 reader passes over. A field of the
responsible-AI vocabulary that no record of ours fills, and no statement of the project file, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from include.passport.facts import Column, DataFile, Facts, limitations

__all__ = ["croissant"]

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification prescribes, and PROV-O's prefix."""

_LICENCES = {
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "cc-by-sa-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "cc-by-nc-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "cc-by-nd-4.0": "https://creativecommons.org/licenses/by-nd/4.0/",
    "cc-by-nc-sa-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "odc-by": "https://opendatacommons.org/licenses/by/1-0/",
    "odbl": "https://opendatacommons.org/licenses/odbl/1-0/",
    "pddl": "https://opendatacommons.org/licenses/pddl/1-0/",
    "mit": "https://opensource.org/license/mit",
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
}
"""Addresses of the licences that the hub has a short name for."""

_ENCODINGS = {
    ".parquet": "application/x-parquet",
    ".jsonl": "application/jsonlines",
    ".json": "application/json",
    ".csv": "text/csv",
    ".md": "text/markdown",
}
_SPLITS = {
    "train": "cr:TrainingSplit",
    "dev": "cr:ValidationSplit",
    "validation": "cr:ValidationSplit",
    "test": "cr:TestSplit",
}
_LABELS = frozenset({"label", "accept", "spans", "regions", "segments", "relations"})
"""Columns that hold what the annotators gave."""


def croissant(facts: Facts) -> bytes:
    """Return ``croissant.json``."""
    value = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": f"{facts.project.name}-{facts.number}",
        "alternateName": f"{facts.project.title}, version {facts.number}",
        "description": facts.card.description or _description(facts),
        "identifier": f"sha256:{facts.digest}",
        "url": facts.card.url,
        "version": f"{facts.number}.0.0",
        "datePublished": facts.moment,
        "license": _LICENCES.get(facts.project.release.licence, facts.project.release.licence),
        "inLanguage": facts.project.release.language,
        "creator": {"@type": "sc:Person", "name": facts.project.owner},
        "citeAs": facts.card.citation,
        "isLiveDataset": False,
        **_responsible(facts),
        **_provenance(facts),
        "distribution": [_file(one) for one in facts.files],
        "recordSet": [*_splits(facts), *_record_sets(facts)],
    }
    kept = {name: one for name, one in value.items() if one not in (None, [])}
    return json.dumps(kept, ensure_ascii=False, indent=2).encode("utf-8") + b"\n"


def _description(facts: Facts) -> str:
    counts = facts.manifest.counts
    return (
        f"{facts.project.title}: {counts.rows} rows labelled by {len(facts.manifest.persons)} persons "
        f"with {', '.join(facts.manifest.labels)}. Dataset version {facts.digest}."
    )


def _responsible(facts: Facts) -> dict[str, Any]:
    card, manifest = facts.card, facts.manifest
    counts, rule = manifest.counts, manifest.rule
    left_out = counts.missing + counts.disputed + counts.ignored
    return {
        "rai:dataCollection": card.collection,
        "rai:dataCollectionMissingData": (
            f"Of {counts.tasks} tasks {left_out} are left out: {counts.missing} lack answers, {counts.disputed} are "
            f"disputed, {counts.ignored} were ignored by everybody."
            if left_out
            else None
        ),
        "rai:dataAnnotationProtocol": [f"Rule {rule.name}: {rule.text}", *_guidelines(facts)],
        "rai:dataAnnotationPlatform": [f"Prodigy, interface {manifest.interface}"],
        "rai:dataAnnotationAnalysis": _analysis(facts),
        "rai:annotationsPerItem": (
            f"{rule.answers_per_task} asked for; {counts.answers} answers to {counts.tasks} tasks were given"
        ),
        "rai:annotatorDemographics": list(card.demographics),
        "rai:dataUseCases": list(card.use_cases),
        "rai:dataLimitations": [*limitations(facts), *card.limitations],
        "rai:dataBiases": list(card.biases),
        "rai:personalSensitiveInformation": list(card.sensitive_information),
        "rai:dataReleaseMaintenancePlan": card.maintenance,
    }


def _guidelines(facts: Facts) -> Iterable[str]:
    known = {one.digest: one for one in facts.context.guidelines}
    for share in facts.manifest.guidelines:
        given = f"{share.counted + share.losing} answers"
        if share.digest == "unknown":
            yield f"{given} do not say under which guideline they were given"
            continue
        release = known.get(share.digest)
        published = f", published {release.published_at}" if release else ""
        yield f"{given} were given under guideline release {share.number or '?'} (sha256 {share.digest}){published}"


def _analysis(facts: Facts) -> list[str]:
    counts = facts.manifest.counts
    lines = [
        f"On {counts.unanimous} of {counts.rows} rows everybody gave the value that counts, on {counts.split} somebody "
        f"did not; {counts.decided} rows were decided by a review or a final decision"
    ]
    agreement = facts.context.agreement
    for one in agreement.coefficients if agreement else ():
        interval = f", {agreement.level} interval {one.low} to {one.high}" if agreement and one.low is not None else ""
        lines.append(f"{one.name} {one.value}{interval}" + (f" ({one.detail})" if one.detail else ""))
    return lines


def _provenance(facts: Facts) -> dict[str, Any]:
    manifest = facts.manifest
    annotation = {
        "@type": "prov:Activity",
        "prov:label": "Annotation",
        "prov:startedAtTime": manifest.first_answer_at,
        "prov:endedAtTime": manifest.last_answer_at,
        "prov:wasAssociatedWith": [_agent(person) for person in [*facts.annotators, *manifest.adjudicators]],
    }
    approvers = dict.fromkeys(str(one["person"]) for one in facts.approvals if one.get("person"))
    approval = {
        "@type": "prov:Activity",
        "prov:label": "Approval",
        "prov:startedAtTime": facts.begun,
        "prov:endedAtTime": facts.moment,
        "prov:wasAssociatedWith": [_agent(person) for person in approvers],
    }
    return {
        "prov:wasDerivedFrom": {"@id": f"urn:labelops:version:sha256:{facts.digest}"},
        "prov:wasGeneratedBy": [_known(annotation), _known(approval)] if facts.approvals else [_known(annotation)],
        "prov:wasAttributedTo": _agent(facts.project.owner),
    }


def _agent(person: str) -> dict[str, Any]:
    return {"@type": "prov:Agent", "prov:label": person}


def _known(value: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in value.items() if one not in (None, [])}


def _file(file: DataFile) -> dict[str, Any]:
    suffix = "." + file.name.rpartition(".")[2]
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "contentUrl": file.name,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": _ENCODINGS.get(suffix, "application/octet-stream"),
        "sha256": file.sha256,
    }


def _splits(facts: Facts) -> list[dict[str, Any]]:
    """Return the record set that says what the splits are for; none where the data is in one piece."""
    if not facts.splits:
        return []
    data = [
        {"splits/name": name, **({"splits/url": _SPLITS[name]} if name in _SPLITS else {})} for name in facts.splits
    ]
    fields = [{"@type": "cr:Field", "@id": "splits/name", "name": "splits/name", "dataType": "sc:Text"}]
    if all(name in _SPLITS for name in facts.splits):
        fields.append({"@type": "cr:Field", "@id": "splits/url", "name": "splits/url", "dataType": "sc:URL"})
    return [
        {
            "@type": "cr:RecordSet",
            "@id": "splits",
            "name": "splits",
            "dataType": "cr:Split",
            "key": {"@id": "splits/name"},
            "field": fields,
            "data": data,
        }
    ]


def _record_sets(facts: Facts) -> list[dict[str, Any]]:
    """Return one record set for each file that has columns; they carry the file's name, or the split's."""
    found = [one for one in facts.of_format("parquet", "jsonl") if one.columns]
    return [_record_set(one, one.split or "rows") for one in found]


def _record_set(file: DataFile, name: str) -> dict[str, Any]:
    names = {column.name for column in file.columns}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        **({"key": {"@id": f"{name}/task_id"}} if "task_id" in names else {}),
        "field": [_field(column, file, name) for column in file.columns],
    }


def _field(column: Column, file: DataFile, home: str) -> dict[str, Any]:
    place = f"{home}/{column.name}"
    kinds = [] if column.fields else [_data_type(column.type)]
    if column.name in _LABELS:
        kinds.append("cr:Label")
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": place,
        "name": column.name,
        "source": {"fileObject": {"@id": file.name}, "extract": {"column": column.name}},
    }
    if kinds:
        field["dataType"] = kinds[0] if len(kinds) == 1 else kinds
    if column.repeated:
        field["repeated"] = True
    if column.fields:
        path = "$[*]" if column.repeated else "$"
        field["subField"] = [
            {
                "@type": "cr:Field",
                "@id": f"{place}/{part.name}",
                "name": part.name,
                "dataType": _data_type(part.type),
                "source": {
                    "fileObject": {"@id": file.name},
                    "extract": {"column": column.name},
                    "transform": {"jsonPath": f"{path}.{part.name}"},
                },
            }
            for part in column.fields
            if not part.repeated  # Croissant 1.0 has no lists in lists
        ]
    return field


def _data_type(arrow: str) -> str:
    if arrow.startswith(("int", "uint")):
        return "sc:Integer"
    if arrow in ("float", "double", "halffloat"):
        return "sc:Float"
    if arrow == "bool":
        return "sc:Boolean"
    return "sc:Text"
