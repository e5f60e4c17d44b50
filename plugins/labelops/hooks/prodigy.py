"""The hook on Prodigy's SQL database (SQLite, PostgreSQL, MySQL and MariaDB)."""

from __future__ import annotations

from airflow.sdk import BaseHook

from include.base.errors import LabelopsError
from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.settings import read_settings

__all__ = ["ProdigyHook"]


class ProdigyHook(BaseHook):
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
        super().__init__()
        self.prodigy_conn_id = prodigy_conn_id
        self._client: ProdigyClient | None = None

    def get_conn(self) -> ProdigyClient:
        """Return the client, made on first use; it has not connected yet.

        :raises InvalidInput: when the connection is not filled in as the class says.
        """
        if self._client is None:
            self._client = ProdigyClient(read_settings(self.get_connection(self.prodigy_conn_id)))
        return self._client

    async def aget_conn(self) -> ProdigyClient:
        """Do as :meth:`get_conn`, for a trigger: the connection is looked up without holding up the event loop."""
        if self._client is None:
            self._client = ProdigyClient(read_settings(await self.aget_connection(self.prodigy_conn_id)))
        return self._client

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the account may do what the DAGs need (read and insert), and which right is missing if not."""
        try:
            return True, self.get_conn().check()
        except LabelopsError as error:
            return False, str(error)
