"""Where things are and when things run: one file of settings, overridden by the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from include.base.configuration import load_model

__all__ = ["ROOT", "Schedules", "Settings", "schedules", "settings"]

ROOT = Path(__file__).resolve().parent.parent
"""The project's folder."""

_CLOCK_FIELDS = 5
_LONGEST_CLOCK = 300
"""Characters."""

SCHEDULE_BYTES = 64 * 1024
"""Bytes of the schedule file; it is read wherever a DAG is parsed."""


class Schedules(BaseModel):
    """The one schedule file, ``include/schedules.yaml``: clocks that differ from the DAGs', and the caps of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cron: dict[str, str | None] = Field(default={}, description="cron expression in UTC by DAG id, null for no clock")
    items_per_run: int = Field(default=500, ge=1, le=1000, description="work items one run takes; the rest is counted")
    answers_probe_seconds: float = Field(default=60, gt=0, le=86_400)
    decision_poll_seconds: float = Field(default=60, gt=0, le=86_400)
    decision_waits: int = Field(default=800, ge=1, description="waits for a decision that run at the same time")
    confluence_readers: int = Field(default=8, ge=1, le=32, description="changed pages read at the same time")
    staging_days: int = Field(default=14, ge=1, le=36_500)

    @field_validator("cron")
    @classmethod
    def _clocks_tick(cls, clocks: dict[str, str | None]) -> dict[str, str | None]:
        for dag_id, clock in clocks.items():
            if clock is not None and not _ticks(clock):
                raise ValueError(f"{dag_id}: found {clock[:80]!r}; allowed: a cron expression of five fields, or null")
        return clocks


def _ticks(clock: str) -> bool:
    """Tell whether a clock ever strikes: Airflow would refuse one that is malformed, or wait for 30 February."""
    from croniter import croniter  # not at the top: most installations have no clock of their own

    if len(clock) > _LONGEST_CLOCK:
        return False
    try:
        croniter(clock, datetime(2026, 1, 1, tzinfo=UTC)).get_next()
        return len(croniter(clock).expanded) == _CLOCK_FIELDS
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return False


@dataclass(frozen=True)
class Settings:
    """What an installation must say, from environment variables.

    :param store: ``LABELOPS_STORE``, folder or URL that results are kept below.
    :param store_conn_id: ``LABELOPS_STORE_CONN_ID``, Airflow connection of a cloud store.
    :param store_shared: ``LABELOPS_STORE_SHARED``, whether a local store folder is on a disk that all workers share.
    :param ledger_url: ``LABELOPS_LEDGER``, SQLAlchemy URL of the ledger's database.
    :param projects: ``LABELOPS_PROJECTS``, folder of project files.
    :param register: ``LABELOPS_REGISTER``, file of persons.
    :param mappings: ``LABELOPS_MAPPINGS``, folder of process mappings that goes before the one of Labelops.
    :param sources: ``LABELOPS_SOURCES``, root of relative source locations.
    :param scheduled: ``LABELOPS_SCHEDULES``, ``off`` leaves only assets and hands.
    :param signing_key: ``LABELOPS_SIGNING_KEY``, PEM file of the Ed25519 key that signs checkpoints and releases.
    :param retry_seconds: ``LABELOPS_RETRY_SECONDS``, the first pause before a task is tried again.
    """

    store: str
    store_conn_id: str | None
    store_shared: bool
    ledger_url: str
    projects: Path
    register: Path
    mappings: Path
    sources: str
    scheduled: bool
    signing_key: Path | None
    retry_seconds: float


def settings() -> Settings:
    """Return the settings as the environment has them now. Reads no file and never raises."""
    env = os.environ
    home = Path(env.get("LABELOPS_HOME") or ROOT / ".labelops")
    return Settings(
        store=env.get("LABELOPS_STORE") or str(home / "store"),
        store_conn_id=env.get("LABELOPS_STORE_CONN_ID") or None,
        store_shared=env.get("LABELOPS_STORE_SHARED", "").lower() in ("1", "true", "yes"),
        ledger_url=env.get("LABELOPS_LEDGER") or f"sqlite:///{home / 'ledger.db'}",
        projects=Path(env.get("LABELOPS_PROJECTS") or ROOT / "include" / "projects" / "definitions"),
        register=Path(env.get("LABELOPS_REGISTER") or ROOT / "include" / "projects" / "register.yaml"),
        mappings=Path(env.get("LABELOPS_MAPPINGS") or ROOT / "include" / "bpmn" / "mappings"),
        sources=env.get("LABELOPS_SOURCES") or str(home / "sources"),
        scheduled=env.get("LABELOPS_SCHEDULES", "on").lower() != "off",
        signing_key=Path(key) if (key := env.get("LABELOPS_SIGNING_KEY")) else None,
        retry_seconds=_seconds(env.get("LABELOPS_RETRY_SECONDS"), 60.0),
    )


def _seconds(text: str | None, otherwise: float) -> float:
    try:
        return max(0.0, float(text)) if text else otherwise
    except ValueError:
        return otherwise


def schedules() -> Schedules:
    """Return the schedule file.

    :raises InvalidInput: naming file, line and field.
    """
    place = Path(os.environ.get("LABELOPS_SCHEDULE_FILE") or ROOT / "include" / "schedules.yaml")
    return load_model(place, Schedules, SCHEDULE_BYTES)
