"""The jobs on big dataset versions: freezing, comparing. Each returns ``count`` and ``seconds``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tests.bench.measure import WORDS, job, timed
from tests.bench.table import Line, NewDatabase, block, line, on_each_engine, run

PROJECT = "ticket_topics"
ANSWERS = 1_000_000
ROWS = 1_000_000
CHANGED_PERCENT = 1
LABELS = ("account", "billing", "delivery", "other")


def _rows(count: int, changed_percent: int) -> Any:
    """Yield canonical rows of a version: two persons' answers each, of which some percent say another thing."""
    import orjson

    options = [{"id": label, "text": label} for label in LABELS]
    ids = sorted(hashlib.sha256(b"%d" % number).hexdigest() for number in range(count))
    for number, task_id in enumerate(ids):
        other = number * 7919 % 100 < changed_percent
        label = LABELS[(number + other) % len(LABELS)]
        at = "2026-05-02T09:00:00+00:00" if other else "2026-05-01T09:00:00+00:00"
        yield (
            label,
            orjson.dumps(
                {
                    "answers": [
                        {
                            "at": at,
                            "guideline": "a" * 64,
                            "guideline_number": 3,
                            "person": person,
                            "row": hashlib.sha256(f"{task_id}{person}{other}".encode()).hexdigest(),
                        }
                        for person in ("anna", "ben")
                    ],
                    "basis": "answers",
                    "decision": None,
                    "persons": 2,
                    "round": 1 + other,
                    "shown": {"options": options, "text": f"{number} {WORDS[:200]}"},
                    "task_id": task_id,
                    "value": {"accept": [label], "answer": "accept", "interface": "choice"},
                }
            ),
        )


@job
def make_version(folder: str, count: str, changed_percent: str) -> dict[str, Any]:
    """Write a version's rows and manifest as freezing does, and its task ids and labels as Parquet."""
    from collections import Counter

    import pyarrow
    import pyarrow.parquet

    from include.base.store import Store
    from include.datasets.manifest import Counts, FileRef, Manifest, PersonShare, RepeatList, RuleRef, TaskList
    from tests.datasets.make import REGISTER, project

    of = project(PROJECT)
    place = Path(folder) / "new-rows.jsonl"
    digest, labels, rows = hashlib.sha256(), Counter[str](), int(count)
    columns: dict[str, list[str]] = {"task_id": [], "label": []}
    with place.open("wb") as out:
        for label, line in _rows(rows, int(changed_percent)):
            digest.update(line + b"\n")
            out.write(line + b"\n")
            labels[label] += 1
            at = line.rfind(b',"task_id":"') + 12
            columns["task_id"].append(line[at : at + 64].decode())
            columns["label"].append(label)
    empty = FileRef(name="losing.jsonl", sha256=hashlib.sha256().hexdigest(), lines=0)
    counts = dict.fromkeys(Counts.model_fields, 0) | dict.fromkeys(("tasks", "rows", "unanimous"), rows)
    counts |= dict.fromkeys(("answers", "counted"), 2 * rows)
    manifest = Manifest(
        project=PROJECT,
        interface="choice",
        batch="b" * 64,
        rule=RuleRef(name="unanimous", answers_per_task=2, repeated="latest", text="the value of every person"),
        counts=Counts(**counts),
        labels=dict(labels),
        answers={"accept": rows, "none": 0, "reject": 0},
        losing_reasons={},
        persons=[PersonShare(id=person, counted=rows, losing=0) for person in ("anna", "ben")],
        adjudicators=[],
        guidelines=[],
        first_answer_at=None,
        last_answer_at=None,
        rows=FileRef(name="rows.jsonl", sha256=digest.hexdigest(), lines=rows),
        losing=empty,
        ignored=TaskList(count=0, items=[]),
        disputed=TaskList(count=0, items=[]),
        missing=TaskList(count=0, items=[]),
        repeats=RepeatList(count=0, answers=0, items=[]),
        policy=of.policy.pinned(),
        policy_digest=of.policy.digest,
        register_digest=REGISTER.digest,
        closed_by=None,
        gate=None,
    )
    version = Store(Path(folder)).at("versions", PROJECT, manifest.digest)
    version.mkdir(parents=True)
    place.rename(version / "rows.jsonl")
    (version / "losing.jsonl").write_bytes(b"")
    pyarrow.parquet.write_table(pyarrow.table(columns), version / "labels.parquet")
    (version / "manifest.json").write_bytes(manifest.content())
    return {"count": rows, "seconds": 1.0, "digest": manifest.digest}


