"""Accounts and groups of the local Confluence Cloud."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from include.sandbox.confluence.site import Site
from include.sandbox.confluence.wire import V1, base_of, count_of, v1_error
from include.sandbox.http import HttpError, Reply, Request, json_reply

__all__ = ["People", "group_id", "paged", "shape_group", "shape_user"]

GROUPS_AT_MOST = 200
_GROUPS = uuid.UUID("8f1f0c5e-3f0e-4f0e-9a57-7a2d6f1b1c11")


def group_id(name: str) -> str:
    """Return the id of a group, made from its name so that it is the same after a restart."""
    return str(uuid.uuid5(_GROUPS, name))


def shape_user(row: sqlite3.Row) -> dict[str, Any]:
    """Return an account as v1 shows it."""
    return {
        "type": "known",
        "accountId": row["account_id"],
        "accountType": "atlassian",
        "email": row["email"] or "",
        "publicName": row["name"],
        "displayName": row["name"],
    }


def shape_group(name: str) -> dict[str, Any]:
    """Return a group as v1 shows it."""
    return {"type": "group", "name": name, "id": group_id(name)}


def paged(request: Request, rows: list[dict[str, Any]], *, at_most: int, default: int = 25) -> dict[str, Any]:
    """Return one page of a v1 list that counts with ``start`` and ``limit``.

    :raises HttpError: 400 for a start or limit that is no number from 0 on.
    """
    start, limit = count_of(request, "start", 0), min(count_of(request, "limit", default), at_most)
    page = rows[start : start + limit]
    return {"results": page, "start": start, "limit": limit, "size": len(page)}


class People:
    """Calls about accounts and groups."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[tuple[str, str, Callable[[Request], Reply]]]:
        """Return method, template and handler of each call."""
        return [
            ("GET", f"{V1}/user/current", self._current),
            ("GET", f"{V1}/group/picker", self._picker),
            *((method, f"{V1}/user/watch/content/{{id}}", self._watch) for method in ("GET", "POST", "DELETE")),
        ]

    def _user(self, account_id: str | None) -> sqlite3.Row | None:
        return self._site.database.row("select * from users where account_id = ?", (account_id,))

    def _current(self, request: Request) -> Reply:
        row = self._user(self._site.me)
        assert row is not None
        return json_reply(shape_user(row))

    def _watch(self, request: Request) -> Reply:
        me = self._site.me
        self._site.content_row(replace(request, values={"id": self._site.holder_of(request.values["id"])}))
        if request.one("accountId", me or "") != me:
            raise v1_error(403, "Only an administrator may let others watch")
        if request.method != "GET" and request.headers.get("x-atlassian-token") not in ("no-check", "nocheck"):
            raise HttpError(403, {"message": "XSRF check failed"})
        watching = self._site.watched(request, str(me))
        return json_reply({"watching": watching}) if request.method == "GET" else Reply(204)

    def _names(self) -> list[str]:
        return [row["name"] for row in self._site.database.rows("select name from groups order by name")]

    def _picker(self, request: Request) -> Reply:
        part = request.one("query").lower()
        if not part:
            raise v1_error(403, "query is required")
        found = [shape_group(name) for name in self._names() if part in name.lower()]
        page = paged(request, found, at_most=GROUPS_AT_MOST, default=200)
        return json_reply({**page, "_links": {"base": base_of(request)}})
