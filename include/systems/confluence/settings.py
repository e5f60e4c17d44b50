"""What a connection to Confluence says, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from include.base.errors import InvalidInput
from include.systems.confluence.replies import SYSTEM
from include.systems.http import Connection, base_url, choice

__all__ = ["AUTH", "FLAVOURS", "GATEWAY", "Settings"]

GATEWAY = "https://api.atlassian.com/ex/confluence"
FLAVOURS = ("cloud", "datacenter")
AUTH = ("basic", "bearer", "scoped", "oauth2")


@dataclass(frozen=True)
class Settings:
    """Where a site is, and how to sign in.

    :param site: the address people use, without ``path`` and trailing slash.
    :param path: where Confluence is below the site (``/wiki`` for Cloud, nothing for Data Center).
    :param auth: ``basic`` (login and token or password), ``bearer`` (a personal or access token), both at the site
        or, with ``cloud_id``, at the gateway; ``scoped`` (login and a scoped API token) and ``oauth2`` (an OAuth 2
        access token), both always at the gateway.
    :param gateway: address of Atlassian's gateway, before the cloud id.
    :param cloud_id: the site's id at the gateway; empty when it is to be asked for, or no gateway is used.
    :param verify: whether TLS is checked, or the path of a certificate bundle; ``timeout``: seconds for a reply.
    :param extra: the whole of the connection's extra, of which pace and flavour read their own fields.
    """

    site: str
    path: str
    flavour: str
    auth: str
    login: str = field(repr=False)
    secret: str = field(repr=False)
    gateway: str = GATEWAY
    cloud_id: str = ""
    verify: Any = True
    timeout: float = 60.0
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, connection: Connection) -> Settings:
        """Return the settings of a connection.

        :raises InvalidInput: a field has a value that is not allowed, or is missing.
        """
        extra = connection.extra_dejson
        flavour, auth = choice(extra, "flavour", FLAVOURS, SYSTEM), choice(extra, "auth", AUTH, SYSTEM)
        if flavour == "datacenter" and auth not in ("basic", "bearer"):
            raise InvalidInput(f"confluence: connection extra `auth`: {auth!r} is Cloud's; allowed are basic, bearer")
        default = "/wiki" if flavour == "cloud" else ""
        found = extra.get("path")
        path = "/" + str(default if found is None else found).strip("/")
        path = "" if path == "/" else path
        if not connection.password:
            raise InvalidInput("confluence: the connection's password is empty; it holds the token")
        if auth in ("basic", "scoped") and not connection.login:
            raise InvalidInput("confluence: the connection's login is empty; it holds the account's e-mail or name")
        gateway = str(extra.get("gateway") or GATEWAY).rstrip("/")
        if urlsplit(gateway).scheme not in ("http", "https") or not urlsplit(gateway).hostname:
            raise InvalidInput("confluence: connection extra `gateway` must be an address like https://host/path")
        return cls(
            site=base_url(connection, SYSTEM).removesuffix(path),
            path=path,
            flavour=flavour,
            auth=auth,
            login=connection.login or "",
            secret=connection.password,
            gateway=gateway,
            cloud_id=str(extra.get("cloud_id") or "").strip(),
            verify=_verify(extra.get("verify", True)),
            timeout=_seconds(extra.get("timeout", 60)),
            extra=extra,
        )

    @property
    def through_gateway(self) -> bool:
        """Tell whether calls go to the gateway instead of the site."""
        return bool(self.cloud_id) or self.auth in ("scoped", "oauth2")


def _verify(value: Any) -> Any:
    if isinstance(value, str) and value.lower() in ("true", "false", ""):
        return value.lower() != "false"
    return True if value is None else value


def _seconds(value: Any) -> float:
    try:
        seconds = float(60 if value is None else value)
    except (TypeError, ValueError):
        seconds = 0.0
    if seconds <= 0:
        raise InvalidInput("confluence: connection extra `timeout` must be a number of seconds above 0")
    return seconds
