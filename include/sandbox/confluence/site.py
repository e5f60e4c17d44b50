"""What all calls of the local Confluence Cloud share: its database, who asks, and what that account may see."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from include.sandbox.confluence import access
from include.sandbox.confluence.database import Database
from include.sandbox.confluence.wire import (
    SELECT_PAGE,
    bad_v2,
    base_of,
    cursor_of,
    limit_of,
    number_of,
    offset_of,
    v1_error,
    v2_error,
    whole,
)
from include.sandbox.http import Reply, Request, json_reply

__all__ = ["Site"]


class Site:
    """The content of a site, as the account that asks may see it.

    :param state: folder of the database; None keeps everything in memory.
    """

    def __init__(self, state: Path | None) -> None:
        self.database = Database(state)
        self.me: str | None = None
        """Account of the request being answered; there is one at a time."""
        self.search_lag_seconds = 0.0

    def listing(
        self,
        request: Request,
        sql: str,
        values: Iterable[Any],
        shape: Callable[[sqlite3.Row], dict[str, Any]],
        *,
        default: int = 25,
        cursor: Callable[[sqlite3.Row], str] | None = None,
    ) -> Reply:
        """Answer one page of a v2 list, with the next one's address in body and ``Link`` header.

        :param cursor: gives the cursor after a row, where ``sql`` begins at the cursor that was sent.
        """
        limit = limit_of(request, default)
        offset = 0 if cursor else offset_of(request)
        rows = self.database.rows(f"{sql} limit ? offset ?", (*values, limit + 1, offset))
        links = {"base": base_of(request)}
        headers = {}
        if len(rows) > limit:
            query = {name: found for name, found in request.query.items() if name != "cursor"}
            query |= {
                "limit": [str(limit)],
                "cursor": [cursor(rows[limit - 1]) if cursor else cursor_of(offset + limit)],
            }
            links["next"] = f"{request.path}?{urlencode(query, doseq=True)}"
            headers["Link"] = f'<{links["next"]}>; rel="next"'
        return json_reply({"results": [shape(row) for row in rows[:limit]], "_links": links}, headers=headers)

    def space_row(self, space_id: Any) -> sqlite3.Row:
        """Return a space by its id.

        :raises HttpError: 404.
        """
        row = self.database.row("select * from spaces where id = ?", (number_of(space_id),))
        if row is None:
            raise v2_error(404, "NOT_FOUND", f"Cannot find a space with id [{space_id}]")
        return row

    def page_row(self, page_id: Any, *, to: str = "read") -> sqlite3.Row:
        """Return a page that the account may see, or also change (``to`` = update).

        :raises HttpError: 404, as for a page that is not there.
        """
        row = self.database.row(f"{SELECT_PAGE} where p.id = ?", (number_of(page_id),))
        if row is None or not access.may(self.database, row["id"], self.me, to):
            raise v2_error(404, "NOT_FOUND", f"Cannot find a page with id [{page_id}]")
        return row

    def parent_row(self, parent_id: Any, space_id: int) -> sqlite3.Row:
        """Return the page or folder below which something is to be.

        :raises HttpError: there is none in the space that the account may see.
        """
        row = self.database.row("select * from tree where id = ?", (number_of(parent_id),))
        if row is None or not access.may(self.database, row["id"], self.me, "read"):
            raise v2_error(404, "NOT_FOUND", f"Cannot find a page with id [{parent_id}]")
        if row["space_id"] != space_id:
            raise bad_v2("The parent page is in another space")
        return row

    def holder_of(self, content_id: str) -> str:
        """Return the id of the page that a file is on; any other id as it is."""
        number = whole(content_id.removeprefix("att"))
        row = self.database.row("select page_id from attachments where id = ?", (number,))
        return content_id if row is None else str(row["page_id"])

    def watched(self, request: Request, account_id: str) -> bool:
        """Begin or end watching content, as the request's method says; return whether the account watches it then."""
        content_id = whole(request.values["id"].removeprefix("att"))
        statement = {
            "POST": "insert or ignore into watchers values (?, ?)",
            "DELETE": "delete from watchers where content_id = ? and account_id = ?",
        }.get(request.method)
        if statement:
            self.database.write(statement, (content_id, account_id))
        found = "select 1 from watchers where content_id = ? and account_id = ?"
        return self.database.row(found, (content_id, account_id)) is not None

    def content_row(self, request: Request, *, to: str = "read", name: str = "id") -> sqlite3.Row:
        """Return the page of a v1 path that the account may see, or also change (``to`` = update).

        :raises HttpError: 404 for a page that is not there or not to be seen, 403 for one not to be changed.
        """
        wanted = request.values[name]
        row = self.database.row(f"{SELECT_PAGE} where p.id = ?", (whole(wanted),))
        if row is None or not access.may(self.database, row["id"], self.me, "read"):
            raise v1_error(404, f"No content found with id : {wanted}")
        if to != "read" and not access.may(self.database, row["id"], self.me, to):
            raise v1_error(403, f"User not permitted to {to} content with id : {wanted}")
        return row
