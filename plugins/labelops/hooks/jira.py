"""The hook on Jira: a connection of the official provider's type ``jira`` as our client of the site.

``airflow.providers.atlassian.jira`` brings the connection type. Its own hook connects when it is made, takes a host
without a scheme as it is, knows no token but basic authentication and no time-out, tries nothing again and has no
``test_connection``.
"""

from __future__ import annotations

from airflow.sdk import BaseHook

from include.base.errors import LabelopsError
from include.systems.http import RetryPolicy
from include.systems.jira.client import JiraClient
from include.systems.jira.settings import read_settings

__all__ = ["JiraIssueHook"]


class JiraIssueHook(BaseHook):
    """Gives the client of one Jira site, whose connection :func:`include.systems.jira.settings.read_settings` explains.

    :param jira_conn_id: the Airflow connection.
    :param policy: how often and how patiently a request is tried.
    """

    conn_name_attr = "jira_conn_id"
    default_conn_name = "jira_default"
    conn_type = "jira"
    hook_name = "JIRA"

    def __init__(self, jira_conn_id: str = default_conn_name, policy: RetryPolicy | None = None) -> None:
        super().__init__()
        self.jira_conn_id = jira_conn_id
        self._policy = policy
        self._client: JiraClient | None = None

    def get_conn(self) -> JiraClient:
        """Return the client, made on first use; nothing is sent.

        :raises InvalidInput: a connection field has a value that is not allowed.
        """
        if self._client is None:
            self._client = JiraClient(read_settings(self.get_connection(self.jira_conn_id)), self._policy)
        return self._client

    def test_connection(self) -> tuple[bool, str]:
        """Ask who we are, and for one issue we may see."""
        try:
            return True, self.get_conn().check()
        except LabelopsError as error:
            return False, str(error)
        except Exception as error:
            return False, f"{type(error).__name__}: the connection cannot be used"
