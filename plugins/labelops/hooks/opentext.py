"""The hook for OpenText Workflow Service. ``include/systems/opentext/settings.py`` explains the connection's fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from include.base.errors import LabelopsError
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.settings import read_settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from include.systems.http import RetryPolicy

__all__ = ["OpenTextWorkflowHook"]


class OpenTextWorkflowHook(BaseHook):
    """Makes the client of OpenText Workflow Service from one connection.

    :param opentext_conn_id: the connection's id.
    :param policy: the retry policy of single requests.
    """

    conn_name_attr = "opentext_conn_id"
    default_conn_name = "opentext_default"
    conn_type = "opentext"
    hook_name = "OpenText Workflow Service"

    def __init__(self, opentext_conn_id: str = default_conn_name, policy: RetryPolicy | None = None) -> None:
        super().__init__()
        self.opentext_conn_id = opentext_conn_id
        self._policy = policy
        self._client: OpenTextClient | None = None

    def get_conn(self) -> OpenTextClient:
        """Return the client, made once; it opens nothing before its first call.

        :raises InvalidInput: naming the connection's field that is missing or malformed.
        """
        if self._client is None:
            self._client = self._made_from(self.get_connection(self.opentext_conn_id))
        return self._client

    async def aget_conn(self) -> OpenTextClient:
        """Do as :meth:`get_conn`, for a trigger: the connection is looked up without holding up the event loop."""
        if self._client is None:
            self._client = self._made_from(await self.aget_connection(self.opentext_conn_id))
        return self._client

    def _made_from(self, connection: Connection) -> OpenTextClient:
        return OpenTextClient(read_settings(connection), self._policy, mask_secret)

    def test_connection(self) -> tuple[bool, str]:
        """Get a token and list one process; return whether it worked and a sentence that says what did or did not."""
        try:
            return True, self.get_conn().check()
        except LabelopsError as error:
            return False, str(error)
        except Exception as error:  # the form shows whatever went wrong
            return False, f"opentext: {type(error).__name__}: the connection cannot be used"
