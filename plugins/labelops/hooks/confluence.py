"""``ConfluenceHook``: a connection of Airflow as a client of Confluence, Cloud and Data Center alike."""

from __future__ import annotations

from airflow.sdk import Connection

from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.settings import Settings
from include.systems.http import RetryPolicy
from labelops.hooks.client import ClientHook

__all__ = ["ConfluenceHook"]


class ConfluenceHook(ClientHook[ConfluenceClient]):
    """Gives the client of one Confluence site.

    Connection: ``host`` (the site), ``login`` and ``password``. Extra:

    * ``flavour``: ``cloud`` (default) or ``datacenter``;
    * ``auth``: ``basic`` (default; login and API token or password), ``bearer`` (a personal access token, or an access
      token), ``scoped`` (login and a scoped API token, through Atlassian's gateway), ``oauth2`` (an OAuth 2 access
      token, through the gateway);
    * ``cloud_id``: the site's id at the gateway; asked for when it is needed and missing; set with ``basic`` or
      ``bearer``, it sends those through the gateway too;
    * ``gateway``: the gateway's address before the id, where it is not Atlassian's;
    * ``verify``: false, or the path of a certificate bundle; ``timeout``: seconds for a reply (60);
    * ``path``: where Confluence is below the host (``/wiki`` for Cloud, nothing for Data Center);
    * ``changes``: where changed pages are looked for, see :class:`~include.systems.confluence.cloud.Cloud` and
      :class:`~include.systems.confluence.datacenter.DataCenter`, which has ``time_zone`` too;
    * ``requests_per_second``: how many requests are sent at most (90 to Cloud), by all threads together; 0 for no limit
      of ours.

    :param confluence_conn_id: the Airflow connection.
    :param policy: how often and how patiently a request is tried.
    """

    conn_name_attr = "confluence_conn_id"
    default_conn_name = "confluence_default"
    conn_type = "confluence"
    hook_name = "Confluence"

    def __init__(self, confluence_conn_id: str = default_conn_name, policy: RetryPolicy | None = None) -> None:
        super().__init__(confluence_conn_id, policy)

    def made_from(self, connection: Connection) -> ConfluenceClient:
        """Return the client of a connection."""
        return ConfluenceClient(Settings.read(connection), self._policy)
