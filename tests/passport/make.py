"""Releases for the tests of this folder: a real version, frozen from answers, approved as its policy demands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from include.annotation.answers import Answer, AnswerValue
from include.annotation.tasks import task_id
from include.base.canonical import canonical_json, digest_of, sha256_hex
from include.base.signing import Signer
from include.base.store import Store
from include.datasets.freeze import FrozenVersion, freeze
from include.passport.facts import (
    Agreement,
    Check,
    Coefficient,
    Context,
    Gate,
    GuidelineRelease,
    LedgerPlace,
)
from include.projects.model import Interface, Project
from include.queues.progress import form
from include.releases.write import write_release
from tests.datasets.make import GUIDELINE, REGISTER, answer, project, task

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
STRANGER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))

CARD = {
    "description": "Which topics a support ticket touches.",
    "use_cases": ["Routing of tickets; not for judging the people who wrote them."],
    "biases": ["Tickets of customers who write by e-mail only."],
    "sensitive_information": ["Names were removed before labelling."],
    "demographics": ["Three employees of the support team, Germany."],
    "collection": "Tickets of May 2026, taken from the ticket system.",
    "citation": "@misc{topics,\n  title={Topics}\n}",
    "maintenance": "A new version each quarter until 2028.",
}
CONTEXT = Context(
    asked_at=datetime(2026, 5, 2, 8, tzinfo=UTC),
    released_at=datetime(2026, 5, 2, 10, tzinfo=UTC),
    guidelines=(GuidelineRelease(3, GUIDELINE, "2026-04-30T12:00:00.000000Z", 2),),
    gates=(
        Gate(
            "version_rows",
            digest_of("rows"),
            digest_of("report"),
            3,
            (
                Check("labels are the project's", "labels_unknown", "0", "0", "critical", True),
                Check("few disputes", "persons", "2", "1", "warning", False),
            ),
        ),
    ),
    agreement=Agreement(
        (Coefficient("Krippendorff's alpha, nominal", "0.743", "0.51", "0.93", "4 items, 2 annotators"),),
        "95 %",
        "bootstrap over items, 1000 draws, seed 7",
    ),
    ledger=LedgerPlace("ledger-1", 1, 42, digest_of("event 42"), "2026-05-02T10:00:00.000000Z"),
)
ANSWERS = [
    answer(1, "anna", "billing", "other"),
    answer(1, "ben", "billing", "other"),
    answer(2, "anna"),
    answer(2, "ben"),
    answer(3, "anna", verdict="reject"),
    answer(3, "ben", verdict="reject"),
    answer(4, "anna", verdict="ignore"),
    answer(4, "ben", verdict="ignore"),
]


def topics(card: dict[str, Any] | None = None) -> Project:
    """Return the project ``ticket_topics`` with statements about its data."""
    value = project().model_dump(mode="json")
    return Project.model_validate({**value, "card": CARD if card is None else card})


def frozen(
    store: Store, of: Project, answers: list[Answer] | None = None, ids: list[str] | None = None
) -> FrozenVersion:
    ids = ids or [task(number) for number in (1, 2, 3, 4)]
    return freeze(store, of, form(ids).digest, ids, ANSWERS if answers is None else answers, register=REGISTER)


def decided(version: FrozenVersion, role: str, person: str, meaning: str, **changes: Any) -> dict[str, Any]:
    """Return a decision as the ledger has it."""
    return {
        "decision_id": digest_of([version.digest, role, person]),
        "project": version.manifest.project,
        "subject": f"version:{version.digest}",
        "digest": version.digest,
        "attempt": 1,
        "role": role,
        "outcome": "approve",
        "counts": True,
        "void_reason": "",
        "person": person,
        "account": f"{person}@people.example",
        "system": "opentext",
        "decided_at": datetime(2026, 5, 2, 9, tzinfo=UTC),
        "meaning": meaning,
        "grade": "attested",
        "statement": f"[1] I approve dataset version {version.digest} as {role}.",
        "raw_digest": digest_of("raw"),
        "process_id": "p1",
        "task_id": f"t-{role}",
        **changes,
    }


def approvals(version: FrozenVersion) -> list[dict[str, Any]]:
    return [
        decided(version, "quality_reviewer", "quentin", "review"),
        decided(version, "data_owner", "dana", "approval"),
    ]


def released(home: Path, signer: Signer | None = SIGNER, *, of: Project | None = None, **more: Any) -> Path:
    """Write a release and return its folder."""
    of = of or topics()
    store = Store(home)
    version = frozen(store, of, more.pop("answers", None), more.pop("ids", None))
    given = more.pop("approvals", approvals)(version)
    context = more.pop("context", CONTEXT)
    return write_release(store, of, version.digest, 1, version.manifest, given, context, signer, **more).path


def products(home: Path, interface: str) -> Path:
    """Write a release of another interface: ``textcat`` or ``ner``."""
    of = project("product_names", interface=interface, labels=["PRODUCT"])
    seen: dict[str, Any] = {"text": "A Frobnicator 🙂 by Acme"}
    if interface == "textcat":
        seen["label"] = "PRODUCT"
        value = AnswerValue(Interface.TEXTCAT, "accept", label="PRODUCT")
    else:
        value = AnswerValue(Interface.NER, "accept", spans=((2, 13, "PRODUCT"), (20, 24, "PRODUCT")))
    name = task_id(of.name, seen)
    one = replace(answer(1, "anna"), task_id=name, shown=seen, value=value)
    return released(
        home,
        of=of,
        answers=[one],
        ids=[name],
        approvals=lambda version: [decided(version, "data_owner", "dana", "approval")],
    )


def reseal(folder: Path) -> None:
    """Make ``checksums.json`` fit the files again, as somebody who changes a release would."""
    place = folder / "checksums.json"
    sums = json.loads(place.read_bytes())
    sums["files"] = {
        path.relative_to(folder).as_posix(): {"sha256": sha256_hex(path.read_bytes()), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != place
    }
    place.write_bytes(canonical_json(sums) + b"\n")


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_bytes())
    change(value)
    path.write_bytes(canonical_json(value))
