"""Steps of ``lineage_report``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labelops.operators.work import GatedOperator, ItemOperator, ListWorkOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from include.projects.model import Project
    from include.run.run import Run, WorkItem

__all__ = ["BuildReportOperator", "CommentReportOperator", "ListReportsOperator", "PublishReportOperator"]


class ListReportsOperator(ListWorkOperator):
    """List one report per project that has a dataset version."""

    def pending(self, run: Run, project: Project, context: Context) -> Iterator[WorkItem]:
        """Yield the project's report."""
        from include.usecases import lineage_report

        yield from lineage_report.pending(run, project)


class BuildReportOperator(ItemOperator):
    """Build the page from the ledger, and look for answers that changed since they were seen."""

    def __init__(self, *, prodigy_conn_id: str = "prodigy_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prodigy_conn_id = prodigy_conn_id

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return where page and gate rows are staged."""
        from include.usecases import lineage_report
        from labelops.hooks.prodigy import ProdigyHook

        return lineage_report.build(run, project, ProdigyHook(self.prodigy_conn_id))


class PublishReportOperator(GatedOperator):
    """Write the page and its charts if they differ from what is there."""

    def __init__(self, *, confluence_conn_id: str = "confluence_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.confluence_conn_id = confluence_conn_id

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return the item's result so far."""
        from include.usecases import lineage_report
        from labelops.hooks.confluence import ConfluenceHook
        from labelops.runtime import location

        return lineage_report.publish(
            run, project, self.given, self.gate, ConfluenceHook(self.confluence_conn_id), location
        ).as_dict()


class CommentReportOperator(ItemOperator):
    """Put the report's summary on the processes of the released versions, once each."""

    def __init__(self, *, opentext_conn_id: str = "opentext_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.opentext_conn_id = opentext_conn_id

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return the item's result."""
        from include.base.errors import Refused
        from include.run.run import ItemResult
        from include.usecases import lineage_report
        from labelops.hooks.opentext import OpenTextWorkflowHook

        if not self.given:
            raise Refused(f"{item.subject} of {project.name}: the report was not published")
        return lineage_report.comment(
            run, project, ItemResult(**self.given), OpenTextWorkflowHook(self.opentext_conn_id)
        ).as_dict()
