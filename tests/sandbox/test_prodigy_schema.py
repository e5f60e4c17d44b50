"""The tables that tests and the demo stand on are the ones Prodigy makes."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from include.sandbox.prodigy_schema import create_schema
from include.settings import ROOT

REFERENCE = ROOT.parent / "shared" / "reference" / "prodigy.md"


def test_sqlite_gets_prodigys_statements_byte_for_byte(tmp_path: Path) -> None:
    if not REFERENCE.exists():
        pytest.skip(f"{REFERENCE} is not here")
    section = REFERENCE.read_text("utf-8").split("### 1a.")[1].split("### 1b.")[0]
    expected = re.findall(r"^CREATE .*$", section, re.MULTILINE)
    create_schema(f"sqlite+pysqlite:///{tmp_path / 'prodigy.db'}")
    conn = sqlite3.connect(tmp_path / "prodigy.db")
    made = [statement for (statement,) in conn.execute("SELECT sql FROM sqlite_master ORDER BY rowid")]
    conn.close()
    assert len(expected) == 6
    assert made == expected
