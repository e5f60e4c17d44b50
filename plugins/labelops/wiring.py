"""What all DAG files share: the assets, the schedules, the parameters, the defaults."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import Asset, AssetAny, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable, Param

from include.base.errors import LabelopsError
from include.projects.load import project_names
from include.settings import Schedules, schedules, settings
from labelops.retry import LabelopsRetryPolicy
from labelops.triggers.answers import AnswersTrigger

__all__ = [
    "ANSWERS",
    "APPROVALS",
    "GUIDELINES",
    "INBOX",
    "RELEASES",
    "START",
    "defaults",
    "digests",
    "pace",
    "project_parameter",
    "schedule",
]


def pace() -> Schedules:
    """Return the schedule file, or its defaults when it is bad: parsing a DAG never raises, its runs say why."""
    try:
        return schedules()
    except LabelopsError:
        return Schedules()


GUIDELINES = Asset("labelops/guidelines")
INBOX = Asset("labelops/inbox")
ANSWERS = Asset(
    "labelops/answers",
    watchers=[AssetWatcher("labelops_answers", trigger=AnswersTrigger(seconds=pace().answers_probe_seconds))],
)
APPROVALS = Asset("labelops/approvals")
RELEASES = Asset("labelops/releases")

START = datetime(2026, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - spelt so that the DAG's serialised form is stable


def schedule(dag_id: str, cron: str | None, *assets: Asset) -> Any:
    """Return when a DAG runs: by its clock, when one of its assets changes, both, or by hand only.

    :param cron: five fields, in UTC. The schedule file may say another for this DAG, or null for none.
    """
    cron = pace().cron.get(dag_id, cron) if settings().scheduled else None
    listened = AssetAny(*assets) if len(assets) > 1 else next(iter(assets), None)
    if cron is None:
        return listened
    timetable = CronTriggerTimetable(cron, timezone="UTC")
    return timetable if listened is None else AssetOrTimeSchedule(timetable=timetable, assets=listened)


def project_parameter() -> dict[str, Param]:
    """Return the `project` choice of the trigger form: null is all of them."""
    return {
        "project": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            examples=project_names(settings().projects),
            title="Projects",
            description="Leave empty for all projects.",
        )
    }


def digests(title: str, where: str) -> Param:
    """Return a parameter that takes beginnings of digests.

    :param where: where a person finds them.
    """
    told = f"Beginnings of digests, six characters or more, {where}."
    return Param(None, type=["null", "array"], items={"type": "string"}, title=title, description=told)


def defaults() -> dict[str, Any]:
    """Return the arguments every task starts from."""
    return {
        "owner": "labelops",
        "retries": 4,
        "retry_delay": timedelta(seconds=settings().retry_seconds),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=30),
        "retry_policy": LabelopsRetryPolicy(),
        "execution_timeout": timedelta(hours=2),
    }
