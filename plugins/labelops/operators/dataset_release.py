"""Steps of ``dataset_release``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from labelops.operators.work import GatedOperator, ItemOperator, ListWorkOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from include.projects.model import Project
    from include.run.run import Run, WorkItem

__all__ = ["CheckReleaseOperator", "HandOverOperator", "ListReleasesOperator"]


class ListReleasesOperator(ListWorkOperator):
    """List approved versions that are not released, and releases to recall.

    With the run parameter ``version``, that one whatever its state.
    """

    def pending(self, run: Run, project: Project, context: Context) -> Iterator[WorkItem]:
        """Yield the project's versions."""
        from include.usecases import dataset_release

        yield from dataset_release.pending(run, project, context["params"].get("version"))


class _ReleaseStep(ItemOperator):
    """A step that reads the evidence at its source.

    :param prodigy_conn_id: connection to Prodigy's database.
    :param opentext_conn_id: connection to OpenText Workflow Service.
    """

    def __init__(
        self,
        *,
        prodigy_conn_id: str = "prodigy_default",
        opentext_conn_id: str = "opentext_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prodigy_conn_id = prodigy_conn_id
        self.opentext_conn_id = opentext_conn_id

    def gateways(self, project: Project) -> tuple[Any, Any, Any]:
        """Return Prodigy, OpenText and the process mappings of a project."""
        from include.bpmn.mapping import load_mapping
        from labelops.hooks.opentext import OpenTextWorkflowHook
        from labelops.hooks.prodigy import ProdigyHook

        return (
            ProdigyHook(self.prodigy_conn_id),
            OpenTextWorkflowHook(self.opentext_conn_id),
            load_mapping(project.process_mapping),
        )


class CheckReleaseOperator(_ReleaseStep):
    """Check a version, report the checks to the release process, and stage its rows for the gate."""

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return where the rows are staged and how many effects there were.

        :raises Refused: saying what is missing; the same refusal is skipped on later scheduled runs.
        """
        from include.datasets.staging import stage_version
        from include.usecases import dataset_release

        if item.detail.get("kind") == dataset_release.RECALL:
            at = f"{item.subject} of {project.name}"
            run.log.info("The approval of %s was withdrawn: there is nothing to check, it is recalled.", at)
            return {"staged": None, "created": 0}
        prodigy, opentext, mappings = self.gateways(project)
        checked = dataset_release.check(run, project, item, prodigy, opentext, mappings)
        if checked.problems and not item.detail.get("chosen") and dataset_release.refused_before(run, checked):
            raise AirflowSkipException(f"Refused before, and nothing is new: {'; '.join(checked.problems)}")
        asked = None
        if checked.where.state == "approved":
            asked = dataset_release.ask_release(run, project, checked, opentext, mappings)
        if checked.problems:
            dataset_release.refuse(run, project, checked)
        return {
            "staged": stage_version(run, project, checked.version.digest),
            "created": asked["created"] if asked else 0,
        }


class HandOverOperator(GatedOperator, _ReleaseStep):
    """Check everything once more and hand the version over, once the release process says so; or recall it."""

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return the item's result."""
        from include.usecases import dataset_release

        webhook = _webhook(project.release.webhook_conn_id)
        if item.detail.get("kind") == dataset_release.RECALL:
            return dataset_release.recall(run, project, item, *self.gateways(project), webhook).as_dict()
        if self.given is None:
            raise AirflowSkipException("The check was skipped, so nothing is handed over.")
        return dataset_release.hand_over(
            run,
            project,
            item,
            self.gate,
            *self.gateways(project),
            webhook,
            created=self.given.get("created", 0),
            emit=_lineage(),
        ).as_dict()


def _webhook(conn_id: str | None) -> Callable[[dict[str, Any], str], None] | None:
    """Return what calls the training side: an HTTP connection, POST, one idempotency key per release."""
    if conn_id is None:
        return None

    def call(payload: dict[str, Any], key: str) -> None:
        import requests
        from airflow.providers.http.hooks.http import HttpHook

        from include.base.errors import Unavailable

        try:
            HttpHook(method="POST", http_conn_id=conn_id).run(
                endpoint="",
                json=payload,
                headers={"Idempotency-Key": key},
                extra_options={"timeout": 60},
            )
        except (requests.RequestException, OSError) as error:
            raise Unavailable(
                f"the training webhook {conn_id} was not reached: {type(error).__name__}", system="webhook"
            ) from error

    return call


def _lineage() -> Callable[[bytes], None] | None:
    """Return what sends a release's events as the OpenLineage provider is configured to; None where it is not."""
    from airflow.providers.openlineage.conf import is_disabled

    if is_disabled():
        return None

    def emit(events: bytes) -> None:
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
            raise Unavailable(
                f"the OpenLineage transport did not take the events: {type(error).__name__}", system="openlineage"
            ) from error

    return emit
