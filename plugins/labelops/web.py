"""The page that shows a gate's result inside Airflow, for those who may read the DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

    from include.gates.results import GateResult

__all__ = ["HEADERS", "LazyApp", "build_app"]

HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
"""On every answer: the page shares Airflow's origin, so a script in it could read the session's token."""


class LazyApp:
    """An ASGI application that is built by its first request.

    Airflow loads the plugin file in every task's process, where the web framework is not wanted.
    """

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on."""
        if self._app is None:
            self._app = build_app()
        await self._app(scope, receive, send)


def build_app() -> FastAPI:
    """Return the application with ``GET /gates/{dag_id}/{run_id}/{task_id}/{map_index}/{try_number}``.

    Airflow does not guard plugins' applications. The route asks Airflow for the user (401 without a valid token)
    and whether this user may read this DAG's task instances (403 if not), before it looks at the store.
    """
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI
    from fastapi.responses import HTMLResponse

    from include.gates.results import render

    app = FastAPI(title="Labelops", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Any, proceed: Any) -> Any:
        response = await proceed(request)
        response.headers.update(HEADERS)
        return response

    def page(dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int) -> HTMLResponse:
        result = _stored(dag_id, run_id, task_id, map_index, try_number)
        if result is None:
            return HTMLResponse(_MISSING, status_code=404)
        return HTMLResponse(render(result))

    # Named here, not in the signature: postponed annotations are looked up in the module, where FastAPI is not.
    page.__annotations__["return"] = None
    app.get(
        "/gates/{dag_id}/{run_id}/{task_id}/{map_index}/{try_number}",
        dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))],
        response_class=HTMLResponse,
        response_model=None,
    )(page)
    return app


_MISSING = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>No gate result</title></head><body>'
    "<h1>No gate result</h1><p>This try of the task wrote no result. It may have ended before the gate ran, or the "
    "gate could not run; the task's log says which.</p></body></html>"
)


def _stored(dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int) -> GateResult | None:
    """Return the result of one try, None where there is none or a name could not be one of Airflow's."""
    from include.base.errors import InvalidInput
    from include.base.store import read_json
    from include.gates.results import GateResult
    from labelops.runtime import name_in_store, open_store

    # Access was checked for the DAG id as it was asked for; one that is spelled otherwise in the store is another's.
    if name_in_store(dag_id) != dag_id:
        return None
    parts = [name_in_store(part) for part in (dag_id, run_id, task_id, map_index, try_number)]
    try:
        place = open_store().at("gates", *parts, "result.json")
    except InvalidInput:
        return None
    return GateResult.from_dict(read_json(place)) if place.exists() else None
