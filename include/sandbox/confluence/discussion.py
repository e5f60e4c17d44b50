"""Footer and inline comments of the local Confluence Cloud."""

# ruff: noqa: S608 - the pieces put into statements are constants; values are always bound

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from typing import Any

from include.sandbox.confluence import access, markup
from include.sandbox.confluence.site import Site
from include.sandbox.confluence.wire import (
    LIST_FORMATS,
    ONE_FORMATS,
    V2,
    bad_v2,
    base_of,
    check_among,
    marks,
    number_of,
    object_in,
    shape_comment,
    stored_body,
    v2_error,
    wants_storage,
)
from include.sandbox.http import Reply, Request, json_reply

__all__ = ["Discussion"]

RESOLUTIONS = ("open", "reopened", "resolved", "dangling")
SORTS = ("created-date", "modified-date")
STATUSES = ("current", "archived", "trashed", "deleted", "historical", "draft")


class Discussion:
    """Calls about comments. An inline comment changes the page's storage and not its version, as on the service."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[tuple[str, str, Callable[[Request], Reply]]]:
        """Return method, template and handler of each call."""
        return [
            ("GET", f"{V2}/pages/{{id}}/footer-comments", self._list_footer),
            ("GET", f"{V2}/pages/{{id}}/inline-comments", self._list_inline),
            ("POST", f"{V2}/footer-comments", self._create_footer),
            ("POST", f"{V2}/inline-comments", self._create_inline),
            ("PUT", f"{V2}/inline-comments/{{comment}}", self._update_inline),
        ]

    # --- lists ---

    def _list_footer(self, request: Request) -> Reply:
        return self._list(request, "footer", [])

    def _list_inline(self, request: Request) -> Reply:
        wanted = request.many("resolution-status")
        check_among("resolution-status", wanted, RESOLUTIONS)
        return self._list(request, "inline", wanted)

    def _list(self, request: Request, location: str, resolutions: list[str]) -> Reply:
        row = self._site.page_row(request.values["id"])
        self._find_dangling(row)
        statuses = request.many("status")
        check_among("status", statuses, STATUSES)
        sort = request.one("sort", "created-date")
        check_among("sort", [sort.removeprefix("-")], SORTS)
        where, values = ["page_id = ?", "location = ?", "parent_id is null"], [row["id"], location]
        if resolutions:
            where.append(f"resolution in ({marks(resolutions)})")
            values += resolutions
        if statuses and "current" not in statuses:
            where.append("0")
        order = "desc" if sort.startswith("-") else "asc"
        with_body = wants_storage(request, LIST_FORMATS)
        sql = f"select * from comments where {' and '.join(where)} order by created {order}"
        return self._site.listing(request, sql, values, lambda item: _shape(item, with_body=with_body))

    def _find_dangling(self, page: sqlite3.Row) -> None:
        """An inline comment whose marker is gone from the page has lost its words."""
        database = self._site.database
        sql = "select id, marker_ref, resolution from comments where page_id = ? and location = 'inline'"
        for row in database.rows(sql, (page["id"],)):
            gone = row["marker_ref"] is not None and row["marker_ref"] not in page["body"]
            if gone and row["resolution"] in ("open", "reopened"):
                database.write("update comments set resolution = 'dangling' where id = ?", (row["id"],))

    # --- one ---

    def _row(self, wanted: Any, location: str) -> sqlite3.Row:
        database = self._site.database
        sql = "select * from comments where id = ? and location = ?"
        row = database.row(sql, (number_of(wanted), location))
        if row is None or not access.may(database, row["page_id"], self._site.me, "read"):
            raise v2_error(404, "NOT_FOUND", f"Cannot find a comment with id [{wanted}]")
        return row

    def _one(self, request: Request, row: sqlite3.Row, status: int = 200, *, written: bool = False) -> Reply:
        with_body = written or wants_storage(request, ONE_FORMATS)
        shaped = _shape(row, with_body=with_body)
        shaped["_links"] = {**shaped["_links"], "base": base_of(request)}
        return json_reply(shaped, status)

    def _create_footer(self, request: Request) -> Reply:
        sent = object_in(request)
        return self._create(request, sent, "footer", None, None)

    def _create(
        self, request: Request, sent: dict[str, Any], location: str, marker: str | None, selection: str | None
    ) -> Reply:
        parent = sent.get("parentCommentId")
        if (parent is None) == (sent.get("pageId") is None):
            raise bad_v2("A comment needs exactly one of pageId and parentCommentId")
        page = self._row(parent, location)["page_id"] if parent is not None else sent["pageId"]
        row, body = self._site.page_row(page), stored_body(sent)
        database = self._site.database
        number = database.next_id()
        above = None if parent is None else number_of(parent)
        columns = "id, page_id, body, version, author_id, created, location, marker_ref, selection, parent_id"
        values = (number, row["id"], body, 1, self._site.me, database.now(), location, marker, selection, above)
        database.write(f"insert into comments ({columns}) values ({marks(list(values))})", values)
        return self._one(request, self._row(number, location), 201, written=True)

    def _create_inline(self, request: Request) -> Reply:
        sent = object_in(request)
        if sent.get("parentCommentId") is not None:
            return self._create(request, sent, "inline", None, None)
        about = sent.get("inlineCommentProperties")
        if not isinstance(about, dict) or not isinstance(about.get("textSelection"), str) or not about["textSelection"]:
            raise bad_v2("inlineCommentProperties.textSelection is required")
        count, index = about.get("textSelectionMatchCount"), about.get("textSelectionMatchIndex")
        if not isinstance(count, int) or not isinstance(index, int) or not 0 <= index < count:
            raise bad_v2("textSelectionMatchIndex must be from 0 to textSelectionMatchCount - 1")
        page = self._site.page_row(sent.get("pageId", ""))
        marker = str(uuid.uuid4())
        marked, found = markup.mark(page["body"], about["textSelection"], index, marker)
        if found != count:
            raise bad_v2(f"textSelectionMatchCount is {count}, and the text is there {found} times")
        reply = self._create(request, sent, "inline", marker, about["textSelection"])
        values = (marked, page["id"], page["version"])
        self._site.database.write("update versions set body = ? where page_id = ? and number = ?", values)
        return reply

    def _update_inline(self, request: Request) -> Reply:
        row, sent = self._row(request.values["comment"], "inline"), object_in(request)
        version = sent.get("version")
        number = version.get("number") if isinstance(version, dict) else None
        if number != row["version"] + 1:
            raise v2_error(409, "CONFLICT", f"Version must be incremented. Current Version: [{row['version']}]")
        resolved = sent.get("resolved")
        if resolved is not None and not isinstance(resolved, bool):
            raise bad_v2("resolved must be true or false")
        if resolved and row["resolution"] == "dangling":
            raise bad_v2("A dangling comment cannot be resolved")
        resolution = row["resolution"]
        if resolved is not None and resolved != (resolution == "resolved"):
            resolution = "resolved" if resolved else "reopened"
        body = stored_body(sent) if "body" in sent else row["body"]
        values = (number, body, resolution, self._site.me, self._site.database.now(), row["id"])
        self._site.database.write(
            "update comments set version = ?, body = ?, resolution = ?, author_id = ?, created = ? where id = ?", values
        )
        return self._one(request, self._row(row["id"], "inline"), written=True)


def _shape(row: sqlite3.Row, *, with_body: bool) -> dict[str, Any]:
    shaped = shape_comment(row, with_body=with_body)
    if row["parent_id"] is not None:
        shaped["parentCommentId"] = str(row["parent_id"])
    if row["location"] == "inline":
        shaped["resolutionStatus"] = row["resolution"]
        if row["marker_ref"]:
            properties = {"inlineMarkerRef": row["marker_ref"], "inlineOriginalSelection": row["selection"]}
            shaped["properties"] = properties
    return shaped
