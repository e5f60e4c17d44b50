"""The hook on Jira: a connection of the official provider's type ``jira`` as our client of the site.

``airflow.providers.atlassian.jira`` brings the connection type. Its own hook connects when it is made, takes a host
without a scheme as it is, knows no token but basic authentication and no time-out, tries nothing again and has no
``test_connection``.
"""

from __future__ import annotations

from airflow.sdk import Connection

from include.systems.http import RetryPolicy
from include.systems.jira.client import JiraClient
from include.systems.jira.settings import read_settings
from labelops.hooks.client import ClientHook

__all__ = ["JiraIssueHook"]


class JiraIssueHook(ClientHook[JiraClient]):
    """Gives the client of one Jira site, whose connection :func:`include.systems.jira.settings.read_settings` explains.

    :param jira_conn_id: the Airflow connection.
    :param policy: how often and how patiently a request is tried.
    """

    conn_name_attr = "jira_conn_id"
    default_conn_name = "jira_default"
    conn_type = "jira"
    hook_name = "JIRA"

    def __init__(self, jira_conn_id: str = default_conn_name, policy: RetryPolicy | None = None) -> None:
        super().__init__(jira_conn_id, policy)

    def made_from(self, connection: Connection) -> JiraClient:
        """Return the client of a connection."""
        return JiraClient(read_settings(connection), self._policy)
