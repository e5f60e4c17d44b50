"""The statement that binds a release: which files, under which guideline, labels and policy, approved by whom.

Form: in-toto Statement v1 (in-toto attestation framework). The predicate is ours, described in ``docs/passport.md``
and by ``schemas/release-predicate.json``. It shows who vouches for the content of a data set, which SLSA provenance
(how a build ran) has no place for; the subjects have the same form, so a build that uses the data can name them as
its resolved dependencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.base.canonical import canonical_json, digest_of, sha256_hex
from include.base.errors import InvalidInput
from include.base.reading import parse_json
from include.passport.facts import Facts, Gate

__all__ = ["PREDICATE", "STATEMENT", "read_statement", "statement"]

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:labelops:predicate:release:v1"


def statement(facts: Facts, subjects: Mapping[str, str]) -> bytes:
    """Return the statement's canonical JSON.

    :param subjects: SHA-256 by name of every file of the release that it vouches for.
    """
    listed = [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in sorted(subjects.items())]
    version = {"name": f"dataset-version:{facts.project.name}/{facts.number}", "digest": {"sha256": facts.digest}}
    return canonical_json(
        {"_type": STATEMENT, "subject": [version, *listed], "predicateType": PREDICATE, "predicate": _predicate(facts)}
    )


def read_statement(content: bytes, source: str) -> dict[str, Any]:
    """Return a statement of ours.

    :raises InvalidInput: naming the field that is not what it must be.
    """
    value = parse_json(content, source)
    if not isinstance(value, dict):
        raise InvalidInput(f"{source}: found {type(value).__name__}; allowed: an in-toto statement")
    for field, allowed in (("_type", STATEMENT), ("predicateType", PREDICATE)):
        if value.get(field) != allowed:
            raise InvalidInput(f"{source}: {field}: found {value.get(field)!r}; allowed: {allowed!r}")
    if not isinstance(value.get("predicate"), dict):
        raise InvalidInput(f"{source}: predicate: found {type(value.get('predicate')).__name__}; allowed: an object")
    subjects = value.get("subject")
    if not isinstance(subjects, list) or not all(_is_subject(one) for one in subjects):
        raise InvalidInput(f"{source}: subject: allowed: a list of name and digest with sha256")
    return value


def _is_subject(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return False
    digest = value.get("digest")
    return isinstance(digest, dict) and isinstance(digest.get("sha256"), str)


def _predicate(facts: Facts) -> dict[str, Any]:
    manifest, context = facts.manifest, facts.context
    value: dict[str, Any] = {
        "version": {
            "project": facts.project.name,
            "number": facts.number,
            "edition": facts.edition,
            "digest": facts.digest,
            "rows": manifest.counts.rows,
            "rowsDigest": manifest.rows.sha256,
            "batch": manifest.batch,
            **({"base": manifest.base.digest} if manifest.base else {}),
        },
        "releasedAt": facts.moment,
        "guidelines": [
            {"number": share.number, "digest": share.digest, "answers": share.counted + share.losing}
            for share in manifest.guidelines
        ],
        "labels": {"interface": manifest.interface, "names": sorted(manifest.labels), "digest": facts.labels_digest},
        "policyDigest": manifest.policy_digest,
        "registerDigest": manifest.register_digest,
        "approvals": [_approval(one) for one in facts.approvals],
        "gates": [_gate(one) for one in context.gates],
    }
    if context.agreement is not None:
        value["agreement"] = {
            "level": context.agreement.level,
            "method": context.agreement.method,
            "coefficients": [dict(vars(one)) for one in context.agreement.coefficients],
        }
    if context.ledger is not None:
        value["ledger"] = dict(vars(context.ledger))
    return value


def _approval(one: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "decision_id": "decisionId",
        "role": "role",
        "person": "person",
        "outcome": "outcome",
        "meaning": "meaning",
        "grade": "grade",
        "signature": "signatureLevel",
        "decided_at": "decidedAt",
        "system": "system",
        "counts": "counts",
        "raw_digest": "evidenceDigest",
    }
    found = {said: one[name] for name, said in names.items() if name in one}
    if one.get("statement"):
        found["statementDigest"] = sha256_hex(str(one["statement"]).encode("utf-8"))
    # The whole decision as approvals.json has it, so that no field of it can be exchanged.
    return {**found, "digest": digest_of(dict(one))}


def _gate(gate: Gate) -> dict[str, Any]:
    return {
        "suite": gate.suite,
        "evidenceFor": gate.evidence_for,
        "reportDigest": gate.report_digest,
        "checks": len(gate.checks),
        "failed": sum(not one.passed for one in gate.checks),
    }
