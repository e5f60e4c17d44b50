"""The result page: only for those who may read the DAG, and only from the gates folder."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from include.gates.results import CheckResult, GateResult
from include.settings import ROOT
from labelops.web import HEADERS, LazyApp, build_app

pytestmark = pytest.mark.filterwarnings("ignore:Using .httpx. with .starlette.testclient. is deprecated")

RUN = "manual__2026-01-02T03:04:05+00:00"
PAGE = "/gates/mine/manual__2026-01-02T03%3A04%3A05%2B00%3A00/items.gate/0/1"


def client(app):
    from fastapi.testclient import TestClient

    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def store(monkeypatch, tmp_path):
    monkeypatch.setenv("LABELOPS_STORE", str(tmp_path / "store"))
    check = CheckResult("d", "c", "e", "critical", "stop", False, "o", 1, ["<img src=x onerror=alert(1)>"])
    content = json.dumps(GateResult("raw_tasks", 1, [check], True, [], 0, []).as_dict())
    for dag in ("mine", "theirs"):
        folder = tmp_path / "store" / "gates" / dag / RUN.replace(":", "_") / "items.gate" / "0" / "1"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(content)
    (tmp_path / "result.json").write_text(content)
    return tmp_path / "store"


@pytest.fixture
def allowed(monkeypatch, store):
    """A signed-in user who may read the DAG ``mine`` and no other; Airflow's own check stays in place."""
    from airflow.api_fastapi.core_api import security

    manager = SimpleNamespace(is_authorized_dag=lambda *, method, access_entity, details, user: details.id == "mine")
    monkeypatch.setattr(security, "get_auth_manager", lambda: manager)
    monkeypatch.setattr(security.DagModel, "get_team_name", lambda dag_id: None)
    app = build_app()
    app.dependency_overrides[security.get_user] = lambda: SimpleNamespace(name="reader")
    return client(app)


def test_without_a_token_nothing_is_shown(store):
    answer = client(build_app()).get(PAGE)
    assert answer.status_code == 401
    assert "raw_tasks" not in answer.text
    assert answer.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


def test_the_page_is_escaped_and_can_run_nothing(allowed):
    answer = allowed.get(PAGE)
    assert answer.status_code == 200
    assert "<img" not in answer.text
    assert "&lt;img" in answer.text
    for name, value in HEADERS.items():
        assert answer.headers[name] == value


def test_another_dag_is_forbidden(allowed):
    assert allowed.get(PAGE.replace("/mine/", "/theirs/")).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/gates/mine/absent/items.gate/0/1",
        "/gates/mine/%2e%2e/%2e%2e/0/1",
        "/gates/mine/..%2f..%2f..%2fx/items.gate/0/1",
        "/gates/mine/%2e%2e%5c%2e%2e/theirs/0/1",
        "/gates/mine/x%00/items.gate/0/1",
    ],
)
def test_nothing_but_results_can_be_reached(allowed, path):
    answer = allowed.get(path)
    assert answer.status_code in (404, 403)
    assert "raw_tasks" not in answer.text


def test_a_missing_result_is_explained(allowed):
    answer = allowed.get("/gates/mine/absent/items.gate/0/1")
    assert answer.status_code == 404
    assert "No gate result" in answer.text


def test_the_lazy_app_serves_the_same(store):
    assert client(LazyApp()).get(PAGE).status_code == 401


def test_importing_the_module_loads_no_web_framework():
    code = "import sys, labelops.web; labelops.web.LazyApp(); sys.exit('fastapi' in sys.modules)"
    path = f"{ROOT}:{ROOT / 'plugins'}"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, check=False).returncode == 0
