"""The one door to Prodigy's SQL database (SQLite, PostgreSQL, MySQL and MariaDB)."""

from __future__ import annotations

from labelops.hooks.prodigy.errors import database_error
from labelops.hooks.prodigy.hook import ProdigyHook

__all__ = ["ProdigyHook", "database_error"]
