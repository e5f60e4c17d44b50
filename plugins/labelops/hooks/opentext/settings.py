"""The connection, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from include.base.errors import InvalidInput
from include.systems.http import base_url, segment
from labelops.hooks.opentext.values import SYSTEM

PATHS = {
    "process-instances": "/process-instances",
    "executions": "/process-instances/executions",
    "tasks": "/tasks",
    "models": "/runtime/models",
    "historic-process-instances": "/historic-process-instances",
    "historic-task-instances": "/historic-task-instances",
}
"""Where each collection is, below the workflow path or, for the historic ones, the history path."""

__all__ = ["Settings", "read_settings"]


@dataclass(frozen=True)
class Settings:
    """What the connection says; see the package for the meaning of each."""

    root: str
    client_id: str
    secret: str = field(repr=False)
    token_url: str
    token_style: str
    workflow: str
    history: str
    history_comments: str
    paths: Mapping[str, str]
    rels: Mapping[str, str]
    completer_field: str
    model_encoding: str
    groups: Mapping[str, str]
    unclaim: str
    assignment_removal: str
    attachment_content: str
    process_page: str | None
    grace: float
    count: int
    verify: bool | str
    timeout: float

    def at(self, collection: str) -> str:
        """Return the path of a collection below the API root."""
        root = self.history if collection.startswith("historic-") else self.workflow
        return root + self.paths[collection]


def read_settings(connection: Any) -> Settings:
    """Return a connection's settings.

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
        token_style=_choice(extra, "token_style", ("json", "form", "basic")),
        workflow=_path(extra, "workflow_path", "/workflow/v1"),
        history=_path(extra, "history_path", "/workflow-history/v1"),
        history_comments=_path(extra, "history_comments", "/historic-process-instances/{id}/comments"),
        paths=_paths(extra),
        rels=_texts(extra, "rels"),
        completer_field=str(extra.get("completer_field") or "completedBy"),
        model_encoding=_choice(extra, "model_encoding", ("base64", "url", "plain")),
        groups=_texts(extra, "groups"),
        unclaim=_choice(extra, "unclaim", ("action", "update")),
        assignment_removal=_choice(extra, "assignment_removal", ("body", "query", "path")),
        attachment_content=_path(extra, "attachment_content", "/content"),
        process_page=extra.get("process_page") or None,
        grace=_number(extra, "history_grace_seconds", 30),
        count=max(1, int(_number(extra, "count", 100))),
        verify=True if extra.get("verify") is None else extra["verify"],
        timeout=_number(extra, "timeout", 60),
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
