"""CQL search of the local Confluence Cloud, with the habits of the live one.

``start`` does nothing, ``totalSize`` is an estimate, ``next`` leaves ``excerpt`` out, titles of hits are escaped and
marked up, and what changed within ``search_lag_seconds`` is not seen yet.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from include.sandbox.confluence import access, cql
from include.sandbox.confluence.site import Site
from include.sandbox.confluence.wire import (
    SELECT_PAGE,
    V1,
    base_of,
    check_among,
    count_of,
    cursor_of,
    offset_of,
    v1_error,
    webui_of,
)
from include.sandbox.http import HttpError, Reply, Request, json_reply

__all__ = ["Search"]

AT_MOST = 250
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
        limit, database = min(count_of(request, "limit", 25), AT_MOST), self._site.database
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
        results = [_content(row, with_space=_wants_space(request, "space")) for row in rows]
        return json_reply({"results": results, "start": offset, "limit": limit, "size": len(results), "_links": links})


def _wants_space(request: Request, name: str) -> bool:
    return any(name in value.split(",") for value in request.query.get("expand", []))


def _content(row: sqlite3.Row, *, with_space: bool) -> dict[str, Any]:
    shaped: dict[str, Any] = {
        "id": str(row["id"]),
        "type": "page",
        "status": row["status"],
        "title": row["title"],
        "_expandable": {},
        "_links": {"webui": webui_of(row)},
    }
    if with_space:
        shaped["space"] = {
            "id": row["space_id"],
            "key": row["space_key"],
            "name": row["space_key"],
            "type": "global",
            "status": "current",
            "_expandable": {},
            "_links": {"webui": f"/spaces/{row['space_key']}"},
        }
    return shaped
