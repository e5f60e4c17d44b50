"""Where a Jira site is, and how to sign in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from include.base.errors import InvalidInput
from include.systems.http import base_url, choice

__all__ = ["Settings", "read_settings"]


@dataclass(frozen=True)
class Settings:
    """One site and one account.

    :param site: the address, with a scheme and without a trailing slash.
    :param cloud: Cloud, else Data Center.
    :param secret: the API token or password; without a ``login`` a token that is sent as bearer.
    :param verify: false, or the path of a certificate bundle.
    :param timeout: seconds for a reply.
    :param index_seconds: how long the search index may lag behind.
    """

    site: str
    secret: str = field(repr=False)
    login: str | None = None
    cloud: bool = True
    verify: bool | str = True
    timeout: float = 60
    index_seconds: float = 30


def read_settings(connection: Any) -> Settings:
    """Return the settings in a connection.

    Type ``jira``: ``host`` (the site), ``login`` (e-mail, or user name on Data Center), ``password`` (API token,
    password, or the token for ``bearer``). Extra:

    * ``flavour``: ``cloud`` (default) or ``datacenter``;
    * ``auth``: ``basic`` (default), or ``bearer`` for a personal access token or an OAuth 2 access token;
    * ``verify``: false, or the path of a certificate bundle; ``timeout``: seconds for a reply (60);
    * ``index_seconds``: how long the search index may lag behind (30).

    :raises InvalidInput: a connection field has a value that is not allowed.
    """
    extra = connection.extra_dejson
    cloud = choice(extra, "flavour", ("cloud", "datacenter"), "jira") == "cloud"
    index_seconds = _seconds(extra, "index_seconds", 30)
    if not connection.password:
        raise InvalidInput("jira: the connection's password is empty; it holds the API token")
    basic = choice(extra, "auth", ("basic", "bearer"), "jira") == "basic"
    if basic and not connection.login:
        raise InvalidInput("jira: the connection's login is empty; it holds the account's name")
    return Settings(
        site=base_url(connection, "jira"),
        secret=connection.password,
        login=connection.login if basic else None,
        cloud=cloud,
        verify=True if extra.get("verify") is None else extra["verify"],
        timeout=_seconds(extra, "timeout", 60) or 60,
        index_seconds=index_seconds,
    )


def _seconds(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name)
    try:
        seconds = float(default if value in (None, "") else value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise InvalidInput(f"jira: connection extra `{name}`: found {value!r}, allowed: seconds, zero or more")
    return seconds
