"""A published guideline, an inbox, and the fake Prodigy serving it in a process of its own, as people meet it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "include" / "sandbox" / "fake_prodigy"
RECIPES = ROOT / "include" / "prodigy_kit" / "recipes.py"
SUPERVISOR = ROOT / "include" / "prodigy_kit" / "supervisor.py"
LABELS = ("billing", "delivery", "account", "other")
PROJECT = "ticket_topics"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float = 15.0, what: str = "condition") -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} not met within {seconds} s")


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.loads(reply.read())


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/health", timeout=2) as reply:
            return reply.status == 200
    except (OSError, urllib.error.URLError):
        return False


def make_task(text: str, *, priority: int | None = None, hashes: tuple[int, int] | None = None) -> dict[str, Any]:
    digest = hashlib.sha256(f"{PROJECT}\n{text}".encode()).hexdigest()
    input_hash, task_hash = hashes or (int(digest[:7], 16), -int(digest[7:14], 16))
    labelops: dict[str, Any] = {"task_id": digest, "project": PROJECT, "sources": []}
    if priority is not None:
        labelops["priority"] = priority
    return {
        "text": text,
        "options": [{"id": label, "text": label} for label in LABELS],
        "meta": {"source": "tickets.jsonl"},
        "_input_hash": input_hash,
        "_task_hash": task_hash,
        "_view_id": "choice",
        "labelops": labelops,
    }


class Shop:
    """One installation: publication, database file, and the commands to serve from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publication = folder / "publication"
        self.database = folder / "prodigy" / "prodigy.db"
        self.state = folder / "state"
        self.allowed = ""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []
        folder.joinpath("prodigy").mkdir()

    @property
    def environment(self) -> dict[str, str]:
        overrides = {
            "db": "sqlite",
            "db_settings": {"sqlite": {"name": "prodigy.db", "path": str(self.database.parent)}},
        }
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": str(FAKE),
            "PRODIGY_HOST": "127.0.0.1",
            "PRODIGY_PORT": str(self.port),
            "PRODIGY_CONFIG_OVERRIDES": json.dumps(overrides),
            **({"PRODIGY_ALLOWED_SESSIONS": self.allowed} if self.allowed else {}),
        }

    def command(self, *, answers: int = 2, round_number: int = 1, interface: str = "choice") -> list[str]:
        return [
            *(sys.executable, "-m", "prodigy", "labelops.serve", PROJECT),
            *("--publication", str(self.publication), "--labels", ",".join(LABELS), "--interface", interface),
            *("--answers-per-task", str(answers), "--round", str(round_number), "--multiple"),
            *("--refresh-seconds", "0.2", "-F", str(RECIPES)),
        ]

    def publish(self, text: str, *, labels: tuple[str, ...] | None = LABELS) -> tuple[int, str]:
        """Publish a guideline release; return number and digest."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        number = len(list(self.publication.glob("0*"))) + 1
        name = f"{number:04d}-{digest[:12]}"
        release = self.publication / name
        release.mkdir(parents=True)
        files = {"guidelines.html": f"<h1>{text}</h1>".encode()}
        if labels is not None:
            files["labels.txt"] = "".join(f"{label}\n" for label in labels).encode()
        for file, content in files.items():
            release.joinpath(file).write_bytes(content)
        listed = {file: {"sha256": hashlib.sha256(content).hexdigest()} for file, content in files.items()}
        release.joinpath("release.json").write_text(json.dumps({"digest": digest, "number": number, "files": listed}))
        temporary = self.publication / "new.json"
        temporary.write_text(json.dumps({"release": name, "number": number, "digest": digest}))
        os.replace(temporary, self.publication / "current.json")
        return number, digest

    def add(self, dataset: str, rows: list[dict[str, Any]]) -> None:
        """Append rows as the hook does, without the fake's own code."""
        with sqlite3.connect(self.database, timeout=30) as connection:
            self._create_tables(connection)
            found = connection.execute("SELECT id FROM dataset WHERE name=?", (dataset,)).fetchone()
            if found is None:
                insert = "INSERT INTO dataset (name, created, meta, session) VALUES (?, ?, ?, 0)"
                found = (connection.execute(insert, (dataset, int(time.time()), b"{}")).lastrowid,)
            for row in rows:
                content = json.dumps(row, separators=(",", ":")).encode()
                example = connection.execute(
                    "INSERT INTO example (input_hash, task_hash, content) VALUES (?, ?, ?)",
                    (row["_input_hash"], row["_task_hash"], content),
                ).lastrowid
                connection.execute("INSERT INTO link (example_id, dataset_id) VALUES (?, ?)", (example, found[0]))
        connection.close()

    @staticmethod
    def _create_tables(connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name='link'").fetchone():
            return
        connection.execute(
            'CREATE TABLE "dataset" ("id" INTEGER NOT NULL PRIMARY KEY, "name" VARCHAR(255) NOT NULL, '
            '"created" INTEGER NOT NULL, "meta" BLOB NOT NULL, "session" INTEGER NOT NULL)'
        )
        connection.execute(
            'CREATE TABLE "example" ("id" INTEGER NOT NULL PRIMARY KEY, "input_hash" INTEGER NOT NULL, '
            '"task_hash" INTEGER NOT NULL, "content" BLOB NOT NULL)'
        )
        connection.execute(
            'CREATE TABLE "link" ("id" INTEGER NOT NULL PRIMARY KEY, "example_id" INTEGER NOT NULL, '
            '"dataset_id" INTEGER NOT NULL)'
        )

    def query(self, statement: str, *values: Any) -> list[Any]:
        connection = sqlite3.connect(self.database, timeout=30)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def rows(self, dataset: str = PROJECT) -> list[dict[str, Any]]:
        """Return a dataset's examples in link order; none when it is not there."""
        found = self.query(
            "SELECT e.content FROM dataset d JOIN link l ON l.dataset_id=d.id JOIN example e ON e.id=l.example_id "
            "WHERE d.name=? ORDER BY l.id",
            dataset,
        )
        return [json.loads(content) for (content,) in found]

    def serve(self, **options: Any) -> subprocess.Popen[bytes]:
        """Start the server and wait until it answers."""
        process = self.spawn(self.command(**options), "serve.log")
        wait_for(lambda: healthy(self.url) or process.poll() is not None, what="server")
        assert process.poll() is None, (self.folder / "serve.log").read_text()
        return process

    def spawn(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as out:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=out, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait(15)

    def supervisor(self, *arguments: str) -> list[str]:
        return [sys.executable, str(SUPERVISOR), *arguments, "--state", str(self.state)]

    def supervise(self, *, quiet: float = 0.5, backoff: float = 5.0) -> subprocess.Popen[bytes]:
        """Start a supervisor over the server and wait until the server answers."""
        times = ("--quiet", str(quiet), "--poll", "0.1", "--longest-backoff", str(backoff))
        start = self.supervisor("start", "--publication", str(self.publication), *times)
        process = self.spawn([*start, "--", *self.command()], "supervisor.out")
        wait_for(lambda: self.status().get("release") and healthy(self.url), what="supervised server")
        return process

    def status(self) -> dict[str, Any]:
        done = subprocess.run(self.supervisor("status"), capture_output=True, check=True)
        return json.loads(done.stdout)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    if made.state.is_dir():
        subprocess.run(made.supervisor("stop", "--timeout", "15"), capture_output=True, check=False)
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.wait(15)
