"""A project's tasks and answers, and a client of a database that a test looks into."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from include.annotation.tasks import build_task
from include.base.canonical import sha256_hex
from include.projects.load import load_project
from include.projects.model import Project
from include.settings import ROOT
from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.settings import Settings

PROJECT = load_project(ROOT / "include" / "projects" / "definitions", "ticket_topics")
INBOX = PROJECT.inbox
ANSWERS = PROJECT.answers


def connect(url: str | URL) -> ProdigyClient:
    """Return a client of the database at an address."""
    to = make_url(url)
    return ProdigyClient(Settings(to.get_backend_name(), to.database or "", to.host, to.port, to.username, to.password))


def task(words: str, project: Project = PROJECT) -> dict[str, Any]:
    source = {"file": "a.jsonl", "record": words[:40], "sha256": sha256_hex(words.encode("utf-8"))}
    return build_task(project, content={"text": words}, meta={"source": "test"}, sources=[source])


def run(url: str, statement: str, **values: Any) -> list[Any]:
    with create_engine(url, poolclass=NullPool).begin() as conn:
        result = conn.execute(text(statement), values)
        return list(result) if result.returns_rows else []


def answered(words: str, person: str = "anna", **more: Any) -> dict[str, Any]:
    session = f"{PROJECT.answers}-{person}"
    return {
        **task(words),
        "answer": "accept",
        "accept": ["billing"],
        "_timestamp": 1_700_000_000,
        "_annotator_id": session,
        "_session_id": session,
        **more,
    }
