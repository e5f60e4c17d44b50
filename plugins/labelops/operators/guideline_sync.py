"""Steps of ``guideline_sync``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from labelops.operators.work import GatedOperator, ItemOperator, ListWorkOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from include.projects.model import Project
    from include.run.run import Run, WorkItem

__all__ = ["CollectGuidelinesOperator", "ListGuidelinesOperator", "PublishGuidelinesOperator"]


class ListGuidelinesOperator(ListWorkOperator):
    """List one guideline per project."""

    def pending(self, run: Run, project: Project, context: Context) -> Iterator[WorkItem]:
        """Yield the project's guideline."""
        from include.run.run import WorkItem

        yield WorkItem(project.name, f"guideline:{project.name}")


class CollectGuidelinesOperator(ItemOperator):
    """Read the approved pages that changed and stage them; skip when a release would say the same.

    :param confluence_conn_id: connection to Confluence.
    """

    def __init__(self, *, confluence_conn_id: str = "confluence_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.confluence_conn_id = confluence_conn_id

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return where the pages are staged."""
        from include.settings import schedules
        from include.usecases import guideline_sync
        from labelops.hooks.confluence import ConfluenceHook

        hook = ConfluenceHook(self.confluence_conn_id)
        staged = guideline_sync.collect(run, project, hook, readers=schedules().confluence_readers)
        run.log.info("This took %d request(s) to Confluence.", hook.requests_made)
        if staged is None:
            raise AirflowSkipException(f"The guideline of {project.name} is unchanged.")
        return staged


class PublishGuidelinesOperator(GatedOperator):
    """Publish what was collected and passed the gate."""

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return the item's result."""
        from include.usecases import guideline_sync
        from labelops.runtime import location

        return guideline_sync.publish(run, project, self.given, self.gate, location).as_dict()
