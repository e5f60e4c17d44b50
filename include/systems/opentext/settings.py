"""What a client of the workflow service has to know, and how a connection says it.

Host is the API root (``https://us.api.opentext.com``), login the client id, password the client secret. Extra:

=========================  ==========================================================================================
``tenant_id``              the tenant in the token address (required)
``token_style``            ``json`` (OpenText's own form), ``form`` or ``basic``
``token_path``             default ``/tenants/{tenant_id}/oauth2/token``
``workflow_path``          default ``/workflow/v1``
``history_path``           default ``/workflow-history/v1``
``history_comments``       below the history path; default ``/historic-process-instances/{id}/comments`` (Flowable's)
``paths``                  where collections are, by their names, below the two paths: ``process-instances``,
                           ``tasks``, ``models``, ``historic-process-instances``, ``historic-task-instances``
``rels``                   names of lists in ``_embedded``, by collection, where they differ from the collection's name
``completer_field``        field of a historic task that names who completed it; default ``completedBy``
``model_encoding``         how a model's XML travels when it is deployed: ``base64`` (default), ``url`` or ``plain``
``groups``                 role to candidate group in this tenant; goes before the mapping's own ``groups``
``attachment_content``     below an attachment's address, where its bytes are; default ``/content`` (Flowable's)
``process_page``           address that shows a process to a person, with ``{id}``
``history_grace_seconds``  how long history may lag behind, default 30
``count``                  elements a list request asks for, default 100
``verify``, ``timeout``    TLS check (or a bundle's path), seconds for one reply (default 60)
=========================  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from include.base.errors import InvalidInput
from include.systems.http import base_url, segment
from include.systems.opentext.wire import SYSTEM

__all__ = ["PATHS", "Settings", "read_settings"]

PATHS = {
    "process-instances": "/process-instances",
    "tasks": "/tasks",
    "models": "/runtime/models",
    "historic-process-instances": "/historic-process-instances",
    "historic-task-instances": "/historic-task-instances",
}
"""Where each collection is, below the workflow path or, for the historic ones, the history path."""


@dataclass(frozen=True)
class Settings:
    """The service and the account, as the module's table explains them.

    :param root: the API root, with a scheme and without a trailing slash.
    :param token_url: the whole address that tokens come from.
    :param conn_id: name of the connection, which names the account without its secret.
    :param workflow: the workflow path; ``history`` is the history path.
    :param grace: seconds that history may lag behind.
    """

    root: str
    client_id: str
    secret: str = field(repr=False)
    token_url: str
    conn_id: str = ""
    token_style: str = "json"  # noqa: S105 - the name of a style
    workflow: str = "/workflow/v1"
    history: str = "/workflow-history/v1"
    history_comments: str = "/historic-process-instances/{id}/comments"
    paths: Mapping[str, str] = field(default_factory=PATHS.copy)
    rels: Mapping[str, str] = field(default_factory=dict)
    completer_field: str = "completedBy"
    model_encoding: str = "base64"
    groups: Mapping[str, str] = field(default_factory=dict)
    attachment_content: str = "/content"
    process_page: str | None = None
    grace: float = 30
    count: int = 100
    verify: bool | str = True
    timeout: float = 60

    def at(self, collection: str, *parts: str) -> str:
        """Return a path below the API root: of a collection, or of what is below it, such as one element's comments."""
        root = self.history if collection.startswith("historic-") else self.workflow
        return "/".join((root + self.paths[collection], *map(segment, parts)))


def read_settings(connection: Any) -> Settings:
    """Return the settings in a connection: ``conn_id``, ``host``, ``login``, ``password`` and ``extra_dejson``.

    :raises InvalidInput: naming the field that is missing or malformed.
    """
    extra = connection.extra_dejson
    root = base_url(connection, SYSTEM)
    tenant = str(extra.get("tenant_id") or "")
    token_path = str(extra.get("token_path") or "/tenants/{tenant_id}/oauth2/token")
    for name, value in (("login (client id)", connection.login), ("password (client secret)", connection.password)):
        if not value:
            raise InvalidInput(f"{SYSTEM}: the connection's {name} is empty")
    if not tenant and "{tenant_id}" in token_path:
        raise InvalidInput(f"{SYSTEM}: the connection's extra has no `tenant_id`; it is part of the token address")
    return Settings(
        root=root,
        client_id=connection.login,
        secret=connection.password,
        token_url=root + token_path.replace("{tenant_id}", segment(tenant)),
        conn_id=connection.conn_id,
        token_style=_choice(extra, "token_style", ("json", "form", "basic")),
        workflow=_path(extra, "workflow_path", Settings.workflow),
        history=_path(extra, "history_path", Settings.history),
        history_comments=_path(extra, "history_comments", Settings.history_comments),
        paths=_paths(extra),
        rels=_texts(extra, "rels"),
        completer_field=str(extra.get("completer_field") or Settings.completer_field),
        model_encoding=_choice(extra, "model_encoding", ("base64", "url", "plain")),
        groups=_texts(extra, "groups"),
        attachment_content=_path(extra, "attachment_content", Settings.attachment_content),
        process_page=extra.get("process_page") or None,
        grace=_number(extra, "history_grace_seconds", Settings.grace),
        count=max(1, int(_number(extra, "count", Settings.count))),
        verify=True if extra.get("verify") is None else extra["verify"],
        timeout=_number(extra, "timeout", Settings.timeout),
    )


def _choice(extra: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = extra.get(name) or allowed[0]
    if value not in allowed:
        raise InvalidInput(f"{SYSTEM}: extra {name}: found {value!r}; allowed: {', '.join(allowed)}")
    return str(value)


def _number(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{SYSTEM}: extra {name}: found {value!r}; allowed: a number") from error
    if not 0 <= number < 1e9:
        raise InvalidInput(f"{SYSTEM}: extra {name}: found {value!r}; allowed: zero or more")
    return number


def _texts(extra: Mapping[str, Any], name: str) -> dict[str, str]:
    value = extra.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(one, str) and one for pair in value.items() for one in pair):
        raise InvalidInput(f"{SYSTEM}: extra {name}: found {value!r}; allowed: an object of texts")
    return dict(value)


def _paths(extra: Mapping[str, Any]) -> dict[str, str]:
    chosen = _texts(extra, "paths")
    unknown = sorted(set(chosen) - set(PATHS))
    if unknown:
        raise InvalidInput(f"{SYSTEM}: extra paths: found {', '.join(unknown)}; allowed: {', '.join(PATHS)}")
    return {**PATHS, **{name: "/" + path.strip("/") for name, path in chosen.items()}}


def _path(extra: Mapping[str, Any], name: str, default: str) -> str:
    return "/" + str(extra.get(name) or default).strip("/")
