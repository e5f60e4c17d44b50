"""``ConfluenceHook``: everything about Confluence that needs care, once for Cloud and Data Center.

Nothing here treats a 404 as "deleted": with a rejected credential Cloud's v2 answers 404 with the bare title
``Not Found``, which becomes :class:`~include.base.errors.AuthError`. No write that may have landed is sent a second
time: what is there is read first, and then decided on.
"""

from __future__ import annotations

from labelops.hooks.confluence.attached import Attached
from labelops.hooks.confluence.door import SITES
from labelops.hooks.confluence.people import People
from labelops.hooks.confluence.rights import PLACEHOLDER, Rights

__all__ = ["PLACEHOLDER", "SITES", "ConfluenceHook"]


class ConfluenceHook(Rights, Attached, People):
    """Read and write one Confluence site; implements ``include.systems.confluence.values.ConfluenceGateway``.

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
    * ``changes``: where changed pages are looked for, see :class:`~labelops.hooks.confluence.cloud.Cloud` and
      :class:`~labelops.hooks.confluence.datacenter.DataCenter`, which has ``time_zone`` too;
    * ``requests_per_second``: how many requests are sent at most (90 to Cloud), by all threads together; 0 for no limit
      of ours.

    Nothing is sent before the first call. Every list is a :class:`~include.systems.listing.Listing`. Every method
    raises the errors of :mod:`include.base.errors`, ``Unsupported`` where the flavour cannot do it;
    :class:`~include.systems.http.HttpCaller` says what is tried again. Safe to use from many threads.

    :param confluence_conn_id: the Airflow connection.
    :param policy: how often and how patiently a request is tried.
    """
