"""The local Confluence's calls: v2 and v1 of Confluence Cloud, with the refusals of the live service.

Published contracts give paths, parameters and shapes; what they leave out (409, error bodies, cursors, how storage is
rewritten) follows reports of the live service. Where nobody has established a behaviour it is a switch of
:class:`ConfluenceStandIn`.
"""

# ruff: noqa: S608 - the pieces put into statements are constants of this module; values are always bound

from __future__ import annotations

import base64
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from include.sandbox.confluence import access, discussion, markup, people, rights, search, tree, view
from include.sandbox.confluence.database import iso
from include.sandbox.confluence.gateway import Gateway
from include.sandbox.confluence.site import Site
from include.sandbox.confluence.wire import (
    LIST_FORMATS,
    ONE_FORMATS,
    PAGE_SORTS,
    SELECT_PAGE,
    V1,
    V2,
    as_utf8,
    bad_v2,
    base_of,
    check_among,
    cursor_after,
    in_words_of_v1,
    marks,
    number_of,
    object_in,
    row_after,
    sent_property,
    shape_attachment,
    shape_label,
    shape_page,
    shape_property,
    shape_space,
    shape_state,
    shape_task,
    shape_v1_label,
    shape_version,
    stored_body,
    v1_error,
    v2_error,
    wants_storage,
    whole,
)
from include.sandbox.http import App, HttpError, Reply, Request, Unreadable, json_reply

__all__ = ["ConfluenceStandIn", "SandboxUser"]


@dataclass(frozen=True)
class SandboxUser:
    """Somebody who can sign in with e-mail and token."""

    account_id: str
    name: str
    email: str
    token: str


class _ConfluenceApp(App):
    """Routes behind sign-in and rate limit; each request is one transaction."""

    def __init__(self, stand_in: ConfluenceStandIn) -> None:
        super().__init__()
        self._stand_in = stand_in

    def handle(self, request: Request) -> Reply:
        """Answer one request; what it changed is committed before the reply leaves."""
        stand_in = self._stand_in
        if request.path.startswith((V1, V2)):
            # As the service takes it from publishers that write `/pages/`.
            request = replace(request, path=request.path.rstrip("/"))
        with stand_in.database.transaction():
            request = stand_in.through_gateway(request)
            stand_in.sign_in(request)
            headers = stand_in.count_request(request)
            try:
                reply = super().handle(request)
            except Unreadable as error:
                raise stand_in.refuse(request, "The body is not JSON") from error
            except HttpError as error:
                raise (in_words_of_v1(error) if request.path.startswith(V1) else error) from None
        reply.headers.update(headers)
        return reply


