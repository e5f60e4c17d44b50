"""JSON Lines in Prodigy's own shape, which ``prodigy db-in`` takes as it is. Holds every interface and every answer."""

from __future__ import annotations

from contextlib import ExitStack

from include.exports.output import Job, dump
from include.exports.rows import training_row

__all__ = ["write"]


def write(job: Job) -> None:
    """Write ``data.jsonl``, or one file for each part."""
    counts = dict.fromkeys(job.parts, 0)
    with ExitStack() as stack:
        files = {part: stack.enter_context(job.out.path(_name(part)).open("wb")) for part in job.parts}
        for part, row in job.items():
            files[part].write(dump(training_row(row, job.number)))
            counts[part] += 1
    for part, count in counts.items():
        job.out.set_rows(_name(part), count)
        job.took(part, count)


def _name(part: str) -> str:
    return f"{part or 'data'}.jsonl"
