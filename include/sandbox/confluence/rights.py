"""Restrictions of pages in the local Confluence Cloud, by v1."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from include.sandbox.confluence import access
from include.sandbox.confluence.people import group_id, shape_group, shape_user
from include.sandbox.confluence.site import Site
from include.sandbox.confluence.wire import V1, base_of, count_of, v1_error
from include.sandbox.http import Reply, Request, json_reply

__all__ = ["Rights"]

OPERATIONS = ("read", "update")
KNOWN_OPERATIONS = (
    *("administer", "copy", "create", "delete", "export", "move", "purge", "purge_version"),
    *("read", "restore", "update", "use"),
)
AT_MOST = 100
Rule = tuple[str, str, str]


class Rights:
    """Calls about restrictions."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[tuple[str, str, Callable[[Request], Reply]]]:
        """Return method, template and handler of each call."""
        path = f"{V1}/content/{{id}}/restriction"
        return [
            ("GET", path, self._get),
            ("GET", f"{path}/byOperation", self._by_operation),
            ("PUT", path, self._replace),
            ("DELETE", path, self._clear),
        ]

    # --- reading ---

    def _get(self, request: Request) -> Reply:
        return self._reply(request, self._site.content_row(request)["id"])

    def _by_operation(self, request: Request) -> Reply:
        page_id = self._site.content_row(request)["id"]
        shown = {name: self._shape(request, page_id, name, 0, AT_MOST) for name in OPERATIONS}
        return json_reply({**shown, "_links": {"base": base_of(request), "context": "/wiki"}})

    def _reply(self, request: Request, page_id: int) -> Reply:
        start, limit = count_of(request, "start", 0), min(count_of(request, "limit", AT_MOST), AT_MOST)
        results = [self._shape(request, page_id, operation, start, limit) for operation in OPERATIONS]
        rules = [rule for operation in OPERATIONS for rule in access.named(self._site.database, page_id, operation)]
        return json_reply(
            {
                "results": results,
                "start": 0,
                "limit": len(OPERATIONS),
                "size": len(results),
                "restrictionsHash": hashlib.sha256(repr(rules).encode()).hexdigest(),
                "_links": {"base": base_of(request), "context": "/wiki"},
            }
        )

    def _shape(self, request: Request, page_id: int, operation: str, start: int, limit: int) -> dict[str, Any]:
        rules = list(access.named(self._site.database, page_id, operation))
        users = [self._person(subject) for kind, subject in rules if kind == "user"]
        groups = [shape_group(subject) for kind, subject in rules if kind == "group"]
        asked = [part for text in request.many("expand") for part in text.split(",")]
        shaped: dict[str, Any] = {"_expandable": {}}
        for name, rows in (("user", users), ("group", groups)):
            # By default both are expanded; whoever names any gets those that are named.
            if not asked or any(part.endswith(f"restrictions.{name}") for part in asked):
                page = rows[start : start + limit]
                shaped[name] = {"results": page, "start": start, "limit": limit, "size": len(page)}
            else:
                shaped["_expandable"][name] = ""
        links = {"self": f"{base_of(request)}/rest/api/content/{page_id}/restriction/byOperation/{operation}"}
        expandable = {"content": f"/rest/api/content/{page_id}"}
        return {"operation": operation, "restrictions": shaped, "_expandable": expandable, "_links": links}

    def _person(self, account_id: str) -> dict[str, Any]:
        row = self._site.database.row("select * from users where account_id = ?", (account_id,))
        assert row is not None
        return shape_user(row)

    # --- writing ---

    def _replace(self, request: Request) -> Reply:
        row = self._site.content_row(request, to="update")
        self._write(row["id"], self._rules(request))
        return self._reply(request, row["id"])

    def _clear(self, request: Request) -> Reply:
        row = self._site.content_row(request, to="update")
        self._write(row["id"], [])
        return self._reply(request, row["id"])

    def _write(self, page_id: int, rules: list[Rule]) -> None:
        database = self._site.database
        database.write("delete from restrictions where page_id = ?", (page_id,))
        for operation, kind, subject in rules:
            values = (page_id, operation, kind, subject)
            database.write("insert or ignore into restrictions values (?, ?, ?, ?)", values)
        if not access.may(database, page_id, self._site.me, "update"):
            # The transaction is undone with the error.
            raise v1_error(400, "You cannot remove yourself from the restrictions of this content")

    def _rules(self, request: Request) -> list[Rule]:
        sent = request.json()
        entries = sent.get("results") if isinstance(sent, dict) else sent
        if not isinstance(entries, list):
            raise v1_error(400, "The restrictions must be a list")
        return [rule for entry in entries for rule in self._entry(entry)]

    def _entry(self, entry: Any) -> list[Rule]:
        operation = entry.get("operation") if isinstance(entry, dict) else None
        subjects = entry.get("restrictions") if isinstance(entry, dict) else None
        if operation not in KNOWN_OPERATIONS or not isinstance(subjects, dict):
            raise v1_error(400, "Each restriction needs an operation and restrictions")
        if operation not in OPERATIONS:
            raise v1_error(400, f"Content cannot be restricted for operation {operation}")
        users, groups = subjects.get("user"), subjects.get("group")
        if isinstance(users, dict):
            users = users.get("results")
        if users is None and groups is None:
            raise v1_error(400, "At least one of user or group must be specified")
        if not all(one is None or isinstance(one, list) for one in (users, groups)):
            raise v1_error(400, "user and group must be lists")
        if groups == []:
            raise v1_error(400, "group must have at least one item, or be left out")
        rules = [(operation, "user", self._account(one)) for one in users or ()]
        return rules + [(operation, "group", self._group(one)) for one in groups or ()]

    def _account(self, sent: Any) -> str:
        account = sent.get("accountId") if isinstance(sent, dict) and sent.get("type") else None
        row = self._site.database.row("select account_id from users where account_id = ?", (account,))
        if not isinstance(account, str) or row is None:
            raise v1_error(400, "A user of the restrictions is not known")
        return account

    def _group(self, sent: Any) -> str:
        wanted = sent.get("id") if isinstance(sent, dict) and sent.get("type") == "group" else None
        for row in self._site.database.rows("select name from groups"):
            if group_id(row["name"]) == wanted:
                return str(row["name"])
        raise v1_error(400, "A group of the restrictions is not known")
