"""The page tree of the local Confluence Cloud: folders, and what is above and below."""

# ruff: noqa: S608 - the pieces put into statements are constants; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from include.sandbox.confluence import access
from include.sandbox.confluence.database import iso
from include.sandbox.confluence.site import Site
from include.sandbox.confluence.wire import (
    V2,
    bad_v2,
    base_of,
    limit_of,
    number_of,
    object_in,
    v2_error,
)
from include.sandbox.http import Reply, Request, json_reply

__all__ = ["Tree"]

DEEPEST = 10
BELOW = (
    "with recursive below(id, depth) as (select id, 1 from tree where parent_id = ? and status = 'current' union all"
    " select tree.id, depth + 1 from tree join below on tree.parent_id = below.id"
    " where tree.status = 'current' and depth < ?)"
)


class Tree:
    """Calls about the page tree."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[tuple[str, str, Callable[[Request], Reply]]]:
        """Return method, template and handler of each call."""
        page, folder = f"{V2}/pages/{{id}}", f"{V2}/folders/{{id}}"
        return [
            ("GET", f"{page}/descendants", self._descendants),
            ("GET", f"{page}/ancestors", self._ancestors),
            ("POST", f"{V2}/folders", self._create_folder),
            ("GET", f"{folder}/descendants", self._descendants),
            ("GET", f"{folder}/ancestors", self._ancestors),
        ]

    # --- looking ---

    def _top(self, request: Request) -> int:
        """Return the id of the page or folder of the path."""
        if "/folders/" in request.path:
            return int(self._folder(request.values["id"])["id"])
        return int(self._site.page_row(request.values["id"])["id"])

    def _folder(self, folder_id: Any) -> sqlite3.Row:
        database = self._site.database
        row = database.row("select * from folders where id = ?", (number_of(folder_id),))
        if row is None or not access.may(database, row["id"], self._site.me, "read"):
            raise v2_error(404, "NOT_FOUND", f"Cannot find a folder with id [{folder_id}]")
        return row

    def _descendants(self, request: Request) -> Reply:
        depth = number_of(request.one("depth", "2"))
        if not 1 <= depth <= DEEPEST:
            raise bad_v2(f"Provided value for 'depth' must be between 1 and {DEEPEST}")
        sql = (
            f"{BELOW} select tree.*, below.depth from below join tree on tree.id = below.id"
            f" where tree.id not in {access.HIDDEN} order by below.depth, tree.id"
        )
        return self._site.listing(
            request,
            sql,
            (self._top(request), depth, self._site.me, self._site.me),
            lambda row: {
                "id": str(row["id"]),
                "status": row["status"],
                "title": row["title"],
                "type": row["kind"],
                "parentId": str(row["parent_id"]),
                "depth": row["depth"],
                "childPosition": row["id"],
            },
        )

    def _ancestors(self, request: Request) -> Reply:
        """The nearest ones, highest first; more are reached by asking for those of the highest."""
        limit = limit_of(request, 25)
        database = self._site.database
        results = []
        for number in access.ancestors(database, self._top(request))[-limit:]:
            row = database.row("select kind from tree where id = ?", (number,))
            assert row is not None
            results.append({"id": str(number), "type": row["kind"]})
        links = {} if "/folders/" in request.path else {"_links": {"base": base_of(request)}}
        return json_reply({"results": results, **links})

    # --- folders ---

    def _create_folder(self, request: Request) -> Reply:
        sent = object_in(request)
        space = self._site.space_row(sent.get("spaceId", ""))
        title = sent.get("title", "")
        if not isinstance(title, str) or len(title) > 255:
            raise bad_v2("The title of a folder has at most 255 characters")
        parent = sent.get("parentId") or space["homepage_id"]
        parent = None if parent is None else self._site.parent_row(parent, space["id"])["id"]
        database = self._site.database
        number = database.next_id()
        values = (number, space["id"], title, "current", parent, self._site.me, database.now())
        database.write("insert into folders values (?, ?, ?, ?, ?, ?, ?)", values)
        return json_reply(self._shape_folder(request, self._folder(number)))

    def _shape_folder(self, request: Request, row: sqlite3.Row) -> dict[str, Any]:
        above = {}
        if row["parent_id"] is not None:
            parent = self._site.database.row("select kind from tree where id = ?", (row["parent_id"],))
            above = {"parentId": str(row["parent_id"]), "parentType": parent["kind"] if parent else "page"}
        version = {"number": 1, "message": "", "minorEdit": False, "authorId": row["author_id"]}
        return {
            "id": str(row["id"]),
            "type": "folder",
            "status": row["status"],
            "title": row["title"],
            **above,
            "position": row["id"],
            "authorId": row["author_id"],
            "ownerId": row["author_id"],
            "createdAt": iso(row["created"]),
            "spaceId": str(row["space_id"]),
            "version": version | {"createdAt": iso(row["created"])},
            "_links": {"webui": f"/spaces/folder/{row['id']}", "base": base_of(request)},
        }
