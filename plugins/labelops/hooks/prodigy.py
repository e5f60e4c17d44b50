"""The hook on Prodigy's SQL database (SQLite, PostgreSQL, MySQL and MariaDB)."""

from __future__ import annotations

from airflow.sdk import Connection

from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.settings import read_settings
from labelops.hooks.client import ClientHook

__all__ = ["ProdigyHook"]


class ProdigyHook(ClientHook[ProdigyClient]):
    """Lead to Prodigy's database through an Airflow connection; what can be done there says :class:`ProdigyClient`.

    The connection: ``host`` (for SQLite the path of the file), ``schema`` (the database), ``login``, ``password``,
    ``port``, and in ``extra`` the ``engine``: ``sqlite`` (the default), ``postgresql``, ``mysql`` or ``mariadb``; for
    SQLite also ``path`` instead of the host, else the driver's own TLS settings.

    :param prodigy_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "prodigy_conn_id"
    default_conn_name = "prodigy_default"
    conn_type = "prodigy"
    hook_name = "Prodigy database"

    def __init__(self, prodigy_conn_id: str = default_conn_name) -> None:
        super().__init__(prodigy_conn_id)

    def made_from(self, connection: Connection) -> ProdigyClient:
        """Return the client of a connection."""
        return ProdigyClient(read_settings(connection))
