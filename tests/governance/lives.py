"""A small scripted life of dataset versions on a ledger and in a store, without any outside system."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from include.annotation.answers import Answer
from include.base.canonical import canonical_json, digest_of
from include.base.store import Store
from include.datasets.freeze import freeze
from include.governance.ledger import Ledger
from include.governance.records import Decision, NewEvent, SourceRecord, VersionRecord
from include.projects.model import Project
from include.questions import Records
from include.queues.progress import form
from tests.datasets.make import REGISTER, answer, project, task

ASKED_AT = datetime(2026, 5, 4, 9, tzinfo=UTC)
LENIENT: dict[str, Any] = {"evidence": "asserted", "min_completeness_percent": 0, "require_guideline_stamp": False}


class Life:
    """One project's ledger and store, and a hand for each step of a version's life."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
        self.ledger.migrate()
        self.store = Store(folder / "store")
        self.project: Project = project(policy={**LENIENT, **policy})
        self.records = Records(self.ledger, self.store)

    def event(self, action: str, subject: str, at: datetime | None = None, **more: Any) -> int:
        """Append an event and return its number."""
        values = {"actor": "labelops", "project": self.project.name, **more}
        appended, _ = self.ledger.append(NewEvent(action=action, subject=subject, **values), time=at)
        return appended.seq

    def frozen(self, answers: Iterable[Answer], numbers: Iterable[int], **more: Any) -> VersionRecord:
        """Assign a batch of these tasks, and freeze the answers to it into a version."""
        ids = sorted(map(task, numbers))
        batch = form(ids)
        self.store.put_object(batch.content)
        self.event(
            "batch.assigned", f"batch:{batch.digest}", digest_after=batch.digest,
            body={"kind": "inbox", "size": batch.size, "last_link": 1},
        )  # fmt: skip
        self.ledger.record_sources(
            self.project.name,
            [SourceRecord(one, "tickets.jsonl", f"t-{place}", digest_of(one)) for place, one in enumerate(ids, 1)],
        )
        made = freeze(self.store, self.project, batch.digest, ids, answers, register=REGISTER, **more)
        version = self.ledger.record_version(
            VersionRecord(
                project=self.project.name,
                digest=made.digest,
                rows_digest=made.manifest.rows.sha256,
                batch=batch.digest,
                policy_digest=self.project.policy.digest,
                path=f"versions/{self.project.name}/{made.digest}",
                row_count=made.row_count,
            )
        )
        closed = more.get("closed_by")
        self.event(
            "version.ready",
            f"version:{made.digest}",
            body={"batch": batch.digest, "requesters": [closed] * bool(closed)},
        )
        return version

    def gated(self, version: VersionRecord, suite: str = "version_rows") -> None:
        """Let a gate pass for a version's rows."""
        self.event(
            "gate.passed", f"version:{version.digest}", digest_after=version.rows_digest,
            body={"suite": suite, "report": "gates/x/result.json"},
        )  # fmt: skip

    def asked(self, version: VersionRecord, at: datetime = ASKED_AT, attempt: int = 1) -> str:
        """Put a version before its approvers, and return the process."""
        process = f"process-{version.number}-{attempt}"
        self.event(
            "approval.requested", f"version:{version.digest}", at, digest_after=version.digest,
            body={"process_id": process, "business_key": "k", "attempt": attempt,
                  "policy": self.store.put_object(canonical_json(self.project.policy.pinned()))},
        )  # fmt: skip
        return process

    def decided(self, version: VersionRecord, person: str, role: str, process: str, **changes: Any) -> Decision:
        """Put a decision on the ledger."""
        meanings = {"quality_reviewer": "review", "release_manager": "responsibility"}
        made = Decision(
            **{
                "decision_id": digest_of([version.digest, person, role, process]),
                "project": self.project.name,
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
                "decided_at": ASKED_AT + timedelta(hours=1),
                "meaning": meanings.get(role, "approval"),
                "grade": "attested",
                "raw_digest": self.store.put_object(f"{person} {role}".encode()),
                "process_id": process,
                **changes,
            }
        )
        self.ledger.record_decision(made)
        return made

    def approved(self, version: VersionRecord, reviewer: str = "quentin", owner: str = "dana") -> None:
        """Let a version pass its gate and be approved by both roles of the policy."""
        self.gated(version)
        process = self.asked(version)
        self.decided(version, reviewer, "quality_reviewer", process)
        self.decided(version, owner, "data_owner", process)
        self.event("approval.approved", f"version:{version.digest}", digest_after=version.digest, body={"attempt": 1})

    def released(self, version: VersionRecord) -> int:
        """Hand a version over as the release step does; return the event's number."""
        self.gated(version, "release_rows")
        path = f"releases/{self.project.name}/v{version.number}-{version.digest[:12]}"
        folder = self.store.at(*path.split("/"))
        folder.mkdir(parents=True)
        (folder / "checksums.json").write_text(json.dumps({}), "utf-8")
        return self.event(
            "release.done", f"version:{version.digest}", digest_after=version.digest,
            body={"number": version.number, "path": path, "dataset": "x", "files": {}, "webhook": False},
        )  # fmt: skip


def both(number: int, *labels: str, **more: Any) -> list[Answer]:
    """Return the same answer by both annotators."""
    return [answer(number, name, *labels, **more) for name in ("anna", "ben")]
