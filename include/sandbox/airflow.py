"""A local Airflow for the demo and the tests: four components on loopback, driven over its REST API."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from include.base.errors import LabelopsError
from include.sandbox.processes import Processes, wait_until
from include.settings import ROOT

__all__ = ["COMPONENTS", "AirflowClient", "LocalAirflow"]

COMPONENTS = ("scheduler", "triggerer", "dag-processor", "api-server")
"""In the order in which they are stopped."""

POOLS = {"labelops_confluence": 4, "labelops_prodigy": 2, "labelops_opentext": 4}


@dataclass
class LocalAirflow:
    """Airflow on SQLite and LocalExecutor below one home folder.

    :param users: SimpleAuth users, name to role; their passwords are made once and kept in ``passwords.json``.
    :param extra: more environment, such as connections.
    """

    home: Path
    port: int
    processes: Processes
    users: Mapping[str, str]
    extra: Mapping[str, str]

    @property
    def url(self) -> str:
        """Return the UI's address."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of every component and command."""
        secret = self._secret()
        database = self.home / "airflow.db"
        return {
            **{name: value for name, value in base.items() if not name.startswith("AIRFLOW_")},
            "AIRFLOW_HOME": str(self.home),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
            "PATH": f"{Path(sys.executable).parent}:{base.get('PATH', '')}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{n}:{role}" for n, role in self.users.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}?timeout=30",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secret,
            "AIRFLOW__API_AUTH__JWT_SECRET": secret,
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
            "AIRFLOW__DAG_PROCESSOR__DAG_VERSION_INFLATION_CHECK_LEVEL": "error",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            **self.extra,
        }

    def passwords(self) -> dict[str, str]:
        """Return the users' passwords."""
        return json.loads((self.home / "passwords.json").read_text("utf-8"))

    def prepare(self, base: Mapping[str, str]) -> None:
        """Make the folder, the passwords and the metadata database, once."""
        import subprocess

        self.home.mkdir(parents=True, exist_ok=True)
        passwords = self.home / "passwords.json"
        known = self.passwords() if passwords.exists() else {}
        if set(known) != set(self.users):
            passwords.touch(mode=0o600)
            passwords.write_text(json.dumps({name: known.get(name, secrets.token_urlsafe(9)) for name in self.users}))
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=self.environment(base),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        if done.returncode:
            raise LabelopsError(f"airflow db migrate failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")

    def start(self, base: Mapping[str, str], components: Sequence[str] = COMPONENTS) -> None:
        """Start the components. Their log servers bind all interfaces, so they are left out."""
        env = self.environment(base)
        for name in components:
            options = ["--skip-serve-logs"] if name in ("scheduler", "triggerer") else []
            self.processes.start(name, [sys.executable, "-m", "airflow", name, *options], env, ROOT)

    def wait_healthy(self, seconds: float = 120) -> None:
        """Wait until all four components say that they are well."""

        def healthy() -> bool:
            dead = [name for name in COMPONENTS if name not in self.processes.running()]
            if dead:
                raise LabelopsError(f"{', '.join(dead)} ended; see {self.processes.logs}/{dead[0]}.log")
            try:
                health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
            except (requests.RequestException, ValueError):
                return False
            return all(
                (health.get(part) or {}).get("status") == "healthy"
                for part in ("metadatabase", "scheduler", "triggerer", "dag_processor")
            )

        wait_until(healthy, seconds, "Airflow's four components being healthy", 0.5)

    def client(self, user: str) -> AirflowClient:
        """Return a client that acts as one user."""
        return AirflowClient(self.url, user, self.passwords()[user])

    def _secret(self) -> str:
        self.home.mkdir(parents=True, exist_ok=True)
        place = self.home / "secret"
        if not place.exists():
            place.touch(mode=0o600)
            place.write_text(secrets.token_hex(32))
        return place.read_text("utf-8")


class AirflowClient:
    """Airflow's REST API as one user. SQLite answers 500 under a lock, so those are tried again."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self.user = user
        self._password = password
        self._session = requests.Session()

    def call(self, method: str, path: str, body: Any = None, *, missing: Any = ...) -> Any:
        """Call the API and return the reply's JSON.

        :param missing: what to return on 404; without it a 404 is an error.
        :raises LabelopsError: with status and text of the last reply.
        """
        for attempt in range(8):
            if "Authorization" not in self._session.headers:
                self._log_in()
            try:
                reply = self._session.request(method, f"{self.url}/api/v2{path}", json=body, timeout=60)
            except requests.RequestException as error:
                last = str(error)
            else:
                if reply.status_code == 401:
                    self._session.headers.pop("Authorization", None)
                if reply.status_code == 404 and missing is not ...:
                    return missing
                if reply.ok:
                    return reply.json() if reply.content else None
                last = f"{reply.status_code} {reply.text[:500]}"
                if reply.status_code < 500 and reply.status_code != 401:
                    break
            time.sleep(0.3 * (attempt + 1))
        raise LabelopsError(f"Airflow: {method} {path}: {last}")

    def _log_in(self) -> None:
        reply = self._session.post(
            f"{self.url}/auth/token", json={"username": self.user, "password": self._password}, timeout=60
        )
        if reply.ok:
            self._session.headers["Authorization"] = f"Bearer {reply.json()['access_token']}"

    def pools(self) -> None:
        """Make the pools that bound the requests of each connection."""
        have = {pool["name"] for pool in self.call("GET", "/pools?limit=100")["pools"]}
        for name, slots in POOLS.items():
            if name not in have:
                self.call(
                    "POST",
                    "/pools",
                    {
                        "name": name,
                        "slots": slots,
                        "description": "Requests of one connection",
                        "include_deferred": False,
                    },
                )

    def dags(self) -> list[str]:
        """Return the ids of the DAGs that were parsed."""
        return [dag["dag_id"] for dag in self.call("GET", "/dags?limit=100")["dags"]]

    def unpause(self, dag_id: str) -> None:
        """Switch a DAG on."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run by hand and return its id."""
        return self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": dict(conf or {})})[
            "dag_run_id"
        ]

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return a DAG's runs, oldest first."""
        return self.call("GET", f"/dags/{dag_id}/dagRuns?limit=100&order_by=run_after")["dag_runs"]

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return a run's task instances."""
        return self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=1000")[
            "task_instances"
        ]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        """Return an XCom value, or None."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/xcomEntries/{key}"
        entry = self.call("GET", path, missing=None)
        if entry is None:
            return None
        value = entry["value"]
        return json.loads(value) if isinstance(value, str) else value
