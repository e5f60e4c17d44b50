"""A client of a local service, without the pauses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from include.systems.http import RetryPolicy
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.settings import Settings, read_settings

__all__ = ["connect", "settings_of"]


def settings_of(url: str, login: Mapping[str, Any], **extra: Any) -> Settings:
    """Return the settings of a connection: ``login`` has an ``id`` and a ``secret``."""
    connection = SimpleNamespace(
        conn_id="opentext_default", host=url, schema=None, port=None, login=login["id"], password=login["secret"]
    )
    connection.extra_dejson = {"tenant_id": "tenant-1", "history_grace_seconds": 1, **extra}
    return read_settings(connection)


def connect(url: str, login: Mapping[str, Any], **extra: Any) -> OpenTextClient:
    """Return a client; it pauses for a fiftieth of a second at most."""
    policy = RetryPolicy(sleep=lambda seconds: time.sleep(min(seconds, 0.02)))
    return OpenTextClient(settings_of(url, login, **extra), policy)
