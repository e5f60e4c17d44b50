"""Settings: ``prodigy.json`` of the home folder, then of the working folder, the recipe's, the environment's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["DEFAULTS", "home", "settings"]

DEFAULTS: dict[str, Any] = {
    "host": "localhost",
    "port": 8080,
    "batch_size": 10,
    "auto_exclude_current": True,
    "exclude_by": "task",
    "db": "sqlite",
    "db_settings": {},
}


def home() -> Path:
    """Return Prodigy's home folder: ``PRODIGY_HOME``, or ``~/.prodigy``."""
    return Path(os.environ.get("PRODIGY_HOME") or Path.home() / ".prodigy")


def settings(recipe_config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the settings in force.

    :raises ValueError: naming the file or variable that is no JSON object.
    """
    value = dict(DEFAULTS)
    for path in (home() / "prodigy.json", Path("prodigy.json")):
        if path.is_file():
            value.update(_object(path.read_text("utf-8"), str(path)))
    value.update(recipe_config or {})
    overrides = os.environ.get("PRODIGY_CONFIG_OVERRIDES")
    if overrides:
        value.update(_object(overrides, "PRODIGY_CONFIG_OVERRIDES"))
    if os.environ.get("PRODIGY_HOST"):
        value["host"] = os.environ["PRODIGY_HOST"]
    if os.environ.get("PRODIGY_PORT"):
        value["port"] = int(os.environ["PRODIGY_PORT"])
    return value


def _object(text: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{source}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{source}: holds {type(value).__name__}; expected an object")
    return value