@job
def diff_versions(folder: str, old: str, new: str) -> dict[str, Any]:
    """Compare two versions, every change written to a file."""
    from include.base.store import Store
    from include.datasets.diff import diff

    found: dict[str, Any] = {}
    with timed(found), (Path(folder) / "changes.jsonl").open("wb") as out:
        outcome = diff(Store(Path(folder)), PROJECT, old, new, sink=lambda change: out.write(change.line()))
    return {**found, "count": outcome.new_rows, "changed": outcome.changed}


@job
def pandas_merge(folder: str, old: str, new: str, source: str) -> dict[str, Any]:
    """Compare the same task ids and labels with an outer merge, read from the rows or from Parquet."""
    import orjson
    import pandas

    def frame(digest: str) -> Any:
        place = Path(folder) / "versions" / PROJECT / digest
        if source == "parquet":
            return pandas.read_parquet(place / "labels.parquet")
        with (place / "rows.jsonl").open("rb") as lines:
            return pandas.DataFrame.from_records(
                ((row["task_id"], row["value"]["accept"][0]) for row in map(orjson.loads, lines)),
                columns=["task_id", "label"],
            )

    found: dict[str, Any] = {}
    with timed(found):
        merged = frame(old).merge(frame(new), on="task_id", how="outer", suffixes=("_old", "_new"), indicator=True)
        differing = merged[(merged["_merge"] != "both") | (merged["label_old"] != merged["label_new"])]
        differing.to_json(Path(folder) / "merged.jsonl", orient="records", lines=True)
    return {**found, "count": len(merged), "changed": len(differing)}


# --- freezing ------------------------------------------------------------------------------------------------------

PEOPLE = ("anna", "ben")
STAMP = {"guideline": "a" * 64, "guideline_number": 3, "labels_digest": "b" * 64, "round": 1}


def _stored(tasks: int) -> Any:
    """Yield the stored content of two persons' answers to each of some tasks, as our recipe saves them."""
    import json

    from include.annotation.tasks import build_task
    from tests.datasets.make import project

    of = project(PROJECT, labels=list(LABELS))
    for number in range(tasks):
        task = build_task(
            of,
            content={"text": f"{number} {WORDS[:200]}"},
            meta={"source": f"tickets-{number % 97}.jsonl"},
            sources=[{"file": "tickets.jsonl", "record": str(number), "sha256": "c" * 64}],
        )
        for place, person in enumerate(PEOPLE):
            # Every fiftieth task is disputed; every hundredth is answered twice by the first person.
            label = LABELS[(number + (place if number % 50 == 0 else 0)) % len(LABELS)]
            for again in range(2 if number % 100 == 1 and place == 0 else 1):
                answer = {
                    **task,
                    "answer": "accept",
                    "accept": [label],
                    "_timestamp": 1_777_000_000 + number + again,
                    "_annotator_id": f"{PROJECT}-{person}",
                    "_session_id": f"{PROJECT}-{person}",
                    "labelops": {**task["labelops"], "served": STAMP},
                }
                yield place, task["_input_hash"], task["_task_hash"], json.dumps(answer).encode()


@job
def make_labelled(url: str, answers: str) -> dict[str, Any]:
    """Fill a Prodigy database with answers of two persons, each linked to the dataset and to the person's session."""
    from itertools import islice

    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    from include.sandbox.prodigy_schema import create_schema

    create_schema(url)
    engine = create_engine(url, poolclass=NullPool)
    names = (PROJECT, *(f"{PROJECT}-{person}" for person in PEOPLE))
    waiting = islice(_stored(int(answers)), int(answers))
    with engine.begin() as conn:
        flags = (False, True, True) if engine.dialect.name == "postgresql" else (0, 1, 1)
        for number, (name, session) in enumerate(zip(names, flags, strict=True), 1):
            conn.execute(
                text("INSERT INTO dataset VALUES (:id, :name, 0, :meta, :session)"),
                {"id": number, "name": name, "meta": b"{}", "session": session},
            )
        count = 0
        while some := list(islice(waiting, 5000)):
            numbered = list(enumerate(some, count + 1))
            conn.execute(
                text("INSERT INTO example VALUES (:id, :input, :task, :content)"),
                [{"id": n, "input": one[1], "task": one[2], "content": one[3]} for n, one in numbered],
            )
            conn.execute(
                text("INSERT INTO link VALUES (:id, :example, :dataset)"),
                [
                    {"id": 2 * n + which, "example": n, "dataset": dataset}
                    for n, one in numbered
                    for which, dataset in ((0, 1), (1, 2 + one[0]))
                ],
            )
            count += len(some)
    with engine.connect() as conn:
        if engine.dialect.name == "postgresql":
            conn.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
    return {"count": count, "seconds": 1.0}


