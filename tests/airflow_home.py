"""The one Airflow that the whole test session sees, in a folder of its own; set before anything imports Airflow.

Airflow reads its environment once, at import. So this module changes the environment when pytest loads it, before any
plugin in ``tests/conftest.py`` that imports Airflow, and no test may set these variables again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.workers import once

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

ROOT = Path(__file__).resolve().parent.parent
DAGS = ROOT / "dags"
PLUGINS = ROOT / "plugins"
POOLS = ("labelops_confluence", "labelops_prodigy", "labelops_opentext")

if "airflow" in sys.modules:
    raise RuntimeError("Airflow was imported before tests/airflow_home.py could say where its home is")

HOME = Path(tempfile.mkdtemp(prefix="labelops-airflow-"))


def environment(home: Path) -> dict[str, str]:
    """Return the variables of an Airflow below a folder, on SQLite, with this project's DAGs and plugins."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=30",
        "AIRFLOW__DAG_PROCESSOR__DAG_VERSION_INFLATION_CHECK_LEVEL": "error",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # Parsing must not depend on the machine: no schedule file, no projects but those of the repository.
        "LABELOPS_RETRY_SECONDS": "0",
    }


for _name in [one for one in os.environ if one.startswith(("AIRFLOW_", "LABELOPS_"))]:
    del os.environ[_name]
os.environ.update(environment(HOME))


def pytest_configure(config: pytest.Config) -> None:
    """Let Airflow's own use of old interfaces pass; ours stay errors."""
    for message in ("GitWildMatchPattern.*:DeprecationWarning", "Using .httpx. with .starlette.testclient."):
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


def pytest_unconfigure() -> None:
    """Remove the folder."""
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_database(run_folder: Path) -> None:
    """Make the metadata database and the pools, once a run; each process works in a copy of its own."""
    template = run_folder / "airflow.db"

    def make() -> str:
        from airflow.models.pool import Pool
        from airflow.utils.db import initdb
        from airflow.utils.session import create_session

        initdb()
        with create_session() as session:
            for name in POOLS:
                Pool.create_or_update_pool(name, 4, "Requests of one connection", False, session=session)
        _copy(HOME / "airflow.db", template)
        return ""

    once(run_folder, "airflow.database", make)
    _copy(template, HOME / "airflow.db")


def _copy(database: Path, to: Path) -> None:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


@pytest.fixture(scope="session")
def dag_bag(airflow_database: None) -> DagBag:
    """Parse the DAG folder, once a session."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(DAGS))