class ConfluenceStandIn(Site):
    """A Confluence site on this machine.

    Switches for tests: ``edits_clear_state`` (whether an ordinary edit drops the content state, which nobody has
    established for the service), ``hidden_reads`` (how many reads a new page answers with 404), ``stale_reads`` (how
    many reads after a write still show the version before it), ``search_lag_seconds``, and :meth:`limit_rate`.
    ``gateway`` has the tokens with scopes; ``app.faults`` is what goes wrong on the wire.

    :param state: folder of the database; None keeps everything in memory.
    :param users: who can sign in; kept in the database.
    """

    context = "/wiki"

    def __init__(self, state: Path | None = None, users: Iterable[SandboxUser] = ()) -> None:
        super().__init__(state)
        self.edits_clear_state = False
        self.hidden_reads = 0
        self.stale_reads = 0
        self._stale: dict[int, int] = {}
        self.gateway = Gateway()
        self._hidden: dict[int, int] = {}
        self._media: dict[str, int] = {}
        self._limit: tuple[int, float] | None = None
        self._window: list[float] = []
        for user in users:
            self.add_user(user)
        self.app = _ConfluenceApp(self)
        self._routes()

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    # --- users and limits ------------------------------------------------------------------------------------------

    def add_user(self, user: SandboxUser) -> None:
        """Let somebody sign in, or change their name or token."""
        with self.database.transaction():
            values = (user.account_id, user.name, user.email, user.token)
            self.database.write("insert or replace into users values (?, ?, ?, ?)", values)

    def add_group(self, name: str, account_ids: Iterable[str] = ()) -> None:
        """Make a group, or put more people in one."""
        with self.database.transaction():
            self.database.write("insert or ignore into groups values (?)", (name,))
            for account_id in account_ids:
                self.database.write("insert or ignore into members values (?, ?)", (name, account_id))

    def has_users(self) -> bool:
        """Tell whether anybody can sign in."""
        return self.database.row("select 1 from users") is not None

    def refuse(self, request: Request, message: str) -> HttpError:
        """Return a 400 in the words of the API that was asked."""
        return v1_error(400, message) if request.path.startswith(V1) else bad_v2(message)

    def limit_rate(self, requests: int | None, seconds: float = 1.0) -> None:
        """Answer 429 after so many API requests in a window; None ends the limit."""
        self._limit = None if requests is None else (requests, seconds)
        self._window.clear()

    def through_gateway(self, request: Request) -> Request:
        """Return a request to the gateway as the site gets it; any other as it is."""
        return self.gateway.pass_on(request)

    def sign_in(self, request: Request) -> None:
        """Refuse an API request without a known credential, as each API does: v2 with a bare 404, v1 with 403."""
        if not request.path.startswith((V1, V2)):
            return
        account = self._account(request)
        self.me = None if account is None else str(account["account_id"])
        if account is None:
            if request.path.startswith(V2):
                raise v2_error(404, "NOT_FOUND", "Not Found")
            raise v1_error(403, "Current user not permitted to use Confluence")

    def count_request(self, request: Request) -> dict[str, str]:
        """Return the rate limit's headers.

        :raises HttpError: 429 when the window is full.
        """
        if self._limit is None or not request.path.startswith((V1, V2)):
            return {}
        allowed, seconds = self._limit
        now = time.monotonic()
        self._window = [moment for moment in self._window if moment > now - seconds]
        remaining = allowed - len(self._window) - 1
        headers = {
            "X-RateLimit-Limit": str(allowed),
            "X-RateLimit-Remaining": str(max(0, remaining)),
            "X-RateLimit-NearLimit": "true" if remaining < allowed / 5 else "false",
        }
        if remaining < 0:
            wait = max(1, round(self._window[0] + seconds - now))
            headers |= {"Retry-After": str(wait), "RateLimit-Reason": "confluence-burst-based"}
            raise HttpError(429, {"message": "Rate limit exceeded"}, headers)
        self._window.append(now)
        return headers

    def _account(self, request: Request) -> sqlite3.Row | None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if self.gateway.account(request):
            return self.database.row("select * from users where account_id = ?", (self.gateway.account(request),))
        if scheme == "Bearer":
            return self.database.row("select * from users where token = ?", (value,))
        try:
            email, _, token = base64.b64decode(value).decode("utf-8").partition(":")
        except ValueError:
            return None
        return self.database.row("select * from users where email = ? and token = ?", (email, token))

    def _who(self, request: Request) -> str:
        if self.me is not None:
            return self.me
        account = self._account(request)
        assert account is not None
        return str(account["account_id"])

    # --- what tests look at ----------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return what is there, for counting effects: versions by id, and the rows that hang on pages."""
        with self.database.transaction():
            return self._snapshot()

    def _snapshot(self) -> dict[str, dict[str, Any]]:
        rows = self.database.rows
        return {
            "pages": {str(row["id"]): row["version"] for row in rows("select id, version from pages")},
            "attachments": {str(row["id"]): row["version"] for row in rows("select id, version from attachments")},
            "properties": {str(row["id"]): row["version"] for row in rows("select id, version from properties")},
            "comments": {str(row["id"]): row["version"] for row in rows("select id, version from comments")},
            "labels": {f"{row['page_id']}:{row['name']}": 1 for row in rows("select page_id, name from labels")},
            "tasks": {str(row["id"]): row["status"] for row in rows("select id, status from tasks")},
        }

    # --- routes ----------------------------------------------------------------------------------------------------

    def _routes(self) -> None:
        page, content = f"{V2}/pages/{{id}}", f"{V1}/content/{{id}}"
        file = f"{content}/child/attachment/{{attachment}}"
        routes: list[tuple[str, str, Callable[[Request], Reply]]] = [
            ("GET", f"{V2}/spaces", self._list_spaces),
            ("POST", f"{V2}/spaces", self._create_space),
            ("GET", f"{V2}/spaces/{{id}}", self._get_space),
            ("GET", f"{V2}/spaces/{{id}}/pages", self._list_space_pages),
            ("GET", f"{V2}/pages", self._list_pages),
            ("POST", f"{V2}/pages", self._create_page),
            ("GET", page, self._get_page),
            ("PUT", page, self._update_page),
            ("DELETE", page, self._delete_page),
            ("GET", f"{page}/versions", self._list_versions),
            ("GET", f"{page}/labels", self._list_labels),
            ("GET", f"{page}/attachments", self._list_attachments),
            *(
                (method, f"{holder}/properties{rest}", handler)
                for holder in (page, f"{V2}/attachments/{{id}}")
                for method, rest, handler in (
                    ("GET", "", self._list_properties),
                    ("POST", "", self._create_property),
                    ("GET", "/{property}", self._get_property),
                    ("PUT", "/{property}", self._update_property),
                    ("DELETE", "/{property}", self._delete_property),
                )
            ),
            ("GET", f"{V2}/tasks", self._list_tasks),
            ("GET", f"{V2}/tasks/{{id}}", self._get_task),
            ("PUT", f"{V2}/tasks/{{id}}", self._update_task),
            ("POST", f"{content}/label", self._add_labels),
            ("DELETE", f"{content}/label", self._delete_label),
            ("GET", f"{content}/state", self._get_state),
            ("PUT", f"{content}/state", self._set_state),
            ("POST", f"{content}/child/attachment", self._create_attachment),
            ("PUT", file, self._rename_attachment),
            ("POST", f"{file}/data", self._update_attachment),
            ("GET", f"{file}/download", self._download),
            ("GET", "/_edge/tenant_info", self.gateway.tenant_info),
            ("GET", "/_media/{token}", self._media_file),
            ("GET", "/_sandbox/snapshot", lambda request: json_reply(self._snapshot())),
            ("GET", "/_view/attachments/{id}", self._view_attachment),
        ]
        for area in (tree.Tree, people.People, rights.Rights, discussion.Discussion, search.Search):
            routes += area(self).routes()
        for method, template, handler in routes:
            self.app.route(method, template)(handler)
        view.add_routes(self.app, self.database)

    # --- spaces ----------------------------------------------------------------------------------------------------

    def _list_spaces(self, request: Request) -> Reply:
        where, values = ["1"], []
        check_among("status", request.query.get("status", ()), ("current", "archived"))
        if request.one("status") == "archived":
            where.append("0")  # no space here is ever archived
        for name, column in (("keys", "key"), ("ids", "id")):
            wanted = request.many(name)
            if name in request.query:
                where.append(f"{column} in ({marks(wanted)})")
                values += wanted
        return self.listing(
            request, f"select * from spaces where {' and '.join(where)} order by id", values, shape_space
        )

    def _get_space(self, request: Request) -> Reply:
        return json_reply(shape_space(self.space_row(request.values["id"])))

    def _create_space(self, request: Request) -> Reply:
        sent = object_in(request)
        key, name = str(sent.get("key") or ""), str(sent.get("name") or "")
        if not re.fullmatch(r"[A-Za-z0-9]{1,255}", key) or not name:
            raise bad_v2("A space needs a name, and a key of letters and digits")
        if self.database.row("select 1 from spaces where lower(key) = lower(?)", (key,)):
            raise v2_error(400, "BAD_REQUEST", "A space already exists with the same key")
        account, space_id = self._who(request), self.database.next_id()
        values = (space_id, key, name, None, account, self.database.now())
        self.database.write("insert into spaces values (?, ?, ?, ?, ?, ?)", values)
        homepage = self._insert_page(space_id, name, "<p />", None, account)
        self.database.write("update spaces set homepage_id = ? where id = ?", (homepage, space_id))
        return json_reply(shape_space(self.space_row(space_id)), 201)

    # --- pages -----------------------------------------------------------------------------------------------------

    def _list_space_pages(self, request: Request) -> Reply:
        space = self.space_row(request.values["id"])
        where, values = ["p.space_id = ?"], [space["id"]]
        if request.one("depth", "all") == "root":
            where.append("p.parent_id is null")
        return self._page_listing(request, where, values)

    def _list_pages(self, request: Request) -> Reply:
        where, values = ["1"], []
        for name, column in (("id", "p.id"), ("space-id", "p.space_id")):
            if name in request.query:
                wanted = [number_of(item) for item in request.many(name)]
                where.append(f"{column} in ({marks(wanted)})")
                values += wanted
        return self._page_listing(request, where, values)

    def _page_listing(self, request: Request, where: list[str], values: list[Any]) -> Reply:
        statuses = request.many("status") or ["current", "archived"]
        check_among("status", statuses, ("current", "archived", "deleted", "trashed"))
        where = [*where, f"p.status in ({marks(statuses)})", f"p.id not in {access.HIDDEN}"]
        values = [*values, *statuses, self.me, self.me]
        if "title" in request.query:
            where.append("lower(p.title) = lower(?)")
            values.append(request.one("title").strip())
        sort = request.one("sort", "id")
        check_among("sort", [sort.removeprefix("-")], tuple(PAGE_SORTS))
        column, down = PAGE_SORTS[sort.removeprefix("-")], sort.startswith("-")
        if request.one("cursor"):
            # The service's cursors name the row they come after, so that rows taken away meanwhile hide none.
            after, number = row_after(request)
            where.append(f"({column} {'<' if down else '>'} ? or ({column} = ? and p.id > ?))")
            values += [after, after, number]
        with_body = wants_storage(request, LIST_FORMATS)
        sql = f"{SELECT_PAGE} where {' and '.join(where)} order by {column}{' desc' if down else ''}, p.id"
        name = column.removeprefix("p.")
        return self.listing(
            request,
            sql,
            values,
            lambda row: shape_page(row, with_body=with_body),
            cursor=lambda row: cursor_after(row[name], row["id"]),
        )

    def _get_page(self, request: Request) -> Reply:
        row = self.page_row(request.values["id"])
        if self._hidden.get(row["id"], 0) > 0:
            self._hidden[row["id"]] -= 1
            raise v2_error(404, "NOT_FOUND", f"Cannot find a page with id [{row['id']}]")
        # The contract has a place for this one view alone.
        as_view = request.one("body-format") == "view"
        with_body = as_view or wants_storage(request, ONE_FORMATS)
        shaped = shape_page(row, with_body=with_body, base=base_of(request))
        if self._stale.get(row["id"], 0) > 0 and row["version"] > 1 and "version" not in request.query:
            self._stale[row["id"]] -= 1
            self._show_version(shaped, row["id"], row["version"] - 1)
            shaped["status"] = "current"
        if "version" in request.query and number_of(request.one("version")) != row["version"]:
            self._show_version(shaped, row["id"], number_of(request.one("version")))
        if as_view:
            body = shaped["body"]["storage"]["value"]
            shaped["body"] = view.bodies(self.database, self.context, row, body, "view".__eq__)
        return json_reply(shaped)

    def _show_version(self, shaped: dict[str, Any], page_id: int, number: int) -> None:
        query = "select * from versions where page_id = ? and number = ?"
        old = self.database.row(query, (page_id, number))
        if old is None:
            raise v2_error(404, "NOT_FOUND", f"Cannot find version [{number}] of page with id [{page_id}]")
        shaped |= {"title": old["title"], "status": "historical", "version": shape_version(old)}
        if shaped["body"]:
            shaped["body"] = {"storage": {"representation": "storage", "value": old["body"]}}

    def _create_page(self, request: Request) -> Reply:
        sent = object_in(request)
        space = self.space_row(sent.get("spaceId", ""))
        status = sent.get("status", "current")
        check_among("status", [status], ("current",))
        title = self.free_title(sent, space["id"], None)
        body = stored_body(sent)
        parent = sent.get("parentId")
        if parent is not None and request.one("root-level") == "true":
            raise bad_v2("A page at the root of its space has no parentId")
        if parent is None and request.one("root-level") != "true":
            parent = space["homepage_id"]
        parent = None if parent is None else self.parent_row(parent, space["id"])["id"]
        page_id = self._insert_page(space["id"], title, body, parent, self._who(request))
        if request.one("private") == "true":
            for operation in ("read", "update"):
                values = (page_id, operation, "user", self.me)
                self.database.write("insert into restrictions values (?, ?, ?, ?)", values)
        if self.hidden_reads:
            self._hidden[page_id] = self.hidden_reads
        return json_reply(shape_page(self.page_row(page_id), with_body=True, base=base_of(request)))

    def _insert_page(self, space_id: int, title: str, body: str, parent: int | None, account: str) -> int:
        page_id, now = self.database.next_id(), self.database.now()
        values = (page_id, space_id, title, "current", parent, account, now, 0, now, None, None)
        self.database.write("insert into pages values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._publish(page_id, title, body, account, "", now)
        return page_id

    def _publish(self, page_id: int, title: str, body: str, account: str, message: str, now: int) -> int:
        """Write the next version of a page and bring its inline tasks up to it."""
        number = self._count("select version as n from pages where id = ?", (page_id,)) + 1
        values = (page_id, number, title, body, account, now, message)
        self.database.write("insert into versions values (?, ?, ?, ?, ?, ?, ?)", values)
        self.database.write(
            "update pages set title = ?, version = ?, modified = ? where id = ?", (title, number, now, page_id)
        )
        self._follow_tasks(page_id, body, account, now)
        return number

    def _count(self, sql: str, values: Iterable[Any]) -> int:
        row = self.database.row(sql, values)
        return 0 if row is None else int(row["n"])

    def free_title(self, sent: Mapping[str, Any], space_id: int, page_id: int | None) -> str:
        """Return the title that was sent.

        :raises HttpError: it is no title, or another page of the space has it, archived ones too.
        """
        title = sent.get("title")
        if not isinstance(title, str) or not title.strip() or len(title) > 255:
            raise bad_v2("A page needs a title of at most 255 characters")
        title = title.strip()
        taken = self.database.row(
            "select id from pages where space_id = ? and lower(title) = lower(?) and id is not ?"
            " and status in ('current', 'archived')",
            (space_id, title, page_id),
        )
        if taken:
            raise v2_error(
                400,
                "BAD_REQUEST",
                "A page with this title already exists: A page already exists with the same TITLE in this space",
            )
        return title

    def _update_page(self, request: Request) -> Reply:
        sent = object_in(request)
        missing = [name for name in ("id", "status", "title", "body", "version") if not sent.get(name)]
        if missing:
            raise bad_v2(f"Required field is missing: {', '.join(missing)}")
        row = self.page_row(request.values["id"], to="update")
        if str(sent["id"]) != str(row["id"]):
            raise bad_v2("The id in the body is not the id in the path")
        check_among("status", [sent["status"]], ("current",))
        if sent.get("spaceId") not in (None, str(row["space_id"])):
            raise bad_v2("Moving a page to another space is not supported")
        number = sent["version"].get("number") if isinstance(sent["version"], dict) else None
        if number != row["version"] + 1:
            raise v2_error(
                409,
                "CONFLICT",
                "Version must be incremented when updating a page. "
                f"Current Version: [{row['version']}]. Provided version: [{number}]",
            )
        title = self.free_title(sent, row["space_id"], row["id"])
        # Restoring from the trash keeps the body, whatever was sent.
        body = row["body"] if row["status"] == "trashed" else stored_body(sent)
        now = self.database.now()
        self.database.write("update pages set status = 'current' where id = ?", (row["id"],))
        if sent.get("parentId"):
            parent = self.parent_row(sent["parentId"], row["space_id"])
            self.database.write("update pages set parent_id = ? where id = ?", (parent["id"], row["id"]))
        message = str(sent["version"].get("message") or "")
        self._publish(row["id"], title, body, self._who(request), message, now)
        self._stale[row["id"]] = self.stale_reads
        if self.edits_clear_state:
            self.database.write("update pages set state_id = null, state_changed = null where id = ?", (row["id"],))
        return json_reply(shape_page(self.page_row(row["id"]), with_body=True, base=base_of(request)))

    def _delete_page(self, request: Request) -> Reply:
        row = self.page_row(request.values["id"], to="update")
        purge = request.one("purge") == "true"
        if purge != (row["status"] == "trashed"):
            raise v2_error(400, "BAD_REQUEST", "Only a trashed page can be purged, and only a current one trashed")
        if not purge:
            statement = "update pages set status = 'trashed', parent_id = null where id = ?"
            self.database.write(statement, (row["id"],))
            return Reply(204)
        self.database.purge(row["id"])
        return Reply(204)

    def _list_versions(self, request: Request) -> Reply:
        row = self.page_row(request.values["id"])
        sort = request.one("sort", "-modified-date")
        check_among("sort", [sort.removeprefix("-")], ("modified-date",))
        order = "desc" if sort.startswith("-") else "asc"
        sql = f"select * from versions where page_id = ? order by number {order}"
        return self.listing(request, sql, (row["id"],), shape_version)

    # --- labels -------------------------------------------------------------------------------------------------

    def _list_labels(self, request: Request) -> Reply:
        row = self.page_row(request.values["id"])
        if request.one("prefix", "global") != "global":
            return json_reply({"results": [], "_links": {"base": base_of(request)}})
        return self.listing(request, "select * from labels where page_id = ? order by name", (row["id"],), shape_label)

    def _add_labels(self, request: Request) -> Reply:
        row = self.content_row(request, to="update")
        sent = request.json()
        for entry in sent if isinstance(sent, list) else [sent]:
            name = str(entry.get("name", "") if isinstance(entry, dict) else "").lower()
            if not name or re.search(r"\s", name) or len(name) > 255:
                raise v1_error(400, f"The label name is not valid: {name!r}")
            number = self._count("select label_id as n from labels where name = ?", (name,)) or self.database.next_id()
            values = (row["id"], name, number, self.database.now())
            self.database.write("insert or ignore into labels values (?, ?, ?, ?)", values)
        rows = self.database.rows("select * from labels where page_id = ? order by name", (row["id"],))
        return json_reply(
            {"results": [shape_v1_label(item) for item in rows], "start": 0, "limit": 200, "size": len(rows)}
        )

    def _delete_label(self, request: Request) -> Reply:
        row = self.content_row(request, to="update")
        values = (row["id"], request.one("name"))
        if not self.database.row("select 1 from labels where page_id = ? and name = ?", values):
            raise v1_error(404, "No such label on this content")
        self.database.write("delete from labels where page_id = ? and name = ?", values)
        return Reply(204)

    # --- content states --------------------------------------------------------------------------------------------

    def _state_reply(self, page_id: int) -> Reply:
        row = self.database.row(
            "select s.*, p.state_changed from pages p left join states s on s.id = p.state_id where p.id = ?",
            (page_id,),
        )
        assert row is not None
        changed = {} if row["state_changed"] is None else {"lastUpdated": iso(row["state_changed"])}
        return json_reply({"contentState": None if row["id"] is None else shape_state(row), **changed})

    def _get_state(self, request: Request) -> Reply:
        check_among("status", request.query.get("status", ()), ("current", "draft", "archived"))
        if request.one("status", "current") != "current":
            return json_reply({"contentState": None})  # there are no drafts here, and no states of archived pages
        return self._state_reply(self.content_row(request)["id"])

    def _set_state(self, request: Request) -> Reply:
        row = self.content_row(request, to="update")
        if request.one("status") != "current":
            raise v1_error(400, "status must be current")
        sent = request.json()
        state = self._wanted_state(sent if isinstance(sent, dict) else {})
        return self._change_state(row, state, self._who(request))

    def _wanted_state(self, sent: Mapping[str, Any]) -> int:
        if sent.get("id") is not None:
            known = self.database.row("select id from states where id = ?", (whole(sent["id"]),))
            if known is None:
                raise v1_error(400, f"No content state with id {sent['id']}")
            return int(known["id"])
        name, color = str(sent.get("name") or ""), str(sent.get("color") or "")
        if not 1 <= len(name) <= 20 or not re.fullmatch("#[0-9a-fA-F]{6}", color):
            raise v1_error(400, "A content state needs an id, or a name of at most 20 characters and a color")
        known = self.database.row("select id from states where name = ? and lower(color) = lower(?)", (name, color))
        if known:
            return int(known["id"])
        number = self.database.next_id()
        self.database.write("insert into states values (?, ?, ?)", (number, name, color))
        return number

    def _change_state(self, row: sqlite3.Row, state: int | None, account: str) -> Reply:
        """A change of state publishes a new version with the same body."""
        now = self.database.now()
        self._publish(row["id"], row["title"], row["body"], account, "", now)
        statement = "update pages set state_id = ?, state_changed = ? where id = ?"
        self.database.write(statement, (state, now, row["id"]))
        return self._state_reply(row["id"])

    # --- attachments -----------------------------------------------------------------------------------------------

    def _list_attachments(self, request: Request) -> Reply:
        row = self.page_row(request.values["id"])
        where, values = "page_id = ?", [row["id"]]
        statuses = request.many("status") or ["current"]
        check_among("status", statuses, ("current", "archived", "trashed"))
        if "current" not in statuses:
            where += " and 0"  # a file here is current, or gone
        if "filename" in request.query:
            where += " and title = ?"
            values.append(request.one("filename"))
        columns = "id, page_id, title, media_type, comment, version, author_id, created, length(content) as size"
        return self.listing(
            request,
            f"select {columns} from attachments where {where} order by id",
            values,
            shape_attachment,
            default=50,
        )

    def _file(self, request: Request) -> tuple[str, str, str, bytes]:
        if request.headers.get("x-atlassian-token") not in ("no-check", "nocheck"):
            raise HttpError(403, {"message": "XSRF check failed"})
        parts = {part.name: part for part in request.parts()}
        if "file" not in parts:
            raise v1_error(400, "At least one file part is needed")
        # Without the folders that an old browser puts before it, and without blanks around it.
        name = as_utf8(parts["file"].filename or "").rpartition("\\")[2].strip()
        if not name or "/" in name:
            raise v1_error(400, f"The file name is not valid: {name!r}")
        comment = ""
        if "comment" in parts:
            # Without a charset the service reads a text part as Latin-1.
            known = "utf-8" in parts["comment"].content_type.lower()
            comment = parts["comment"].content.decode("utf-8" if known else "latin-1")
        return name, parts["file"].content_type.partition(";")[0], comment, parts["file"].content

    def _create_attachment(self, request: Request) -> Reply:
        row = self.content_row(request, to="update")
        name, media_type, comment, content = self._file(request)
        if self.database.row("select 1 from attachments where page_id = ? and title = ?", (row["id"], name)):
            raise v1_error(400, f"Cannot add a new attachment with same file name as an existing attachment: {name}")
        number = self.database.next_id()
        values = (number, row["id"], name, media_type, comment, 1, self._who(request), self.database.now(), content)
        self.database.write("insert into attachments values (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        return json_reply({"results": [self._v1_attachment(number)], "size": 1, "_links": {"base": base_of(request)}})

    def _update_attachment(self, request: Request) -> Reply:
        number = self._attachment_number(request)
        _, media_type, comment, content = self._file(request)
        self.database.write(
            "update attachments set media_type = ?, comment = ?, version = version + 1, author_id = ?, created = ?,"
            " content = ? where id = ?",
            (media_type, comment, self._who(request), self.database.now(), content, number),
        )
        return json_reply(self._v1_attachment(number))

    def _rename_attachment(self, request: Request) -> Reply:
        """Change an attachment's properties. Its number may stay or go one up: publishers send it either way."""
        number = self._attachment_number(request)
        row = self.database.row("select * from attachments where id = ?", (number,))
        sent = request.json()
        version = sent.get("version") if isinstance(sent, dict) else None
        wanted = version.get("number") if isinstance(version, dict) else None
        if row is None or not isinstance(wanted, int) or sent.get("type") != "attachment":
            raise v1_error(400, "An attachment needs its id, the type `attachment` and a version number")
        if str(sent.get("id")).removeprefix("att") != str(number):
            raise v1_error(400, "The id in the body is not the id in the path")
        if wanted not in (row["version"], row["version"] + 1):
            raise v1_error(409, f"Version mismatch: the attachment is at version {row['version']}, not {wanted}")
        title = sent.get("title") or row["title"]
        metadata = sent.get("metadata") if isinstance(sent.get("metadata"), dict) else {}
        media_type = metadata.get("mediaType") or row["media_type"]
        if not isinstance(title, str) or "/" in title or not isinstance(media_type, str):
            raise v1_error(400, f"The file name is not valid: {title!r}")
        taken = "select 1 from attachments where page_id = ? and title = ? and id <> ?"
        if self.database.row(taken, (row["page_id"], title, number)):
            raise v1_error(400, f"The content already has an attachment named {title}")
        values = (title, media_type, wanted, number)
        self.database.write("update attachments set title = ?, media_type = ?, version = ? where id = ?", values)
        return json_reply(self._v1_attachment(number))

    def _attachment_number(self, request: Request) -> int:
        page = self.content_row(request)
        number = whole(request.values["attachment"].removeprefix("att"))
        known = self.database.row("select 1 from attachments where id = ? and page_id = ?", (number, page["id"]))
        if number is None or known is None:
            raise v1_error(404, f"No attachment found with id : {request.values['attachment']}")
        return number

    def _v1_attachment(self, number: int) -> dict[str, Any]:
        row = self.database.row("select *, length(content) as size from attachments where id = ?", (number,))
        assert row is not None
        extensions = {"mediaType": row["media_type"], "fileSize": row["size"], "comment": row["comment"]}
        return {
            "id": f"att{number}",
            "type": "attachment",
            "status": "current",
            "title": row["title"],
            "version": {"number": row["version"], "when": iso(row["created"]), "minorEdit": False},
            "metadata": {"comment": row["comment"], "mediaType": row["media_type"]},
            "extensions": extensions,
        }

    def _download(self, request: Request) -> Reply:
        """Send the client to a media address that has a token of its own and wants no credential."""
        token = secrets.token_urlsafe(16)
        self._media[token] = self._attachment_number(request)
        return Reply(302, b"", {"Location": f"/_media/{token}"})

    def _media_file(self, request: Request) -> Reply:
        number = self._media.pop(request.values["token"], None)
        if number is None:
            return Reply(403, b"the media token was used or never given", {"Content-Type": "text/plain"})
        return self._file_reply(number)

    def _view_attachment(self, request: Request) -> Reply:
        return self._file_reply(number_of(request.values["id"]))

    def _file_reply(self, number: int) -> Reply:
        row = self.database.row("select * from attachments where id = ?", (number,))
        if row is None:
            return Reply(404, b"no such file", {"Content-Type": "text/plain"})
        headers = {"Content-Type": row["media_type"], "X-Content-Type-Options": "nosniff"}
        headers["Content-Security-Policy"] = "sandbox; default-src 'none'; style-src 'unsafe-inline'"
        return Reply(200, row["content"], headers)

    def _v2_attachment_row(self, request: Request, *, to: str = "read") -> sqlite3.Row:
        number = request.values["id"].removeprefix("att")
        columns = "id, page_id, title, media_type, comment, version, author_id, created, length(content) as size"
        found = self.database.row(f"select {columns} from attachments where id = ?", (number_of(number),))
        if found is None or not access.may(self.database, found["page_id"], self.me, to):
            raise v2_error(404, "NOT_FOUND", f"Cannot find an attachment with id [{request.values['id']}]")
        return found

    # --- properties ------------------------------------------------------------------------------------------------

    def _holder(self, request: Request, *, to: str = "read") -> sqlite3.Row:
        """Return the page or file whose properties are asked for; their ids come from one sequence."""
        if request.path.startswith(f"{V2}/attachments/"):
            return self._v2_attachment_row(request, to=to)
        return self.page_row(request.values["id"], to=to)

    def _list_properties(self, request: Request) -> Reply:
        row = self._holder(request)
        where, values = "page_id = ?", [row["id"]]
        if "key" in request.query:
            where += " and key = ?"
            values.append(request.one("key"))
        return self.listing(request, f"select * from properties where {where} order by id", values, shape_property)

    def _create_property(self, request: Request) -> Reply:
        row = self._holder(request, to="update")
        key, value = sent_property(object_in(request))
        if self.database.row("select 1 from properties where page_id = ? and key = ?", (row["id"], key)):
            raise v2_error(409, "CONFLICT", f"A property with key [{key}] already exists")
        number = self.database.next_id()
        values = (number, row["id"], key, value, 1, self._who(request), self.database.now())
        self.database.write("insert into properties values (?, ?, ?, ?, ?, ?, ?)", values)
        return json_reply(shape_property(self._property_row(row["id"], number)))

    def _property_row(self, page_id: int, number: Any) -> sqlite3.Row:
        row = self.database.row("select * from properties where page_id = ? and id = ?", (page_id, number_of(number)))
        if row is None:
            raise v2_error(404, "NOT_FOUND", f"Cannot find a property with id [{number}]")
        return row

    def _get_property(self, request: Request) -> Reply:
        return json_reply(shape_property(self._property_row(self._holder(request)["id"], request.values["property"])))

    def _delete_property(self, request: Request) -> Reply:
        row = self._property_row(self._holder(request, to="update")["id"], request.values["property"])
        self.database.write("delete from properties where id = ?", (row["id"],))
        return Reply(204)

    def _update_property(self, request: Request) -> Reply:
        page = self._holder(request, to="update")
        row = self._property_row(page["id"], request.values["property"])
        sent = object_in(request)
        key, value = sent_property(sent)
        version = sent.get("version")
        number = version.get("number") if isinstance(version, dict) else None
        if key != row["key"]:
            raise bad_v2("The key of a property cannot change")
        if number != row["version"] + 1:
            raise v2_error(409, "CONFLICT", f"Version must be incremented. Current Version: [{row['version']}]")
        values = (value, number, self._who(request), self.database.now(), row["id"])
        statement = "update properties set value = ?, version = ?, author_id = ?, created = ? where id = ?"
        self.database.write(statement, values)
        return json_reply(shape_property(self._property_row(page["id"], row["id"])))

    # --- tasks -----------------------------------------------------------------------------------------------------

    def _follow_tasks(self, page_id: int, body: str, account: str, now: int) -> None:
        known = {
            row["local_id"]: row for row in self.database.rows("select * from tasks where page_id = ?", (page_id,))
        }
        if not known and "<ac:task>" not in body:
            return
        for task in markup.tasks(body):
            status = "complete" if task.complete else "incomplete"
            old = known.pop(task.local_id, None)
            if old is None:
                values = (page_id, task.local_id, status, task.body, account, task.assigned_to, now, now, task.due)
                self.database.write(
                    "insert or ignore into tasks (id, page_id, local_id, status, body, created_by, assigned_to,"
                    " created, updated, due) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (self.database.next_id(), *values),
                )
            else:
                self.database.write(
                    "update tasks set body = ?, assigned_to = ?, due = ?, updated = ? where id = ?",
                    (task.body, task.assigned_to, task.due, now, old["id"]),
                )
            if status != (old["status"] if old else "incomplete"):
                self._finish_task(page_id, task.local_id, status, account, now)
        for row in known.values():
            self.database.write("delete from tasks where id = ?", (row["id"],))

    def _finish_task(self, page_id: int, local_id: str, status: str, account: str, now: int) -> None:
        done = status == "complete"
        values = (status, account if done else None, now if done else None, now, page_id, local_id)
        self.database.write(
            "update tasks set status = ?, completed_by = ?, completed = ?, updated = ?"
            " where page_id = ? and local_id = ?",
            values,
        )

    def _list_tasks(self, request: Request) -> Reply:
        where, values = [f"t.page_id not in {access.HIDDEN}"], [self.me, self.me]
        columns = {
            "page-id": "t.page_id",
            "task-id": "t.id",
            "space-id": "p.space_id",
            "status": "t.status",
            "assigned-to": "t.assigned_to",
            "completed-by": "t.completed_by",
            "created-by": "t.created_by",
        }
        for name, column in columns.items():
            if name in request.query:
                wanted = request.many(name)
                where.append(f"{column} in ({marks(wanted)})")
                values += wanted
        for name, test in (("completed-at-from", "t.completed >= ?"), ("completed-at-to", "t.completed <= ?")):
            if name in request.query:
                where.append(test)
                values.append(request.one(name))
        sql = (
            "select t.*, p.space_id from tasks t join pages p on p.id = t.page_id and p.status = 'current'"
            f" where {' and '.join(where)} order by t.id"
        )
        with_body = wants_storage(request, LIST_FORMATS)
        return self.listing(request, sql, values, lambda row: shape_task(row, with_body=with_body))

    def _update_task(self, request: Request) -> Reply:
        """Tick or untick: the stored body follows; the page's number stays, since no source shows that it moves."""
        row = self._task_row(request, to="update")
        status = str(object_in(request).get("status"))
        check_among("status", [status], ("complete", "incomplete"))
        if status != row["status"]:
            now = self.database.now()
            self._finish_task(row["page_id"], row["local_id"], status, self._who(request), now)
            page = self.page_row(row["page_id"])
            values = (markup.tick(page["body"], row["local_id"], status), page["id"], page["version"])
            self.database.write("update versions set body = ? where page_id = ? and number = ?", values)
        wants_storage(request, LIST_FORMATS)
        return json_reply(shape_task(self._task_row(request), with_body=True))

    def _get_task(self, request: Request) -> Reply:
        return json_reply(shape_task(self._task_row(request), with_body=wants_storage(request, LIST_FORMATS)))

    def _task_row(self, request: Request, *, to: str = "read") -> sqlite3.Row:
        sql = "select t.*, p.space_id from tasks t join pages p on p.id = t.page_id where t.id = ?"
        row = self.database.row(sql, (number_of(request.values["id"]),))
        if row is None or not access.may(self.database, row["page_id"], self.me, to):
            raise v2_error(404, "NOT_FOUND", f"Cannot find a task with id [{request.values['id']}]")
        return row
