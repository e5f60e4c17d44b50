"""CQL search of the local Confluence Cloud, with the habits of the live one.

``start`` does nothing, ``totalSize`` is an estimate, ``next`` leaves ``excerpt`` out, titles of hits are escaped and
marked up, and what changed within ``search_lag_seconds`` is not seen yet.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from include.sandbox.confluence import access, cql, view
from include.sandbox.confluence.database import iso
from include.sandbox.confluence.datacenter_wire import Expand
from include.sandbox.confluence.people import shape_user
from include.sandbox.confluence.site import Site
from include.sandbox.confluence.wire import (
    SELECT_PAGE,
    V1,
    base_of,
    check_among,
    count_of,
    cursor_of,
    offset_of,
    shape_v1_label,
    v1_error,
    webui_of,
)
from include.sandbox.http import HttpError, Reply, Request, json_reply

__all__ = ["Search"]

AT_MOST = 250
FEW, COSTLY = 25, ("body.export_view", "body.styled_view")
"""Results where these are expanded, by the published description."""
EXCERPTS = ("highlight", "indexed", "none", "highlight_unescaped", "indexed_unescaped")


class Search:
    """Calls that search."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[tuple[str, str, Callable[[Request], Reply]]]:
        """Return method, template and handler of each call."""
        return [("GET", f"{V1}/content/search", self._content)]

    def _find(self, request: Request) -> tuple[list[sqlite3.Row], int, int, dict[str, Any]]:
        """Return the rows of a page, its start and limit, and its links."""
        text = request.one("cql")
        check_among("excerpt", request.query.get("excerpt", ()), EXCERPTS)
        if not text.strip():
            raise v1_error(400, "Could not parse cql : (its end)")
        most = FEW if any(map(Expand(request.one("expand")).has, COSTLY)) else AT_MOST
        limit, database = min(count_of(request, "limit", 25), most), self._site.database
        try:
            offset = offset_of(request)
        except HttpError as error:
            raise v1_error(400, "The cursor is not valid") from error
        seen_before = database.now() - round(self._site.search_lag_seconds * 1000)
        try:
            query = cql.translate(text, seen_before=seen_before)
        except cql.BadCql as error:
            raise v1_error(400, str(error)) from error
        sql = (
            f"{SELECT_PAGE} where p.status = 'current' and p.modified <= ? and p.id not in {access.HIDDEN}"
            f" and {query.where} order by {query.order} limit ? offset ?"
        )
        values = (seen_before, self._site.me, self._site.me, *query.values, limit + 1, offset)
        rows = database.rows(sql, values)
        call = request.path.removeprefix("/wiki")
        links = {"base": base_of(request), "context": "/wiki", "self": f"{base_of(request)}{call}"}
        if len(rows) > limit > 0:
            kept = {name: found for name, found in request.query.items() if name not in ("cursor", "excerpt", "start")}
            kept |= {"limit": [str(limit)], "cursor": [cursor_of(offset + limit)]}
            links["next"] = f"{call}?{urlencode(kept, doseq=True)}"
        return rows[:limit], offset, limit, links

    def _content(self, request: Request) -> Reply:
        rows, offset, limit, links = self._find(request)
        expand = Expand(request.one("expand"))
        results = [self._shown(row, expand) for row in rows]
        return json_reply({"results": results, "start": offset, "limit": limit, "size": len(results), "_links": links})

    def _shown(self, row: sqlite3.Row, expand: Expand) -> dict[str, Any]:
        """Return a page as v1 shows content: each part in it where it is wanted, else named as one that could be."""
        parts: dict[str, Callable[[Expand], dict[str, Any]]] = {
            "body": lambda wanted: self._body(row, wanted),
            "history": lambda wanted: {
                "latest": True,
                "createdBy": self._person(row["author_id"]),
                "createdDate": iso(row["created"]),
            },
            "metadata": lambda wanted: {"labels": self._labels(row["id"])} if wanted.has("labels") else {},
            "space": lambda wanted: _space(row),
            "version": lambda wanted: {
                "by": self._person(row["version_author"]),
                "when": iso(row["version_created"]),
                "message": row["message"],
                "number": row["version"],
                "minorEdit": False,
            },
        }
        shown = {name: shape(expand.below(name)) for name, shape in parts.items() if expand.has(name)}
        return {
            "id": str(row["id"]),
            "type": "page",
            "status": row["status"],
            "title": row["title"],
            **shown,
            "_expandable": {name: "" for name in parts if name not in shown},
            "_links": {"webui": webui_of(row)},
        }

    def _body(self, row: sqlite3.Row, wanted: Expand) -> dict[str, Any]:
        if set(wanted.names()) - set(view.REPRESENTATIONS):
            raise v1_error(501, "The local Confluence keeps storage format, and shows it as HTML")
        found = view.bodies(self._site.database, "/wiki", row, row["body"], wanted.has)
        shown = {name: {**body, "embeddedContent": [], "_expandable": {}} for name, body in found.items()}
        return shown | {"_expandable": {name: "" for name in view.REPRESENTATIONS if name not in shown}}

    def _person(self, account_id: str) -> dict[str, Any]:
        row = self._site.database.row("select * from users where account_id = ?", (account_id,))
        return {"type": "unknown", "accountId": account_id} if row is None else shape_user(row)

    def _labels(self, page_id: int) -> dict[str, Any]:
        rows = self._site.database.rows("select * from labels where page_id = ? order by name", (page_id,))
        return {"results": [shape_v1_label(row) for row in rows], "start": 0, "limit": 200, "size": len(rows)}


def _space(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["space_id"],
        "key": row["space_key"],
        "name": row["space_key"],
        "type": "global",
        "status": "current",
        "_expandable": {},
        "_links": {"webui": f"/spaces/{row['space_key']}"},
    }
