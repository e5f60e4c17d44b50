"""The jobs on ingestion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench.measure import WORDS, job, timed


@job
def ingest_records(folder: str, count: str) -> dict[str, Any]:
    """Make tasks of raw records."""
    from include.ingestion.pipeline import ingest
    from include.ingestion.scan import scan
    from include.projects.load import load_project
    from include.settings import ROOT

    place = Path(folder) / "raw"
    place.mkdir(parents=True)
    with (place / "raw.jsonl").open("w") as out:
        for number in range(int(count)):
            out.write(json.dumps({"ticket": f"t{number}", "text": f"{number} {WORDS}", "channel": "mail"}) + "\n")
    project = load_project(ROOT / "include" / "projects" / "definitions", "ticket_topics")
    staging = Path(folder) / "staging"
    staging.mkdir()
    found: dict[str, Any] = {}
    with timed(found):
        files = scan(place, project.source.routes, None).new_or_changed
        found["count"] = ingest(project, files, known=None, staging=staging).counts["records"]
    return found
