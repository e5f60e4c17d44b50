"""Accounts and groups of the local Confluence Cloud."""

# ruff: noqa: S608 - the pieces put into statements are constants; values are always bound

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from typing import Any

from include.sandbox.confluence.site import Site
from include.sandbox.confluence.wire import V1, V2, bad_v2, base_of, count_of, marks, object_in, v1_error
from include.sandbox.http import Reply, Request, json_reply

__all__ = ["People", "group_id", "paged", "shape_group", "shape_user"]

PICTURE = {"path": "/wiki/aa-avatar/default", "isDefault": True}
GROUPS_AT_MOST = 200
USERS_AT_ONCE = 250
USERS_AT_ONCE_V1 = 100
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
            ("GET", f"{V1}/user", self._one),
            ("GET", f"{V1}/user/bulk", self._bulk_v1),
            ("POST", f"{V2}/users-bulk", self._bulk),
            ("GET", f"{V1}/group", self._groups),
            ("GET", f"{V1}/group/picker", self._picker),
            ("GET", f"{V1}/group/by-id", self._group),
            ("GET", f"{V1}/group/{{group}}/membersByGroupId", self._members),
        ]

    def _user(self, account_id: str | None) -> sqlite3.Row | None:
        return self._site.database.row("select * from users where account_id = ?", (account_id,))

    def _current(self, request: Request) -> Reply:
        row = self._user(self._site.me)
        assert row is not None
        return json_reply(shape_user(row))

    def _one(self, request: Request) -> Reply:
        row = self._user(request.one("accountId"))
        if row is None:
            raise v1_error(404, "No user found with the account id")
        return json_reply(shape_user(row))

    def _bulk_v1(self, request: Request) -> Reply:
        wanted = request.many("accountId")[:USERS_AT_ONCE_V1]
        if not wanted:
            raise v1_error(400, "accountId is required")
        rows = [row for row in map(self._user, wanted) if row is not None]
        picture = {**PICTURE, "width": 48, "height": 48}
        shaped = [{**shape_user(row), "profilePicture": picture, "_expandable": {}, "_links": {}} for row in rows]
        reply = {"results": shaped, "start": 0, "limit": USERS_AT_ONCE_V1, "size": len(shaped)}
        return json_reply({**reply, "_links": {"base": base_of(request)}})

    def _bulk(self, request: Request) -> Reply:
        wanted = object_in(request).get("accountIds")
        if not isinstance(wanted, list) or not 1 <= len(wanted) <= USERS_AT_ONCE:
            raise bad_v2(f"accountIds must hold 1 to {USERS_AT_ONCE} account ids")
        if not all(isinstance(one, str) for one in wanted):
            raise bad_v2("accountIds must be text")
        rows = self._site.database.rows(f"select * from users where account_id in ({marks(wanted)})", wanted)
        results = [
            {
                "accountId": row["account_id"],
                "accountType": "atlassian",
                "accountStatus": "active",
                "displayName": row["name"],
                "publicName": row["name"],
                "email": row["email"] or "",
                "profilePicture": PICTURE,
            }
            for row in rows
        ]
        return json_reply({"results": results, "_links": {"base": base_of(request)}})

    def _names(self) -> list[str]:
        return [row["name"] for row in self._site.database.rows("select name from groups order by name")]

    def _groups(self, request: Request) -> Reply:
        page = paged(request, [shape_group(name) for name in self._names()], at_most=GROUPS_AT_MOST, default=200)
        return json_reply({**page, "_links": {"base": base_of(request)}})

    def _picker(self, request: Request) -> Reply:
        part = request.one("query").lower()
        if not part:
            raise v1_error(403, "query is required")
        found = [shape_group(name) for name in self._names() if part in name.lower()]
        page = paged(request, found, at_most=GROUPS_AT_MOST, default=200)
        return json_reply({**page, "_links": {"base": base_of(request)}})

    def _name_of(self, wanted: str, status: int) -> str:
        for name in self._names():
            if group_id(name) == wanted:
                return name
        raise v1_error(status, "No group found with the id")

    def _group(self, request: Request) -> Reply:
        return json_reply(shape_group(self._name_of(request.one("id"), 404)))

    def _members(self, request: Request) -> Reply:
        name = self._name_of(request.values["group"], 400)
        sql = (
            "select u.* from users u join members m on m.account_id = u.account_id where m.group_name = ?"
            " order by u.account_id"
        )
        rows = [shape_user(row) for row in self._site.database.rows(sql, (name,))]
        page = paged(request, rows, at_most=GROUPS_AT_MOST, default=200)
        return json_reply({**page, "_links": {"base": base_of(request)}})
