"""From an Airflow task to its run: where the store is, which ledger, which run."""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import ObjectStoragePath, conf

from include.base.errors import InvalidInput
from include.base.store import Store, local_path
from include.settings import Settings, settings

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from include.run.run import Run

__all__ = ["location", "name_in_store", "open_store", "run_of"]

_DISTRIBUTED = ("CeleryExecutor", "KubernetesExecutor", "EdgeExecutor", "EcsExecutor", "BatchExecutor")


def location(place: str, conn_id: str | None = None) -> ObjectStoragePath:
    """Return a folder or a cloud location as a path; a plain path is a local folder."""
    return ObjectStoragePath(place if "://" in place else f"file://{place}", conn_id=conn_id)


def open_store(chosen: Settings | None = None) -> Store:
    """Return the store.

    :raises InvalidInput: for a local folder under an executor whose workers have disks of their own, unless
        ``LABELOPS_STORE_SHARED`` says that all of them mount it.
    """
    chosen = chosen or settings()
    root = location(chosen.store, chosen.store_conn_id)
    executor = conf.get("core", "executor", fallback="")
    if local_path(root) and not chosen.store_shared and any(name in executor for name in _DISTRIBUTED):
        raise InvalidInput(
            f"LABELOPS_STORE is the local folder {chosen.store} but the executor is {executor}: "
            "name a cloud location, or set LABELOPS_STORE_SHARED=true if every worker mounts that folder"
        )
    return Store(root)


def name_in_store(value: object) -> str:
    """Return an id of Airflow's as one file name."""
    return re.sub(r"[^A-Za-z0-9._+=@-]", "_", str(value)) or "_"


def run_of(context: Context | dict[str, Any]) -> Run:
    """Return the run of the running task.

    :raises LedgerBehind: when the ledger is behind its outside checkpoint.
    """
    from include.base.signing import read_signer
    from include.governance.checkpoint import require_not_behind
    from include.governance.ledger import Ledger
    from include.people.register import Register
    from include.run.run import Run, RunRef

    chosen = settings()
    store = open_store(chosen)
    ledger = Ledger(chosen.ledger_url)
    require_not_behind(ledger, store)
    task_instance, dag_run = context["ti"], context["dag_run"]
    ref = RunRef(
        dag_id=task_instance.dag_id,
        run_id=task_instance.run_id,
        task_id=task_instance.task_id,
        map_index=-1 if task_instance.map_index is None else task_instance.map_index,
        try_number=task_instance.try_number,
        triggered_by=dag_run.triggering_user_name,
    )
    staging = store.at(
        "staging",
        *map(name_in_store, (ref.dag_id, ref.run_id, ref.task_id, ref.map_index, ref.try_number)),
    )
    return Run(
        store=store,
        ledger=ledger,
        register=Register.load(chosen.register),
        ref=ref,
        staging=staging,
        locate=partial(location, conn_id=chosen.store_conn_id),
        log=logging.getLogger("labelops"),
        signer=read_signer(chosen.signing_key) if chosen.signing_key else None,
    )
