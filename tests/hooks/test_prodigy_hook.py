"""The hook on Prodigy's database: a connection becomes a client."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from include.base.errors import InvalidInput
from include.sandbox.prodigy_schema import create_schema
from include.systems.prodigy.settings import Settings, read_settings
from labelops.hooks.prodigy import ProdigyHook
from tests.servers import airflow_connection


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "prodigy.db"
    create_schema(f"sqlite:///{place}")
    monkeypatch.setenv("AIRFLOW_CONN_PRODIGY_DEFAULT", airflow_connection(f"sqlite:///{place}"))
    return place


def test_a_connection_becomes_one_client(file: Path) -> None:
    hook = ProdigyHook()
    client = hook.get_conn()
    assert client.datasets() == []
    assert hook.get_conn() is client
    assert asyncio.run(hook.aget_conn()) is client


def test_a_trigger_gets_the_client_too(file: Path) -> None:
    hook = ProdigyHook()
    client = asyncio.run(hook.aget_conn())
    assert client.datasets() == []
    assert hook.get_conn() is client


def test_a_database_with_an_account_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {
        "conn_type": "prodigy",
        "host": "db.example",
        "port": 5433,
        "schema": "prodigy",
        "login": "labelops",
        "password": "secret-word",
        "extra": {"engine": "PostgreSQL", "sslmode": "require", "sslcert": None},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SERVER", json.dumps(value))
    settings = read_settings(ProdigyHook.get_connection("server"))
    assert settings == Settings(
        "postgresql", "prodigy", "db.example", 5433, "labelops", "secret-word", {"sslmode": "require"}
    )
    assert "secret-word" not in repr(settings)


def test_test_connection_says_what_is_there_and_what_is_wrong(file: Path) -> None:
    works, said = ProdigyHook().test_connection()
    assert works
    assert said.startswith("Prodigy's tables on sqlite: 0 datasets, 0 sessions")
    with sqlite3.connect(file) as conn:
        conn.execute("DROP TABLE example")
    conn.close()
    works, said = ProdigyHook().test_connection()
    assert not works
    assert "no table `example`" in said


@pytest.mark.parametrize(
    ("connection", "match"),
    [
        ({"extra": {"engine": "oracle"}}, "oracle.*sqlite, postgresql, mysql"),
        ({"extra": {"engine": "sqlite", "sslmode": "require"}}, "sslmode"),
        ({}, "host"),
        ({"host": "db.example", "extra": {"engine": "mysql"}}, "schema"),
    ],
)
def test_a_connection_filled_in_wrongly_says_which_field(
    monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], match: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps({"conn_type": "prodigy", **connection}))
    with pytest.raises(InvalidInput, match=match):
        ProdigyHook("wrong").get_conn()
    works, said = ProdigyHook("wrong").test_connection()
    assert not works
    assert said.startswith("connection wrong: ")
