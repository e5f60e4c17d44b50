"""The page tree of the local Confluence Cloud: folders, what is above and below, moving and archiving."""

# ruff: noqa: S608 - the pieces put into statements are constants; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from include.sandbox.confluence import access
from include.sandbox.confluence.database import iso
from include.sandbox.confluence.site import Site
from include.sandbox.confluence.wire import (
    V1,
    V2,
    bad_v2,
    base_of,
    limit_of,
    number_of,
    object_in,
    v1_error,
    v2_error,
    whole,
)
from include.sandbox.http import Reply, Request, json_reply

__all__ = ["Tree"]

DEEPEST = 10
POSITIONS = ("before", "after", "append")
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
            ("GET", f"{page}/direct-children", self._children),
            ("GET", f"{page}/children", self._pages_below),
            ("GET", f"{page}/descendants", self._descendants),
            ("GET", f"{page}/ancestors", self._ancestors),
            ("POST", f"{V2}/folders", self._create_folder),
            ("GET", folder, self._get_folder),
            ("DELETE", folder, self._delete_folder),
            ("GET", f"{folder}/direct-children", self._children),
            ("GET", f"{folder}/descendants", self._descendants),
            ("GET", f"{folder}/ancestors", self._ancestors),
            ("PUT", f"{V1}/content/{{page}}/move/{{position}}/{{target}}", self._move),
            ("POST", f"{V1}/content/archive", self._archive),
            ("GET", f"{V1}/longtask/{{id}}", self._long_task),
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

    def _children(self, request: Request) -> Reply:
        sql = f"select * from tree where parent_id = ? and status = 'current' and id not in {access.HIDDEN} order by id"
        values = (self._top(request), self._site.me, self._site.me)
        return self._site.listing(request, sql, values, lambda row: {**_child(row), "type": row["kind"]})

    def _pages_below(self, request: Request) -> Reply:
        """The older call, which hides folders."""
        sql = (
            f"select * from pages where parent_id = ? and status = 'current' and id not in {access.HIDDEN} order by id"
        )
        return self._site.listing(request, sql, (self._top(request), self._site.me, self._site.me), _child)

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

    def _get_folder(self, request: Request) -> Reply:
        return json_reply(self._shape_folder(request, self._folder(request.values["id"])))

    def _delete_folder(self, request: Request) -> Reply:
        row = self._folder(request.values["id"])
        self._site.database.write("update folders set status = 'trashed', parent_id = null where id = ?", (row["id"],))
        return Reply(204)

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

    # --- moving and archiving ---

    def _move(self, request: Request) -> Reply:
        page = self._site.content_row(request, to="update", name="page")
        if request.values["position"] not in POSITIONS:
            raise v1_error(400, f"The position must be one of {', '.join(POSITIONS)}")
        target = self._target(request.values["target"])
        database = self._site.database
        parent = target["id"] if request.values["position"] == "append" else target["parent_id"]
        if page["id"] in (parent, *(access.ancestors(database, parent) if parent is not None else ())):
            raise v1_error(400, "A page cannot be moved below itself")
        if page["status"] != "current" or target["status"] != "current":
            raise v1_error(400, "Only current content can be moved, and only to current content")
        if target["space_id"] != page["space_id"]:
            self._change_space(page, target["space_id"])
        database.write("update pages set parent_id = ? where id = ?", (parent, page["id"]))
        return json_reply({"pageId": str(page["id"])})

    def _target(self, wanted: str) -> sqlite3.Row:
        database = self._site.database
        row = database.row("select * from tree where id = ?", (whole(wanted),))
        if row is None or not access.may(database, row["id"], self._site.me, "read"):
            raise v1_error(404, f"No content found with id : {wanted}")
        return row

    def _change_space(self, page: sqlite3.Row, space_id: int) -> None:
        database = self._site.database
        moved = [page["id"]]
        moved += [row["id"] for row in database.rows(f"{BELOW} select id from below", (page["id"], 1000))]
        for number in moved:
            taken = database.row(
                "select 1 from pages a join pages b on lower(a.title) = lower(b.title) and b.space_id = ?"
                " and b.status in ('current', 'archived') where a.id = ?",
                (space_id, number),
            )
            if taken:
                raise v1_error(400, "A page already exists with the same title in the space")
            for table in ("pages", "folders"):
                database.write(f"update {table} set space_id = ? where id = ?", (space_id, number))

    def _archive(self, request: Request) -> Reply:
        sent = request.json()
        entries = sent.get("pages") if isinstance(sent, dict) else None
        if not isinstance(entries, list) or not entries:
            raise v1_error(400, "pages must name at least one page")
        database = self._site.database
        for entry in entries:
            number = whole(entry.get("id")) if isinstance(entry, dict) else None
            if number is None or not isinstance(entry["id"], int):
                raise v1_error(400, "Each page needs an id, which is a number")
            row = database.row("select status from pages where id = ?", (number,))
            if row is None or not access.may(database, number, self._site.me, "update"):
                raise v1_error(400, f"No page found with id : {number}")
            if row["status"] != "current":
                raise v1_error(400, f"The page with id {number} is {row['status']}, so it cannot be archived")
            database.write("update pages set status = 'archived' where id = ?", (number,))
            self._site.archived(number)
        task = str(database.next_id())
        return json_reply({"id": task, "links": {"status": f"/rest/api/longtask/{task}"}}, 202)

    def _long_task(self, request: Request) -> Reply:
        """Whatever was started is done: only archiving makes long tasks here."""
        wanted = request.values["id"]
        last = self._site.database.row("select value from sequence where name = 'content'")
        number = whole(wanted)
        if number is None or last is None or not 0 < number <= last["value"]:
            raise v1_error(404, f"No long running task found with id : {wanted}")
        return json_reply(
            {
                "id": wanted,
                "name": {"key": "archive.pages", "args": []},
                "elapsedTime": 0,
                "percentageComplete": 100,
                "successful": True,
                "finished": True,
                "messages": [],
                "_links": {"base": base_of(request)},
            }
        )


def _child(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "status": row["status"],
        "title": row["title"],
        "spaceId": str(row["space_id"]),
        "childPosition": row["id"],
    }
