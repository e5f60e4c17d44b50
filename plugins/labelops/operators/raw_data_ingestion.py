"""Steps of ``raw_data_ingestion``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from labelops.operators.work import GatedOperator, ItemOperator, ListWorkOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from include.projects.model import Project
    from include.run.run import Run, WorkItem

__all__ = ["ListSourcesOperator", "LoadTasksOperator", "ReadSourcesOperator"]


class ListSourcesOperator(ListWorkOperator):
    """List one source location per project."""

    def pending(self, run: Run, project: Project, context: Context) -> Iterator[WorkItem]:
        """Yield the project's source."""
        from include.run.run import WorkItem

        yield WorkItem(project.name, f"source:{project.name}")


class ReadSourcesOperator(ItemOperator):
    """Read new and changed files into staged tasks; skip when there are none."""

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return where tasks and rejects are staged."""
        from include.settings import settings
        from include.usecases import raw_data_ingestion
        from labelops.runtime import location

        place = project.source.location
        if "://" not in place and not place.startswith("/"):
            place = f"{settings().sources.rstrip('/')}/{place}"
        staged = raw_data_ingestion.read(run, project, location(place, project.source.conn_id))
        if staged is None:
            raise AirflowSkipException(f"No file under {place} is new or changed.")
        return staged


class LoadTasksOperator(GatedOperator):
    """Put the tasks that passed the gate into the inbox and the rejects into quarantine."""

    def __init__(self, *, prodigy_conn_id: str = "prodigy_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prodigy_conn_id = prodigy_conn_id

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return the item's result."""
        from include.usecases import raw_data_ingestion
        from labelops.hooks.prodigy import ProdigyHook
        from labelops.runtime import location

        if not self.given:
            raise AirflowSkipException(f"Nothing was read for {project.name}, so nothing is loaded.")
        return raw_data_ingestion.load(
            run, project, self.given, self.gate, ProdigyHook(self.prodigy_conn_id), location
        ).as_dict()
