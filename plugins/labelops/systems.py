"""The outside systems that a step may name in ``on``, each made when the step runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.projects.model import Project

__all__ = ["POOLS", "SYSTEMS", "connect"]


def _confluence(project: Project, conn_id: str) -> Any:
    from labelops.hooks.confluence import ConfluenceHook

    return ConfluenceHook(conn_id).get_conn()


def _opentext(project: Project, conn_id: str) -> Any:
    from labelops.hooks.opentext import OpenTextWorkflowHook

    return OpenTextWorkflowHook(conn_id).get_conn()


def _prodigy(project: Project, conn_id: str) -> Any:
    from labelops.hooks.prodigy import ProdigyHook

    return ProdigyHook(conn_id).get_conn()


def _source(project: Project, conn_id: str) -> Any:
    """Return the folder or bucket that a project's raw files are in."""
    from include.settings import settings
    from labelops.runtime import location

    place = project.source.location
    if "://" not in place and not place.startswith("/"):
        place = f"{settings().sources.rstrip('/')}/{place}"
    return location(place, project.source.conn_id)


def _training(project: Project, conn_id: str) -> Callable[[dict[str, Any], str], None] | None:
    """Return what calls the training side: an HTTP connection, POST, one idempotency key per release."""
    if project.release.webhook_conn_id is None:
        return None
    conn_id = project.release.webhook_conn_id

    def call(payload: dict[str, Any], key: str) -> None:
        import requests
        from airflow.providers.http.hooks.http import HttpHook

        from include.base.errors import Unavailable

        headers = {"Idempotency-Key": key}
        hook = HttpHook(method="POST", http_conn_id=conn_id)
        try:
            hook.run(endpoint="", json=payload, headers=headers, extra_options={"timeout": 60})
        except (requests.RequestException, OSError) as error:
            told = f"the training webhook {conn_id} was not reached: {type(error).__name__}"
            raise Unavailable(told, system="webhook") from error

    return call


def _lineage(project: Project, conn_id: str) -> Callable[[bytes], None] | None:
    """Return what sends a release's events as the OpenLineage provider is configured to; None where it is not."""
    from airflow.providers.openlineage.conf import is_disabled

    if is_disabled():
        return None

    def send(events: bytes) -> None:
        from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter

        from include.base.errors import Unavailable
        from include.passport.facts import LINEAGE
        from include.passport.lineage import read_events

        # The adapter's own emit keeps a failure to itself.
        try:
            client = OpenLineageAdapter().get_or_create_openlineage_client()
            try:
                for event in read_events(events, LINEAGE):
                    client.emit(event)
            finally:
                client.close(30)
        except Exception as error:  # each transport has errors of its own, and none of them may stop a release
            told = f"the OpenLineage transport did not take the events: {type(error).__name__}"
            raise Unavailable(told, system="openlineage") from error

    return send


SYSTEMS: dict[str, Callable[[Project, str], Any]] = {
    "confluence": _confluence,
    "lineage": _lineage,
    "opentext": _opentext,
    "prodigy": _prodigy,
    "source": _source,
    "training": _training,
}
"""What makes a system's client, of the project and the connection's id; the name is that of the step's argument."""

POOLS = {name: f"labelops_{name}" for name in ("confluence", "opentext", "prodigy")}
"""The pool that bounds the requests of all DAGs to a system together."""


def connect(system: str, project: Project, conn_id: str | None = None) -> Any:
    """Return the client of a system.

    :param conn_id: the Airflow connection; ``<system>_default`` where it is not said.
    """
    return SYSTEMS[system](project, conn_id or f"{system}_default")
