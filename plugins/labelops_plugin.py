"""The one plugin that Airflow loads: the gate's result page and its link from the task."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from labelops.operators.gate import GateResultLink
from labelops.web import LazyApp


class LabelopsPlugin(AirflowPlugin):
    """Register what the UI shows."""

    name = "labelops"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": "/labelops", "name": "Labelops"}]  # noqa: RUF012 - Airflow's contract
    operator_extra_links = [GateResultLink()]  # noqa: RUF012 - Airflow's contract
