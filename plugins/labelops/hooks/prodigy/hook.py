"""The one door to Prodigy's SQL database (SQLite, PostgreSQL, MySQL and MariaDB)."""

from __future__ import annotations

from labelops.hooks.prodigy.counting import Counting
from labelops.hooks.prodigy.incremental import Incremental
from labelops.hooks.prodigy.removing import Removing
from labelops.hooks.prodigy.rights import RightsCheck
from labelops.hooks.prodigy.writing import Writing

__all__ = ["ProdigyHook"]


class ProdigyHook(Incremental, Counting, Writing, Removing, RightsCheck):
    """Read answers from Prodigy's database, and append tasks, decisions and versions to it.

    The tables belong to Prodigy: none is created or altered, no row is ever updated or deleted, and nothing is written
    under a session, for sessions are people's. A statement that deadlocked is tried again a few times; everything
    else is left to the task's retry policy. Connections are opened when needed and held for one statement or
    one transaction, never while the caller works on a row.

    The connection: ``host`` (for SQLite the path of the file), ``schema`` (the database), ``login``, ``password``,
    ``port``, and in ``extra`` the ``engine``: ``sqlite`` (the default), ``postgresql``, ``mysql`` or ``mariadb``; for
    SQLite also ``path`` instead of the host, else the driver's own TLS settings.

    :param prodigy_conn_id: id of the Airflow connection.
    """