@job
def orjson_rows(url: str) -> dict[str, Any]:
    """Read the stored answers once through the driver, each parsed by orjson and forgotten."""
    import orjson
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    query = "SELECT e.content FROM link l JOIN example e ON e.id = l.example_id WHERE l.dataset_id = 1 ORDER BY l.id"
    found: dict[str, Any] = {"count": 0}
    with create_engine(url, poolclass=NullPool).connect() as conn:
        driver = conn.connection.driver_connection
        assert driver is not None
        if conn.dialect.name == "postgresql":
            # A cursor on the server, and bytes as bytes: else the client would hold every row.
            cursor = driver.cursor(name="rows", binary=True)
            cursor.itersize = 5000
        else:
            cursor = driver.cursor()
        with timed(found):
            cursor.execute(query)
            for (content,) in cursor:
                orjson.loads(content)
                found["count"] += 1
    return found


def _prodigy(url: str) -> Any:
    import os

    from tests.servers import airflow_connection

    os.environ["AIRFLOW_CONN_PRODIGY_DEFAULT"] = airflow_connection(url)
    from labelops.hooks.prodigy import ProdigyHook

    return ProdigyHook().get_conn()


@job
def read_rows(url: str) -> dict[str, Any]:
    """Read the answers through the client, parsed."""
    prodigy = _prodigy(url)
    found: dict[str, Any] = {}
    with timed(found):
        found["count"] = sum(1 for _ in prodigy.rows(PROJECT))
    return found


@job
def read_answers(url: str) -> dict[str, Any]:
    """Read the answers through the client and check each, as freezing does."""
    from include.annotation.answers import AnswerReader
    from tests.datasets.make import project

    prodigy, reader = _prodigy(url), AnswerReader(project(PROJECT, labels=list(LABELS)))
    found: dict[str, Any] = {}
    with timed(found):
        found["count"] = sum(1 for _ in map(reader.read, prodigy.rows(PROJECT)))
    return found


@job
def freeze_answers(url: str, folder: str) -> dict[str, Any]:
    """Freeze all answers of a database into a version: read, checked, resolved, written, digested."""
    from include.annotation.answers import AnswerReader
    from include.base.store import Store
    from include.datasets.freeze import freeze
    from include.queues.progress import form
    from tests.datasets.make import REGISTER, project

    of = project(PROJECT, labels=list(LABELS))
    prodigy, reader = _prodigy(url), AnswerReader(of)
    ids = sorted({row.content["labelops"]["task_id"] for row in prodigy.rows(PROJECT)})
    batch = form(ids).digest
    found: dict[str, Any] = {}
    with timed(found):
        version = freeze(
            Store(Path(folder) / "store"),
            of,
            batch,
            ids,
            map(reader.read, prodigy.rows(PROJECT)),
            register=REGISTER,
            closed_by="olga",
            closing_reason="the answers were cut off",
        )
    size = sum(place.stat().st_size for place in version.path.iterdir())
    return {**found, "count": version.manifest.counts.answers, "digest": version.digest, "megabytes": size // 1024**2}


# --- the table -------------------------------------------------------------------------------------------------------


@on_each_engine
def freezing(folder: Path, new_database: NewDatabase, engine: str) -> list[Line]:
    """A million answers frozen, against their reading."""
    url = new_database("prodigy")
    run(folder, "make_labelled", url, ANSWERS)
    plain = run(folder, "orjson_rows", url)
    read = run(folder, "read_rows", url)
    checked = run(folder, "read_answers", url)
    frozen = run(folder, "freeze_answers", url, folder)
    return [
        line(f"{ANSWERS:,} answers, {engine}, driver and `orjson.loads`", plain),
        line("the same through the client", read, plain),
        line("the same, each answer checked", checked, plain),
        line(f"the same, frozen and digested, {frozen['megabytes']} MB written", frozen, plain),
    ]


@block
def version_diff(folder: Path) -> list[Line]:
    """Two versions compared, against an outer merge of their task ids and labels."""
    old, new = (run(folder, "make_version", folder, ROWS, percent)["digest"] for percent in (0, CHANGED_PERCENT))
    ours = run(folder, "diff_versions", folder, old, new)
    lines = [line(f"two versions of {ROWS:,} rows, {ours['changed']:,} changed: `diff`", ours)]
    for source, what in (("rows", "read from the versions"), ("parquet", "read from a Parquet file of two columns")):
        merged = run(folder, "pandas_merge", folder, old, new, source)
        if merged["changed"] != ours["changed"]:
            raise AssertionError(f"pandas finds {merged['changed']} changes, we find {ours['changed']}")
        lines.append(line(f"`pandas.merge` of ids and labels, {what}", merged, ours))
    return lines
