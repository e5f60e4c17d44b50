"""The jobs on ingestion: raw records to tasks in an inbox, against the same rows written with no checks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.bench.measure import WORDS, job, timed
from tests.bench.table import Line, NewDatabase, block, line, on_each_engine, run

RECORDS = (50_000, 200_000)
INBOX = 1_000_000
NEW = 200_000
PROJECT = "ticket_topics"
SHORT = "The parcel came late and the invoice names another address than the one of the order."
AT_ONCE = 1000


def _project() -> Any:
    from include.projects.load import load_project
    from include.settings import ROOT

    return load_project(ROOT / "include" / "projects" / "definitions", PROJECT)


def write_records(place: Path, count: int, words: str) -> None:
    """Write raw records as JSON lines."""
    place.mkdir(parents=True)
    with (place / "raw.jsonl").open("w") as out:
        for number in range(count):
            out.write(json.dumps({"ticket": f"t{number}", "text": f"{number} {words}", "channel": "mail"}) + "\n")


@job
def ingest_records(folder: str, count: str) -> dict[str, Any]:
    """Make tasks of raw records."""
    from include.ingestion.pipeline import ingest
    from include.ingestion.scan import scan

    place = Path(folder) / "raw"
    write_records(place, int(count), WORDS)
    project = _project()
    staging = Path(folder) / "staging"
    staging.mkdir()
    found: dict[str, Any] = {}
    with timed(found):
        files = scan(place, project.source.routes, None).new_or_changed
        found["count"] = ingest(project, files, known=None, staging=staging).counts["records"]
    return found


# --- the whole way into an inbox -----------------------------------------------------------------------------------


@job
def fill_inbox(url: str, count: str) -> dict[str, Any]:
    """Make a Prodigy database whose inbox holds tasks already, shaped as ours are."""
    from sqlalchemy import create_engine

    from include.annotation.tasks import build_task
    from include.sandbox.prodigy_schema import create_schema

    project = _project()
    task = build_task(
        project,
        content={"text": "@text@"},
        meta={"source": "old.jsonl:@number@", "channel": "mail"},
        sources=[{"file": "old.jsonl", "record": "@number@", "sha256": "@name@"}],
    )
    template = json.dumps(task, separators=(",", ":")).replace(task["labelops"]["task_id"], "@name@")

    def rows() -> Iterator[tuple[int, int, int, bytes]]:
        for number in range(1, int(count) + 1):
            text = template.replace("@name@", f"{number:064x}").replace("@number@", str(number))
            yield number, number, number, text.replace("@text@", f"old {number} {SHORT}").encode()

    create_schema(url)
    found: dict[str, Any] = {"count": int(count)}
    engine = create_engine(url)
    with timed(found), engine.begin() as conn:
        cursor = conn.connection.cursor()
        if engine.dialect.name == "sqlite":
            cursor.execute("INSERT INTO dataset VALUES (1, ?, 0, '{}', 0)", (project.inbox,))
            cursor.executemany("INSERT INTO example VALUES (?, ?, ?, ?)", rows())
            cursor.executemany("INSERT INTO link VALUES (?, ?, 1)", ((n, n) for n in range(1, int(count) + 1)))
        else:
            cursor.execute("INSERT INTO dataset VALUES (1, %s, 0, '{}', false)", (project.inbox,))
            with cursor.copy("COPY example FROM STDIN") as copy:
                for number, first, second, content in rows():
                    copy.write_row((number, first, second, content))
            cursor.execute("INSERT INTO link SELECT id, id, 1 FROM example ORDER BY id")
            for table in ("dataset", "example", "link"):
                cursor.execute(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")
    engine.dispose()
    return found


@job
def raw_records(folder: str, count: str) -> dict[str, Any]:
    """Write the raw records that both ways read."""
    found: dict[str, Any] = {"count": int(count)}
    with timed(found):
        write_records(Path(folder), int(count), SHORT)
    return found


def _environment(home: Path, url: str) -> None:
    from tests.servers import airflow_connection

    os.environ["LABELOPS_HOME"] = str(home)
    os.environ["AIRFLOW_CONN_PRODIGY_DEFAULT"] = airflow_connection(url)


def _context(task_id: str) -> Any:
    ti = SimpleNamespace(dag_id="raw_data_ingestion", run_id="bench", task_id=task_id, map_index=0, try_number=1)
    run = SimpleNamespace(run_id="bench", triggering_user_name=None, conf={}, run_after=datetime.now(UTC))
    return {"ti": ti, "dag_run": run, "dag": SimpleNamespace(dag_id=ti.dag_id, params={}), "params": {}}


@job
def ingest_whole(home: str, url: str, raw: str, there: str) -> dict[str, Any]:
    """Do what a run of ``raw_data_ingestion`` does, with its own operators: read, gate, load.

    :param there: how many rows the inbox holds; they are all in batches already.
    """
    import great_expectations  # noqa: F401 - some seconds that do not depend on the number of rows

    from include.governance.ledger import Ledger
    from labelops import runtime
    from tests.runner import the_use_case

    place = Path(home)
    place.mkdir()
    _environment(place, url)
    (place / "sources").mkdir()
    (place / "sources" / PROJECT).symlink_to(raw)
    Ledger(f"sqlite:///{place / 'ledger.db'}").migrate()
    item = {"project": PROJECT, "subject": f"source:{PROJECT}", "name": "source files", "detail": {}, "error": None}
    with runtime.run_of(_context("before")).open() as run:
        body = {"kind": "inbox", "size": int(there), "last_link": int(there)}
        run.note("batch.assigned", PROJECT, f"batch:{'0' * 64}", after="0" * 64, body=body)
    found: dict[str, Any] = {}
    case, results = the_use_case("raw_data_ingestion"), dict[str, Any]()
    for name in ("read", "gate", "load"):
        with timed(found, f"{name}_seconds"):
            results[name] = case.task(name, item, results.get).execute(_context(name))
    given, result = results["read"], results["load"]
    for kind in ("", "cpu_"):
        found[f"{kind}seconds"] = sum(found[f"{kind}{part}_seconds"] for part in ("read", "gate", "load"))
    return {**found, "count": result["detail"]["inserted"], "staged": given["staged"].removeprefix("file://")}


@job
def unchecked_inserts(url: str, staged: str) -> dict[str, Any]:
    """Write the same tasks into another dataset with ``executemany`` and no check, a thousand rows a transaction."""
    from sqlalchemy import create_engine

    engine = create_engine(url)
    lite = engine.dialect.name == "sqlite"
    mark = "?" if lite else "%s"
    found: dict[str, Any] = {"count": 0}
    with engine.begin() as conn:
        cursor = conn.connection.cursor()
        cursor.execute(f"INSERT INTO dataset VALUES (2, 'plain', 0, '{{}}', {0 if lite else 'false'})")
        following = cursor.execute("SELECT max(id) FROM example").fetchone()[0] + 1
    with timed(found), Path(staged).open("rb") as lines:
        while some := list(islice(lines, AT_ONCE)):
            rows = []
            for number, line in enumerate(some, following):
                task = json.loads(line)
                content = json.dumps(task, separators=(",", ":")).encode()
                rows.append((number, task["_input_hash"], task["_task_hash"], content))
            with engine.begin() as conn:
                cursor = conn.connection.cursor()
                cursor.executemany(f"INSERT INTO example VALUES ({mark}, {mark}, {mark}, {mark})", rows)
                links = f"INSERT INTO link (example_id, dataset_id) VALUES ({mark}, 2)"
                cursor.executemany(links, [(row[0],) for row in rows])
            following += len(some)
            found["count"] += len(some)
    engine.dispose()
    return found


# --- the table -------------------------------------------------------------------------------------------------------


@block
def ingestion(folder: Path) -> list[Line]:
    """Raw JSONL to staged tasks, at two sizes: memory must not grow with the number."""
    few, many = (run(folder, "ingest_records", folder / str(count), count) for count in RECORDS)
    return [line(f"{RECORDS[0]:,} records ingested", few), line(f"{RECORDS[1]:,} records ingested", many, few)]


@on_each_engine
def inbox(folder: Path, new_database: NewDatabase, engine: str) -> list[Line]:
    """The whole of ingestion into an inbox that is full already, against the same rows written without a check."""
    url = new_database("prodigy")
    run(folder, "fill_inbox", url, INBOX)
    run(folder, "raw_records", folder / "raw", NEW)
    ours = run(folder, "ingest_whole", folder / "home", url, folder / "raw", INBOX)
    plain = run(folder, "unchecked_inserts", url, ours["staged"])
    parts = ", ".join(f"{part} {ours[f'cpu_{part}_seconds']:.0f} s" for part in ("read", "gate", "load"))
    return [
        line(f"{NEW:,} rows beside {INBOX:,}, {engine}, plain `executemany`", plain),
        line(f"{NEW:,} records ingested into the {INBOX:,}", ours, plain, f" (CPU: {parts})"),
    ]
