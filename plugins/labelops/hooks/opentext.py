"""The hook for OpenText Workflow Service. ``include/systems/opentext/settings.py`` explains the connection's fields."""

from __future__ import annotations

from airflow.sdk import Connection
from airflow.sdk.log import mask_secret

from include.systems.http import RetryPolicy
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.settings import read_settings
from labelops.hooks.client import ClientHook

__all__ = ["OpenTextWorkflowHook"]


class OpenTextWorkflowHook(ClientHook[OpenTextClient]):
    """Makes the client of OpenText Workflow Service from one connection.

    :param opentext_conn_id: the connection's id.
    :param policy: the retry policy of single requests.
    """

    conn_name_attr = "opentext_conn_id"
    default_conn_name = "opentext_default"
    conn_type = "opentext"
    hook_name = "OpenText Workflow Service"

    unusable = "opentext: {}: the connection cannot be used"

    def __init__(self, opentext_conn_id: str = default_conn_name, policy: RetryPolicy | None = None) -> None:
        super().__init__(opentext_conn_id, policy)

    def made_from(self, connection: Connection) -> OpenTextClient:
        """Return the client of a connection; what it derives from the secret is masked in logs."""
        return OpenTextClient(read_settings(connection), self._policy, mask_secret)
