"""A local Confluence Data Center: REST v1 below a context path, over the same pages as the local Cloud.

Paths, parameters and shapes follow the published contract of Data Center 10.0.3; what it leaves out (409, error texts,
caps of the search, paging past the end, rate limit headers) follows Atlassian's articles and reports of live sites.
Where nobody has established a behaviour it is a switch of :class:`DataCenterStandIn`.
"""

# ruff: noqa: S608 - the pieces put into statements are constants of this module; values are always bound

from __future__ import annotations

import base64
import json
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from html import escape
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from include.sandbox.confluence import access, cql, markup, view
from include.sandbox.confluence.service import ConfluenceStandIn, SandboxUser
from include.sandbox.confluence.wire import whole
from include.sandbox.http import HttpError, Reply, Request, json_reply

__all__ = ["DataCenterStandIn"]

MAX_PAGE_BYTES = 5 * 1024 * 1024
PROPERTY_BYTES = 32 * 1024
ONE_EXPAND = "history,space,version"
WRITTEN_EXPAND = "body.storage,history,space,container,version,ancestors"
ADMINISTRATORS = "confluence-administrators"
EXCEPTIONS = "com.atlassian.confluence.api.service.exceptions."
REASONS = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 413: "Request Entity Too Large"}
SELECT = (
    "select p.*, v.body, v.author_id as version_author, v.created as version_created, v.message, s.key as space_key,"
    " s.homepage_id from pages p join versions v on v.page_id = p.id and v.number = p.version"
    " join spaces s on s.id = p.space_id"
)

Item = TypeVar("Item")


def _error(status: int, message: str, *, authorized: bool = True) -> HttpError:
    data = {
        "authorized": authorized,
        "valid": status != 400,
        "allowedInReadOnlyMode": True,
        "errors": [],
        "successful": False,
    }
    body = {"statusCode": status, "data": data, "message": message, "reason": REASONS.get(status, "Error")}
    return HttpError(status, body)


def _bad(message: str) -> HttpError:
    return _error(400, f"{EXCEPTIONS}BadRequestException: {message}")


def _conflict(message: str) -> HttpError:
    return _error(409, f"{EXCEPTIONS}ConflictException: {message}")


class _Expand:
    """The ``expand`` parameter: dotted paths."""

    def __init__(self, text: str) -> None:
        self._paths = {part.strip() for part in text.split(",") if part.strip()}

    def __bool__(self) -> bool:
        return bool(self._paths)

    def has(self, path: str) -> bool:
        return any(found == path or found.startswith(path + ".") for found in self._paths)

    def below(self, name: str) -> _Expand:
        return _Expand(",".join(path.removeprefix(name + ".") for path in self._paths if path.startswith(name + ".")))

    def names(self) -> list[str]:
        return sorted({path.partition(".")[0] for path in self._paths})


class DataCenterStandIn(ConfluenceStandIn):
    """A Confluence Data Center site on this machine.

    Sign in with the part of the e-mail before ``@`` and the token as password, or with the token as a personal access
    token. A user's key is the ``account_id``. Whoever is in ``confluence-administrators`` may list a group's members.

    Switches for tests, beside those of the parent that apply (``hidden_reads``, ``search_lag_seconds``, ``app.faults``,
    :meth:`limit_rate`):

    * ``zone``: in which times are written and CQL is read;
    * ``bad_token``: an unknown bearer token is ``refused`` with 401, or makes one ``anonymous``;
    * ``anonymous_reads``: visitors see what is not restricted;
    * ``names_user``: replies name the user in ``X-AUSERNAME``;
    * ``past_the_end``: pages past the last one repeat it and name a next one (CONFSERVER-95396);
    * ``uneven_pages``: later pages are shorter than asked for, while ``next`` counts as if they were not;
    * ``system_limit``: the most rows of a page where no other cap holds;
    * ``bad_cql_status``: 400 as seen; the contract says 404 for the search of content.

    :param context: the context path, ``/confluence``, or nothing.
    """

    def __init__(
        self,
        state: Path | None = None,
        users: Iterable[SandboxUser] = (),
        *,
        context: str = "/confluence",
    ) -> None:
        self.context = "/" + context.strip("/") if context.strip("/") else ""
        self.zone: tzinfo = UTC
        self.bad_token = "refused"  # noqa: S105 - the name of a behaviour
        self.anonymous_reads = False
        self.names_user = True
        self.past_the_end = False
        self.uneven_pages = False
        self.system_limit = 200
        self.bad_cql_status = 400
        self._bucket: tuple[float, float] | None = None
        super().__init__(state, users)

    # --- sign-in and limits ----------------------------------------------------------------------------------------

    @property
    def _api(self) -> str:
        return f"{self.context}/rest/api"

    def sign_in(self, request: Request) -> None:
        """Refuse a wrong password, or token, as the container does, in HTML; without a credential one is a visitor."""
        if not request.path.startswith((self._api, f"{self.context}/download")):
            return
        sent = request.headers.get("authorization", "")
        if not sent or self._account(request) is not None:
            return
        if sent.startswith("Bearer ") and self.bad_token == "anonymous":  # noqa: S105
            return
        page = "<html><head><title>401 Unauthorized</title></head><body>Basic Authentication Failure</body></html>"
        headers = {"Content-Type": "text/html;charset=UTF-8", "WWW-Authenticate": 'Basic realm="Confluence"'}
        refused = HttpError(401, {})
        refused.reply = Reply(401, page.encode(), headers)
        raise refused

    def _account(self, request: Request) -> sqlite3.Row | None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            return self.database.row("select * from users where token = ?", (value,))
        try:
            name, _, password = base64.b64decode(value).decode("utf-8").partition(":")
        except ValueError:
            return None
        rows = self.database.rows("select * from users where token = ?", (password,))
        return next((row for row in rows if _username(row) == name), None)

    def _key(self, request: Request) -> str | None:
        account = self._account(request)
        return None if account is None else str(account["account_id"])

    def _who(self, request: Request) -> str:
        key = self._key(request)
        if key is None:
            raise _error(403, f"{EXCEPTIONS}PermissionException: Not permitted to use Confluence", authorized=False)
        return key

    def refuse(self, request: Request, message: str) -> HttpError:
        """Return a 400 in the words of the API."""
        return _bad(message)

    def limit_rate(self, requests: int | None, seconds: float = 1.0) -> None:
        """Give every user a bucket of so many requests, filled again in so many seconds; None ends the limit."""
        super().limit_rate(requests, seconds)
        self._bucket = None if requests is None else (float(requests), time.monotonic())

    def count_request(self, request: Request) -> dict[str, str]:
        """Return the headers that name user and rate limit.

        :raises HttpError: 429 when the bucket is empty.
        """
        if not request.path.startswith(self._api):
            return {}
        account = self._account(request)
        headers = {"X-AUSERNAME": "anonymous" if account is None else _username(account)} if self.names_user else {}
        if self._limit is None or self._bucket is None:
            return headers
        (allowed, seconds), (tokens, filled) = self._limit, self._bucket
        now = time.monotonic()
        tokens = min(float(allowed), tokens + (now - filled) * allowed / seconds)
        left = tokens - 1
        headers |= {
            "X-RateLimit-Limit": str(allowed),
            "X-RateLimit-Remaining": str(max(0, int(left))),
            "X-RateLimit-FillRate": str(allowed),
            "X-RateLimit-Interval-Seconds": str(max(1, round(seconds))),
            "retry-after": "0",
        }
        if left < 0:
            self._bucket = (tokens, now)
            wait = str(max(1, round((1 - tokens) * seconds / allowed + 0.5)))
            raise HttpError(429, {"message": "Rate limit exceeded."}, headers | {"retry-after": wait})
        self._bucket = (left, now)
        return headers

    # --- routes ----------------------------------------------------------------------------------------------------

    def _routes(self) -> None:
        api = self._api
        content = f"{api}/content/{{id}}"
        file = f"{content}/child/attachment"
        routes: list[tuple[str, str, Callable[[Request], Reply]]] = [
            ("GET", f"{api}/content", self._list_content),
            ("POST", f"{api}/content", self._create_content),
            ("GET", f"{api}/content/scan", self._scan),
            ("GET", f"{api}/content/search", self._search_content),
            ("GET", f"{api}/search", self._search_anything),
            ("GET", content, self._get_content),
            ("PUT", content, self._update_content),
            ("DELETE", content, self._delete_content),
            ("GET", f"{content}/history", self._get_history),
            ("GET", file, self._list_files),
            ("POST", file, self._create_file),
            ("POST", f"{file}/{{attachment}}/data", self._replace_file),
            ("GET", f"{content}/child/comment", self._list_content_comments),
            ("GET", f"{content}/child/page", self._list_child_pages),
            ("GET", f"{content}/descendant/comment", self._list_content_comments),
            ("GET", f"{content}/label", self._list_content_labels),
            ("POST", f"{content}/label", self._add_content_labels),
            ("DELETE", f"{content}/label", self._remove_label),
            ("DELETE", f"{content}/label/{{label}}", self._remove_label),
            ("GET", f"{content}/property", self._list_content_properties),
            ("POST", f"{content}/property", self._create_content_property),
            ("GET", f"{content}/property/{{key}}", self._get_content_property),
            ("PUT", f"{content}/property/{{key}}", self._write_content_property),
            ("GET", f"{content}/restriction/byOperation", self._get_restrictions),
            ("GET", f"{content}/restriction/byOperation/{{operation}}", self._get_restriction),
            ("PUT", f"{content}/restriction", self._set_restrictions),
            ("GET", f"{api}/space", self._list_v1_spaces),
            ("POST", f"{api}/space", self._create_v1_space),
            ("GET", f"{api}/space/{{key}}", self._get_v1_space),
            ("GET", f"{api}/space/{{key}}/content/page", self._list_v1_space_pages),
            ("GET", f"{api}/user", self._get_user),
            ("GET", f"{api}/user/current", self._get_current_user),
            ("GET", f"{api}/user/anonymous", lambda request: json_reply(self._person(request, None))),
            ("GET", f"{api}/user/list", self._list_users),
            ("GET", f"{api}/user/memberof", self._list_groups_of_user),
            ("GET", f"{api}/group", self._list_groups),
            ("GET", f"{api}/group/{{name}}", self._get_group),
            ("GET", f"{api}/group/{{name}}/member", self._list_members),
            ("GET", f"{self.context}/download/attachments/{{id}}/{{name}}", self._download_file),
            ("GET", "/_sandbox/snapshot", lambda request: json_reply(self._snapshot())),
            ("GET", "/_view/attachments/{id}", self._view_attachment),
        ]
        for method, template, handler in routes:
            self.app.route(method, template)(handler)
        view.add_routes(self.app, self.database, self.context)

    # --- lists -----------------------------------------------------------------------------------------------------

    def _base(self, request: Request) -> str:
        return f"http://{request.headers.get('host', 'localhost')}{self.context}"

    def _links(self, request: Request) -> dict[str, Any]:
        own = request.target.removeprefix(self.context)
        return {"base": self._base(request), "context": self.context, "self": self._base(request) + own}

    def _collection(
        self,
        request: Request,
        items: Sequence[Item],
        shape: Callable[[Item], dict[str, Any]],
        *,
        default: int = 25,
        most: int | None = None,
        **more: Any,
    ) -> Reply:
        """Answer one page of a list; ``next`` is relative to the context path."""
        start, limit = _whole(request, "start", 0), _whole(request, "limit", default)
        limit = min(limit, self.system_limit if most is None else most)
        size = max(1, limit * 2 // 5) if self.uneven_pages and start else limit
        found = items[start : start + size]
        beyond = self.past_the_end and start >= len(items) > 0
        if beyond:
            found = items[-min(size, len(items)) :]
        links = self._links(request)
        if beyond or start + size < len(items) or (self.past_the_end and found):
            query = {name: values for name, values in request.query.items() if name not in ("start", "limit")}
            query |= {"limit": [str(limit)], "start": [str(start + limit)]}
            links["next"] = f"{request.path.removeprefix(self.context)}?{urlencode(query, doseq=True)}"
        shaped = [shape(item) for item in found]
        return json_reply(
            {"results": shaped, "start": start, "limit": limit, "size": len(shaped), **more, "_links": links}
        )

    def _visible(self, request: Request, sql: str, values: Iterable[Any] = ()) -> list[sqlite3.Row]:
        """Return the pages of a query that whoever asks may read."""
        key = self._key(request)
        if key is None and not self.anonymous_reads:
            return []
        return [row for row in self.database.rows(sql, values) if access.may(self.database, row["id"], key, "read")]

    def _pages(self, request: Request, where: str, values: Iterable[Any], order: str = "p.id") -> list[sqlite3.Row]:
        columns = "p.id from pages p join versions v on v.page_id = p.id and v.number = p.version"
        join = "join spaces s on s.id = p.space_id"
        return self._visible(request, f"select {columns} {join} where {where} order by {order}", values)

    def _page_shaper(self, request: Request, expand: _Expand) -> Callable[[sqlite3.Row], dict[str, Any]]:
        def shape(found: sqlite3.Row) -> dict[str, Any]:
            row = self.database.row(f"{SELECT} where p.id = ?", (found["id"],))
            assert row is not None
            return self._page_shape(request, dict(row), expand)

        return shape

    # --- content ---------------------------------------------------------------------------------------------------

    def _row(self, request: Request, page_id: Any, *, operation: str = "read") -> dict[str, Any]:
        """Return a page as its present version, whatever its status."""
        number = whole(str(page_id)) or -1
        row = self.database.row(f"{SELECT} where p.id = ?", (number,))
        if row is None or not self._visible(request, "select id from pages where id = ?", (number,)):
            raise self._absent(request, page_id)
        if operation == "update":
            self._who(request)
            if not access.may(self.database, number, self._key(request), "update"):
                raise _error(
                    403, f"{EXCEPTIONS}PermissionException: Could not update Content with id {number}", authorized=False
                )
        return dict(row)

    def _absent(self, request: Request, content_id: Any) -> HttpError:
        message = f"{EXCEPTIONS}NotFoundException: No content found with id: ContentId{{id={content_id}}}"
        return _error(404, message, authorized=self._key(request) is not None)

    def _list_content(self, request: Request) -> Reply:
        where, values = ["1"], []
        if "ids" in request.query:
            wanted = request.many("ids")
            where.append(f"p.id in ({_marks(wanted)})")
            values += wanted
        elif request.one("type", "page") != "page":
            return self._collection(request, [], lambda row: {})
        if "spaceKey" in request.query:
            where.append("s.key = ?")
            values.append(request.one("spaceKey"))
        if "title" in request.query:
            where.append("lower(p.title) = lower(?)")
            values.append(request.one("title"))
        where.append(_statuses(request, values))
        rows = self._pages(request, " and ".join(where), values)
        expand = _Expand(request.one("expand"))
        return self._collection(request, rows, self._page_shaper(request, expand), most=self._cap(expand))

    def _cap(self, expand: _Expand) -> int:
        """Return the most results of one page: 50 with bodies, 200 with other expansions, 1,000 with none."""
        if expand.has("body"):
            return 50
        return 200 if expand else 1000

    def _scan(self, request: Request) -> Reply:
        """List by id after a cursor, which no other page that comes or goes can shift."""
        where, values = ["1"], []
        if request.one("type", "page") != "page":
            where.append("0")
        if "spaceKey" in request.query:
            where.append("s.key = ?")
            values.append(request.one("spaceKey"))
        where.append(_statuses(request, values))
        cursor = request.one("cursor")
        found = re.fullmatch(r"content:false:(\d+)", cursor)
        if cursor and not found:
            raise _bad(f"Invalid cursor: {cursor}")
        after = (whole(found[1]) or 0) if found else 0
        rows = self._pages(request, " and ".join([*where, "p.id > ?"]), [*values, after])
        expand = _Expand(request.one("expand"))
        limit = min(_whole(request, "limit", 25), self._cap(expand))
        shape = self._page_shaper(request, expand)
        links, more = self._links(request), {}
        if len(rows) > limit:
            more["nextCursor"] = f"content:false:{rows[limit - 1]['id']}"
            query = {name: values for name, values in request.query.items() if name not in ("cursor", "limit")}
            query |= {"limit": [str(limit)], "cursor": [more["nextCursor"]]}
            links["next"] = f"/rest/api/content/scan?{urlencode(query, doseq=True)}"
        shaped = [shape(row) for row in rows[:limit]]
        return json_reply(
            {"results": shaped, "cursor": cursor, "limit": limit, "size": len(shaped), **more, "_links": links}
        )

    def _get_content(self, request: Request) -> Reply:
        content_id = request.values["id"]
        expand = _Expand(request.one("expand", ONE_EXPAND))
        comment = self._comment_row(content_id)
        if comment is not None:
            self._row(request, comment["page_id"])
            return json_reply(self._comment_shape(request, comment, expand))
        row = self._row(request, content_id)
        if self._hidden.get(row["id"], 0) > 0:
            self._hidden[row["id"]] -= 1
            raise self._absent(request, content_id)
        statuses = request.many("status") or ["current"]
        number = _whole(request, "version", 0)
        if "historical" in statuses and number:
            old = self.database.row("select * from versions where page_id = ? and number = ?", (row["id"], number))
            if old is None or number == row["version"]:
                raise self._absent(request, content_id)
            row |= {"status": "historical", "title": old["title"], "body": old["body"], "version": number}
            row |= {"version_author": old["author_id"], "version_created": old["created"], "message": old["message"]}
        elif not {row["status"], "any"} & set(statuses):
            raise self._absent(request, content_id)
        return json_reply(self._page_shape(request, row, expand))

    def _create_content(self, request: Request) -> Reply:
        account, sent = self._who(request), _object(request)
        if sent.get("type") == "comment":
            return self._create_content_comment(request, sent, account)
        if sent.get("type") != "page":
            raise _bad("The local Data Center makes content of type page and comment")
        key = sent["space"].get("key") if isinstance(sent.get("space"), dict) else None
        space = self.database.row("select * from spaces where key = ?", (key,))
        if space is None:
            raise _error(404, f"{EXCEPTIONS}NotFoundException: No space with key {key}")
        title = self._free_title(sent.get("title"), space, None)
        body = _stored(sent, "")
        parent = self._parent(request, sent, space["id"], None)
        page_id = self._insert_page(space["id"], title, body, parent, account)
        if self.hidden_reads:
            self._hidden[page_id] = self.hidden_reads
        expand = _Expand(request.one("expand", WRITTEN_EXPAND))
        return json_reply(self._page_shape(request, self._row(request, page_id), expand))

    def _free_title(self, title: Any, space: Mapping[str, Any] | sqlite3.Row, page_id: int | None) -> str:
        if not isinstance(title, str) or not title.strip() or len(title) > 255:
            raise _bad("Title is required, and has at most 255 characters")
        taken = self.database.row(
            "select id from pages where space_id = ? and lower(title) = lower(?) and id is not ?"
            " and status = 'current'",
            (space["id"], title, page_id),
        )
        if taken:
            raise _bad(
                "A page with this title already exists: A page already exists with the title "
                f"{title} in the space with key {space['key']}"
            )
        return title

    def _parent(self, request: Request, sent: Mapping[str, Any], space_id: int, page_id: int | None) -> int | None:
        """Return the first of ``ancestors``, which is the new parent."""
        above = sent.get("ancestors")
        if not above:
            return None
        if not isinstance(above, list) or not isinstance(above[0], dict):
            raise _bad("ancestors must be a list of content")
        parent = self._row(request, above[0].get("id"))
        if parent["space_id"] != space_id:
            raise _bad("The local Data Center moves pages inside one space only")
        if page_id is not None and page_id in (parent["id"], *access.ancestors(self.database, parent["id"])):
            raise _bad("A page cannot be moved below itself")
        return int(parent["id"])

    def _update_content(self, request: Request) -> Reply:
        row, sent = self._row(request, request.values["id"], operation="update"), _object(request)
        if str(sent.get("id", row["id"])) != str(row["id"]):
            raise _bad("The id in the body is not the id in the path")
        restored = row["status"] == "trashed"
        if not restored and sent.get("type") != "page":
            raise _bad("type is required, and the type of content cannot be changed")
        space = self.database.row("select * from spaces where id = ?", (row["space_id"],))
        assert space is not None
        if isinstance(sent.get("space"), dict) and sent["space"].get("key") not in (None, space["key"]):
            raise _bad("The local Data Center moves pages inside one space only")
        if restored and sent.get("status") != "current":
            raise _bad("Content in the trash can only be restored: status must be current")
        number = sent["version"].get("number") if isinstance(sent.get("version"), dict) else None
        if number is None:
            raise _bad("Must supply an incremented version when updating Content. No version supplied.")
        if number != row["version"] + 1:
            raise _conflict(f"Version must be incremented on update. Current version is: {row['version']}")
        title = self._free_title(row["title"] if restored else sent.get("title", row["title"]), space, row["id"])
        body = row["body"] if restored else _stored(sent, row["body"])
        if sent.get("ancestors") and not restored:
            parent = self._parent(request, sent, row["space_id"], row["id"])
            self.database.write("update pages set parent_id = ? where id = ?", (parent, row["id"]))
        self.database.write("update pages set status = 'current' where id = ?", (row["id"],))
        message = str(sent["version"].get("message") or "")
        self._publish(row["id"], title, body, self._who(request), message, self.database.now())
        return json_reply(self._page_shape(request, self._row(request, row["id"]), _Expand(WRITTEN_EXPAND)))

    def _delete_content(self, request: Request) -> Reply:
        comment = self._comment_row(request.values["id"])
        if comment is not None:
            self._row(request, comment["page_id"], operation="update")
            self.database.write("delete from comments where id = ?", (comment["id"],))
            return Reply(204)
        row = self._row(request, request.values["id"], operation="update")
        if row["status"] == "current":
            self.database.write("update pages set status = 'trashed', parent_id = null where id = ?", (row["id"],))
            return json_reply({})
        if request.one("status") != "trashed":
            raise self._absent(request, row["id"])
        for table in ("versions", "labels", "properties", "attachments", "comments", "tasks", "restrictions"):
            self.database.write(f"delete from {table} where page_id = ?", (row["id"],))
        self.database.write("delete from pages where id = ?", (row["id"],))
        return Reply(204)

    def _get_history(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        expand = _Expand(request.one("expand", "previousVersion,nextVersion,lastUpdated"))
        return json_reply(self._history_shape(request, row, expand))

    def _list_child_pages(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        rows = self._pages(request, "p.parent_id = ? and p.status = 'current'", (row["id"],))
        return self._collection(request, rows, self._page_shaper(request, _Expand(request.one("expand"))))

    # --- search ----------------------------------------------------------------------------------------------------

    def _found(self, request: Request, refusal: int) -> tuple[list[sqlite3.Row], str]:
        text = request.one("cql")
        seen_before = self.database.now() - round(self.search_lag_seconds * 1000)
        try:
            query = cql.translate(
                text,
                account_id=self._key(request) or "",
                seen_before=seen_before,
                zone=self.zone,
                now=datetime.now(UTC),
            )
        except cql.BadCql as error:
            raise _error(refusal, f"{EXCEPTIONS}BadRequestException: {error}") from error
        where = f"p.status = 'current' and p.modified <= ? and {query.where}"
        return self._pages(request, where, [seen_before, *query.values], query.order), text

    def _search_content(self, request: Request) -> Reply:
        rows, text = self._found(request, self.bad_cql_status)
        expand = _Expand(request.one("expand"))
        more: dict[str, Any] = {"totalSize": len(rows), "cqlQuery": text, "searchDuration": 1}
        return self._collection(request, rows, self._page_shaper(request, expand), most=self._cap(expand), **more)

    def _search_anything(self, request: Request) -> Reply:
        rows, text = self._found(request, 400)
        content = self._page_shaper(request, _Expand(request.one("expand")).below("content"))

        def shape(found: sqlite3.Row) -> dict[str, Any]:
            shaped = content(found)
            row = self._row(request, found["id"])
            space = self.database.row("select * from spaces where id = ?", (row["space_id"],))
            assert space is not None
            return {
                "content": shaped,
                "title": escape(row["title"]),
                "excerpt": "",
                "url": shaped["_links"]["webui"],
                "resultGlobalContainer": {"title": space["name"], "displayUrl": f"/display/{space['key']}"},
                "entityType": "content",
                "iconCssClass": "aui-icon content-type-page",
                "lastModified": self._when(row["modified"]),
                "friendlyLastModified": str(self._when(row["modified"]))[:10],
            }

        more: dict[str, Any] = {"totalSize": len(rows), "cqlQuery": text, "searchDuration": 1}
        return self._collection(request, rows, shape, **more)

    # --- labels and properties -------------------------------------------------------------------------------------

    def _labels(self, page_id: int) -> list[sqlite3.Row]:
        return self.database.rows("select * from labels where page_id = ? order by name", (page_id,))

    def _list_content_labels(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        rows = self._labels(row["id"]) if "global" in (request.many("prefix") or ["global"]) else []
        return self._collection(request, rows, _label_shape, default=200)

    def _add_content_labels(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"], operation="update")
        sent = request.json()
        for entry in sent if isinstance(sent, list) else [sent]:
            name = str(entry.get("name", "") if isinstance(entry, dict) else "").lower()
            if not name or re.search(r"[\s:;,.?&\[\]()#^*@!]", name) or len(name) > 255:
                raise _bad(f"The label name is not valid: {name!r}")
            number = self._count("select label_id as n from labels where name = ?", (name,)) or self.database.next_id()
            values = (row["id"], name, number, self.database.now())
            self.database.write("insert or ignore into labels values (?, ?, ?, ?)", values)
        return self._collection(request, self._labels(row["id"]), _label_shape, default=200)

    def _remove_label(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"], operation="update")
        values = (row["id"], request.values.get("label") or request.one("name"))
        if not self.database.row("select 1 from labels where page_id = ? and name = ?", values):
            raise _error(404, f"{EXCEPTIONS}NotFoundException: No such label on this content")
        self.database.write("delete from labels where page_id = ? and name = ?", values)
        return Reply(204)

    def _property_of(self, row: Mapping[str, Any], key: str) -> sqlite3.Row | None:
        return self.database.row("select * from properties where page_id = ? and key = ?", (row["id"], key))

    def _property_shape(self, request: Request, found: sqlite3.Row) -> dict[str, Any]:
        when, number = self._when(found["created"]), found["version"]
        version = {"by": self._person(request, found["author_id"]), "when": when, "message": "", "number": number}
        own = f"{self._base(request)}/rest/api/content/{found['page_id']}/property/{quote(found['key'], safe='')}"
        return {
            "id": str(found["id"]),
            "key": found["key"],
            "value": json.loads(found["value"]),
            "version": version | {"minorEdit": False, "hidden": False},
            "_links": {"self": own},
            "_expandable": {"content": f"/rest/api/content/{found['page_id']}"},
        }

    def _list_content_properties(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        rows = self.database.rows("select * from properties where page_id = ? order by id", (row["id"],))
        return self._collection(request, rows, lambda found: self._property_shape(request, found), default=10)

    def _get_content_property(self, request: Request) -> Reply:
        row, key = self._row(request, request.values["id"]), request.values["key"]
        found = self._property_of(row, key)
        if found is None:
            raise _error(404, f"{EXCEPTIONS}NotFoundException: Cannot find content property with key: [{key}]")
        return json_reply(self._property_shape(request, found))

    def _create_content_property(self, request: Request) -> Reply:
        row, sent = self._row(request, request.values["id"], operation="update"), _object(request)
        key = sent.get("key")
        if not isinstance(key, str) or not key:
            raise _bad("A property needs a key")
        if self._property_of(row, key) is not None:
            raise _bad(f"Cannot create content property: a property with the key {key} already exists")
        return self._new_property(request, row, key, sent)

    def _new_property(self, request: Request, row: Mapping[str, Any], key: str, sent: Mapping[str, Any]) -> Reply:
        value, number = _property_value(sent), self.database.next_id()
        values = (number, row["id"], key, value, 1, self._who(request), self.database.now())
        self.database.write("insert into properties values (?, ?, ?, ?, ?, ?, ?)", values)
        found = self._property_of(row, key)
        assert found is not None
        return json_reply(self._property_shape(request, found))

    def _write_content_property(self, request: Request) -> Reply:
        row, sent = self._row(request, request.values["id"], operation="update"), _object(request)
        key, found = request.values["key"], None
        found = self._property_of(row, key)
        number = sent["version"].get("number") if isinstance(sent.get("version"), dict) else None
        if sent.get("key") not in (None, key):
            raise _bad("The key in the body is not the key in the path")
        if found is None:
            if number != 1:
                raise _error(404, f"{EXCEPTIONS}NotFoundException: Cannot find content property with key: [{key}]")
            return self._new_property(request, row, key, sent)
        if number != found["version"] + 1:
            raise _conflict(f"Can't update property: expected version {found['version'] + 1}, given {number}")
        values = (_property_value(sent), number, self._who(request), self.database.now(), found["id"])
        statement = "update properties set value = ?, version = ?, author_id = ?, created = ? where id = ?"
        self.database.write(statement, values)
        changed = self._property_of(row, key)
        assert changed is not None
        return json_reply(self._property_shape(request, changed))

    # --- attachments -----------------------------------------------------------------------------------------------

    def _list_files(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        where, values = "page_id = ?", [row["id"]]
        for name, column in (("filename", "title"), ("mediaType", "media_type")):
            if name in request.query:
                where += f" and {column} = ?"
                values.append(request.one(name))
        rows = self.database.rows(f"select id from attachments where {where} order by id", values)
        expand = _Expand(request.one("expand"))
        return self._collection(request, rows, lambda found: self._file_shape(request, found["id"], expand), default=50)

    def _create_file(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"], operation="update")
        name, media_type, comment, content = self._file(request)
        same = self.database.row("select id from attachments where page_id = ? and title = ?", (row["id"], name))
        if same and request.one("allowDuplicated") != "true":
            raise _bad(f"Cannot add a new attachment with same file name as an existing attachment: {name}")
        if same:
            number = same["id"]
            self._new_bytes(number, media_type, comment, content, self._who(request))
        else:
            number = self.database.next_id()
            values = (number, row["id"], name, media_type, comment, 1, self._who(request), self.database.now(), content)
            self.database.write("insert into attachments values (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        shaped = [self._file_shape(request, number, _Expand("version,container"))]
        return json_reply({"results": shaped, "start": 0, "limit": 50, "size": 1, "_links": self._links(request)})

    def _new_bytes(self, number: int, media_type: str, comment: str, content: bytes, account: str) -> None:
        self.database.write(
            "update attachments set media_type = ?, comment = ?, version = version + 1, author_id = ?, created = ?,"
            " content = ? where id = ?",
            (media_type, comment, account, self.database.now(), content, number),
        )

    def _replace_file(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"], operation="update")
        number = request.values["attachment"].removeprefix("att")
        if not self.database.row("select 1 from attachments where id = ? and page_id = ?", (number, row["id"])):
            raise self._absent(request, request.values["attachment"])
        _, media_type, comment, content = self._file(request)
        self._new_bytes(int(number), media_type, comment, content, self._who(request))
        return json_reply(self._file_shape(request, int(number), _Expand("version,container")))

    def _download_file(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        name = request.values["name"]
        found = self.database.row("select id from attachments where page_id = ? and title = ?", (row["id"], name))
        if found is None:
            return Reply(404, b"<html><title>Page Not Found</title></html>", {"Content-Type": "text/html"})
        return self._file_reply(found["id"])

    def _file_shape(self, request: Request, number: int, expand: _Expand) -> dict[str, Any]:
        sql = "select id, page_id, title, media_type, comment, version, author_id, created, length(content) as size"
        row = self.database.row(f"{sql} from attachments where id = ?", (number,))
        assert row is not None
        query = f"version={row['version']}&modificationDate={row['created']}&api=v2"
        links = {
            "webui": f"/pages/viewpage.action?pageId={row['page_id']}&preview=%2F{row['page_id']}%2F{number}",
            "download": f"/download/attachments/{row['page_id']}/{quote(row['title'])}?{query}",
            "self": f"{self._base(request)}/rest/api/content/att{number}",
        }
        shaped: dict[str, Any] = {
            "id": f"att{number}",
            "type": "attachment",
            "status": "current",
            "title": row["title"],
            "metadata": {"comment": row["comment"], "mediaType": row["media_type"]},
            "extensions": {"mediaType": row["media_type"], "fileSize": row["size"], "comment": row["comment"]},
            "_links": links,
        }
        expandable = {"version": "", "container": f"/rest/api/content/{row['page_id']}", "body": "", "children": ""}
        if expand.has("version"):
            expandable.pop("version")
            shaped["version"] = self._version_shape(request, row["version"], row["author_id"], row["created"], "")
        if expand.has("container"):
            expandable.pop("container")
            page = self._row(request, row["page_id"])
            shaped["container"] = self._page_shape(request, page, _Expand(""))
        return shaped | {"_expandable": expandable}

    # --- comments --------------------------------------------------------------------------------------------------

    def _comment_row(self, content_id: Any) -> sqlite3.Row | None:
        number = whole(str(content_id)) or -1
        return self.database.row("select * from comments where id = ?", (number,))

    def _list_content_comments(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        wanted = set(request.many("location")) or {"footer", "inline", "resolved"}
        if not wanted <= {"footer", "inline", "resolved"}:
            raise _bad(f"Unknown comment location: {sorted(wanted)}")
        rows = self.database.rows("select * from comments where page_id = ? order by created", (row["id"],))
        if request.one("depth") != "all" and not request.path.endswith("/descendant/comment"):
            rows = [found for found in rows if found["parent_id"] is None]
        rows = [found for found in rows if _location(found) in wanted]
        expand = _Expand(request.one("expand"))
        return self._collection(request, rows, lambda found: self._comment_shape(request, found, expand))

    def _create_content_comment(self, request: Request, sent: Mapping[str, Any], account: str) -> Reply:
        container = sent.get("container")
        if not isinstance(container, dict):
            raise _bad("A comment needs a container")
        page = self._row(request, container.get("id"))
        above = sent.get("ancestors") or [{}]
        parent = self._comment_row(above[-1].get("id")) if isinstance(above[-1], dict) else None
        number = self.database.next_id()
        values = (number, page["id"], _stored(sent, None), 1, account, self.database.now())
        self.database.write(
            "insert into comments (id, page_id, body, version, author_id, created, parent_id)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            (*values, None if parent is None else parent["id"]),
        )
        stored = self._comment_row(number)
        assert stored is not None
        expand = _Expand(request.one("expand", WRITTEN_EXPAND))
        return json_reply(self._comment_shape(request, stored, expand))

    def add_inline_comment(self, page_id: str, account_id: str, selection: str, body: str) -> str:
        """Comment on a passage as a person does in the browser, for which there is no published call; return the id.

        The passage gets a marker in the stored body; the page's version stays.

        :raises LookupError: the body has no such passage.
        """
        with self.database.transaction():
            row = self.database.row(f"{SELECT} where p.id = ?", (page_id,))
            if row is None or selection not in row["body"]:
                raise LookupError(f"page {page_id} has no passage {selection!r}")
            marker = str(uuid.uuid4())
            marked = f'<ac:inline-comment-marker ac:ref="{marker}">{selection}</ac:inline-comment-marker>'
            values = (row["body"].replace(selection, marked, 1), row["id"], row["version"])
            self.database.write("update versions set body = ? where page_id = ? and number = ?", values)
            number = self.database.next_id()
            self.database.write(
                "insert into comments (id, page_id, body, version, author_id, created, location, marker_ref, selection)"
                " values (?, ?, ?, 1, ?, ?, 'inline', ?, ?)",
                (number, row["id"], body, account_id, self.database.now(), marker, selection),
            )
            return str(number)

    def resolve_comment(self, comment_id: str) -> None:
        """Resolve an inline comment as a person does in the browser."""
        with self.database.transaction():
            self.database.write("update comments set resolution = 'resolved' where id = ?", (comment_id,))

    def _comment_shape(self, request: Request, row: sqlite3.Row, expand: _Expand) -> dict[str, Any]:
        page = self._row(request, row["page_id"])
        base = self._base(request)
        version = self._version_shape(request, row["version"], row["author_id"], row["created"], "")
        extensions: dict[str, Any] = {"location": row["location"], "_expandable": {}}
        for name, value in (
            ("inlineProperties", {"originalSelection": row["selection"], "markerRef": row["marker_ref"]}),
            ("resolution", {"status": row["resolution"]}),
        ):
            if row["location"] == "inline" and expand.has(f"extensions.{name}"):
                extensions[name] = value
            else:
                extensions["_expandable"][name] = ""
        shaped: dict[str, Any] = {
            "id": str(row["id"]),
            "type": "comment",
            "status": "current",
            "title": f"Re: {page['title']}",
            "extensions": extensions,
            "_links": {
                "webui": f"/pages/viewpage.action?pageId={page['id']}&focusedCommentId={row['id']}",
                "self": f"{base}/rest/api/content/{row['id']}",
            },
        }
        created = {"createdBy": self._person(request, row["author_id"]), "createdDate": self._when(row["created"])}
        parts: dict[str, tuple[str, Callable[[], Any]]] = {
            "version": ("", lambda: version),
            "history": (f"/rest/api/content/{row['id']}/history", lambda: {"latest": True, **created}),
            "container": (
                f"/rest/api/content/{page['id']}",
                lambda: self._page_shape(request, page, _Expand("")),
            ),
            "body": ("", lambda: self._body_shape(row["body"], row["id"], expand.below("body"))),
        }
        return _expanded(shaped, parts, expand)

    # --- restrictions ----------------------------------------------------------------------------------------------

    def _restriction_shape(
        self, request: Request, page_id: int, operation: str, start: int = 0, limit: int = 200
    ) -> dict[str, Any]:
        subjects: dict[str, list[dict[str, Any]]] = {"user": [], "group": []}
        for kind, subject in access.named(self.database, page_id, operation):
            found = self._person(request, subject) if kind == "user" else self._group_shape(request, subject)
            subjects[kind].append(found)
        own = f"{self._base(request)}/rest/api/content/{page_id}/restriction/byOperation/{operation}"
        limit = min(limit, self.system_limit)
        parts = {kind: found[start : start + limit] for kind, found in subjects.items()}
        return {
            "operation": operation,
            "restrictions": {
                kind: {"results": found, "start": start, "limit": limit, "size": len(found)}
                for kind, found in parts.items()
            },
            "_links": {"self": own},
            "_expandable": {"content": f"/rest/api/content/{page_id}"},
        }

    def _get_restrictions(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        shaped: dict[str, Any] = {
            name: self._restriction_shape(request, row["id"], name) for name in ("read", "update")
        }
        return json_reply(shaped | {"_links": self._links(request)})

    def _get_restriction(self, request: Request) -> Reply:
        row, operation = self._row(request, request.values["id"]), request.values["operation"]
        if operation not in ("read", "update"):
            raise _bad(f"Unknown operation: {operation}")
        start, limit = _whole(request, "start", 0), _whole(request, "limit", 100)
        return json_reply(self._restriction_shape(request, row["id"], operation, start, limit))

    def _set_restrictions(self, request: Request) -> Reply:
        row, sent = self._row(request, request.values["id"], operation="update"), request.json()
        if not isinstance(sent, list) or not all(isinstance(entry, dict) for entry in sent):
            raise _bad("The body must be a list of restrictions")
        for entry in sent:
            operation = entry.get("operation")
            given = entry.get("restrictions")
            if operation not in ("read", "update") or not isinstance(given, dict):
                raise _bad(f"Unknown operation: {operation}")
            for kind in ("user", "group"):
                if kind not in given:
                    continue
                values = (row["id"], operation, kind)
                self.database.write("delete from restrictions where page_id = ? and operation = ? and kind = ?", values)
                listed = given[kind].get("results") if isinstance(given[kind], dict) else given[kind]
                for subject in listed or []:
                    found = self._subject(kind, subject if isinstance(subject, dict) else {})
                    self.database.write("insert or ignore into restrictions values (?, ?, ?, ?)", (*values, found))
        key = self._key(request)
        if not all(access.may(self.database, row["id"], key, operation) for operation in ("read", "update")):
            # Raising undoes what was written: a request is one transaction.
            raise _bad("Restrictions that revoke the access of the user who sets them are not allowed")
        shaped = [self._restriction_shape(request, row["id"], name) for name in ("read", "update")]
        return json_reply(
            {"results": shaped, "start": 0, "limit": self.system_limit, "size": 2, "_links": self._links(request)}
        )

    def _subject(self, kind: str, sent: Mapping[str, Any]) -> str:
        if kind == "group":
            if not self.database.row("select 1 from groups where name = ?", (sent.get("name"),)):
                raise _bad(f"No group with name {sent.get('name')!r}")
            return str(sent["name"])
        found = self._user_row(sent.get("userKey"), sent.get("username"))
        if found is None:
            raise _bad(f"No user with username {sent.get('username')!r}")
        return str(found["account_id"])

    # --- spaces ----------------------------------------------------------------------------------------------------

    def _space_shape(self, request: Request, row: sqlite3.Row, expand: _Expand) -> dict[str, Any]:
        base = self._base(request)
        shaped: dict[str, Any] = {
            "id": row["id"],
            "key": row["key"],
            "name": row["name"],
            "status": "CURRENT",
            "type": "global",
            "creationDate": self._when(row["created"]),
            "_links": {"webui": f"/display/{row['key']}", "self": f"{base}/rest/api/space/{row['key']}"},
        }

        def homepage() -> Any:
            return self._page_shape(request, self._row(request, row["homepage_id"]), expand.below("homepage"))

        where = f"/rest/api/content/{row['homepage_id']}"
        parts: dict[str, tuple[str, Callable[[], Any]]] = (
            {"homepage": (where, homepage)} if row["homepage_id"] is not None else {}
        )
        return _expanded(shaped, parts, expand) if parts else shaped | {"_expandable": {}}

    def _may_see_spaces(self, request: Request) -> bool:
        return self._key(request) is not None or self.anonymous_reads

    def _list_v1_spaces(self, request: Request) -> Reply:
        where, values = ["1"], []
        for name, column in (("spaceKey", "key"), ("spaceKeys", "key"), ("spaceId", "id"), ("spaceIds", "id")):
            if name in request.query:
                wanted = request.many(name)
                where.append(f"{column} in ({_marks(wanted)})")
                values += wanted
        rows = self.database.rows(f"select * from spaces where {' and '.join(where)} order by key", values)
        expand = _Expand(request.one("expand"))
        rows = rows if self._may_see_spaces(request) else []
        return self._collection(request, rows, lambda row: self._space_shape(request, row, expand))

    def _space_by_key(self, request: Request, key: str) -> sqlite3.Row:
        row = self.database.row("select * from spaces where key = ?", (key,))
        if row is None or not self._may_see_spaces(request):
            message = f"{EXCEPTIONS}NotFoundException: No space found with key : {key}"
            raise _error(404, message, authorized=self._key(request) is not None)
        return row

    def _get_v1_space(self, request: Request) -> Reply:
        row = self._space_by_key(request, request.values["key"])
        return json_reply(self._space_shape(request, row, _Expand(request.one("expand"))))

    def _create_v1_space(self, request: Request) -> Reply:
        account, sent = self._who(request), _object(request)
        key, name = str(sent.get("key") or ""), str(sent.get("name") or "")
        if not re.fullmatch(r"[A-Za-z0-9]{1,255}", key) or not name:
            raise _bad("A space needs a name, and a key of letters and digits")
        if self.database.row("select 1 from spaces where lower(key) = lower(?)", (key,)):
            raise _bad(f"A space already exists with key {key}")
        space_id = self.database.next_id()
        values = (space_id, key, name, None, account, self.database.now())
        self.database.write("insert into spaces values (?, ?, ?, ?, ?, ?)", values)
        homepage = self._insert_page(space_id, f"{name} Home", "<p />", None, account)
        self.database.write("update spaces set homepage_id = ? where id = ?", (homepage, space_id))
        return json_reply(self._space_shape(request, self._space_by_key(request, key), _Expand("homepage")))

    def _list_v1_space_pages(self, request: Request) -> Reply:
        space = self._space_by_key(request, request.values["key"])
        where = "p.space_id = ? and p.status = 'current'"
        if request.one("depth", "all") == "root":
            where += " and p.parent_id is null"
        expand = _Expand(request.one("expand"))
        rows = self._pages(request, where, (space["id"],))
        return self._collection(request, rows, self._page_shaper(request, expand), most=self._cap(expand))

    # --- people ----------------------------------------------------------------------------------------------------

    def _person(self, request: Request, key: str | None) -> dict[str, Any]:
        path = f"{self.context}/images/icons/profilepics/default.svg"
        picture = {"path": path, "width": 48, "height": 48, "isDefault": True}
        if key is None:
            return {"type": "anonymous", "profilePicture": picture, "displayName": "Anonymous"}
        row = self._user_row(key, None)
        if row is None:
            return {"type": "unknown", "profilePicture": picture, "displayName": f"Unknown User ({key})"}
        return {
            "type": "known",
            "username": _username(row),
            "userKey": row["account_id"],
            "profilePicture": picture,
            "displayName": row["name"],
            "_links": {"self": f"{self._base(request)}/rest/api/user?key={row['account_id']}"},
            "_expandable": {"status": ""},
        }

    def _user_row(self, key: Any, username: Any) -> sqlite3.Row | None:
        if key:
            return self.database.row("select * from users where account_id = ?", (str(key),))
        rows = self.database.rows("select * from users order by account_id")
        return next((row for row in rows if _username(row) == username), None)

    def _get_current_user(self, request: Request) -> Reply:
        return json_reply(self._person(request, self._key(request)))

    def _asked_user(self, request: Request) -> sqlite3.Row:
        self._who(request)
        if not request.one("key") and not request.one("username"):
            raise _bad("key or username is needed")
        row = self._user_row(request.one("key"), request.one("username"))
        if row is None:
            raise _error(404, f"{EXCEPTIONS}NotFoundException: No user found with key or username")
        return row

    def _get_user(self, request: Request) -> Reply:
        return json_reply(self._person(request, self._asked_user(request)["account_id"]))

    def _list_users(self, request: Request) -> Reply:
        self._who(request)
        rows = self.database.rows("select * from users order by account_id")
        return self._collection(request, rows, lambda row: self._person(request, row["account_id"]), default=100)

    def _group_shape(self, request: Request, name: str) -> dict[str, Any]:
        own = f"{self._base(request)}/rest/api/group/{quote(name, safe='')}"
        return {"type": "group", "name": name, "_links": {"self": own}}

    def _list_groups_of_user(self, request: Request) -> Reply:
        key = self._asked_user(request)["account_id"]
        rows = self.database.rows("select group_name from members where account_id = ? order by group_name", (key,))
        return self._collection(request, rows, lambda row: self._group_shape(request, row["group_name"]), default=200)

    def _list_groups(self, request: Request) -> Reply:
        self._who(request)
        rows = self.database.rows("select name from groups order by name")
        return self._collection(request, rows, lambda row: self._group_shape(request, row["name"]), default=200)

    def _known_group(self, request: Request) -> str:
        self._who(request)
        name = request.values["name"]
        if not self.database.row("select 1 from groups where name = ?", (name,)):
            raise _error(404, f"{EXCEPTIONS}NotFoundException: No group with name {name}")
        return name

    def _get_group(self, request: Request) -> Reply:
        return json_reply(self._group_shape(request, self._known_group(request)))

    def _list_members(self, request: Request) -> Reply:
        name = self._known_group(request)
        values = (ADMINISTRATORS, self._who(request))
        if not self.database.row("select 1 from members where group_name = ? and account_id = ?", values):
            raise _error(403, f"{EXCEPTIONS}PermissionException: Only administrators list members", authorized=False)
        rows = self.database.rows("select account_id from members where group_name = ? order by account_id", (name,))
        return self._collection(request, rows, lambda row: self._person(request, row["account_id"]), default=200)

    # --- shapes ----------------------------------------------------------------------------------------------------

    def _when(self, milliseconds: int) -> str:
        """Return a time as the site writes it: with the offset of its zone, to the millisecond."""
        moment = datetime.fromtimestamp(milliseconds / 1000, self.zone)
        offset = moment.strftime("%z")
        shown = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
        return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}{shown}"

    def _version_shape(self, request: Request, number: int, author: str, created: int, message: str) -> dict[str, Any]:
        return {
            "by": self._person(request, author),
            "when": self._when(created),
            "message": message,
            "number": number,
            "minorEdit": False,
            "hidden": False,
        }

    def _numbered(self, request: Request, page_id: int, number: int) -> dict[str, Any] | None:
        row = self.database.row("select * from versions where page_id = ? and number = ?", (page_id, number))
        if row is None:
            return None
        return self._version_shape(request, number, row["author_id"], row["created"], row["message"])

    def _history_shape(self, request: Request, row: Mapping[str, Any], expand: _Expand) -> dict[str, Any]:
        shaped: dict[str, Any] = {
            "latest": row["status"] != "historical",
            "createdBy": self._person(request, row["author_id"]),
            "createdDate": self._when(row["created"]),
            "_links": {"self": f"{self._base(request)}/rest/api/content/{row['id']}/history"},
        }
        latest = self._count("select version as n from pages where id = ?", (row["id"],))
        numbers = {"previousVersion": row["version"] - 1, "nextVersion": row["version"] + 1, "lastUpdated": latest}
        expandable = {"contributors": ""}
        for name, number in numbers.items():
            found = self._numbered(request, row["id"], number)
            if found is not None and expand.has(name):
                shaped[name] = found
            else:
                expandable[name] = ""
        return shaped | {"_expandable": expandable}

    def _body_shape(self, body: str, content_id: int, expand: _Expand) -> dict[str, Any]:
        if set(expand.names()) - {"storage"}:
            raise _error(501, "The local Data Center keeps storage format only")
        inside = {"content": f"/rest/api/content/{content_id}"}
        shaped: dict[str, Any] = {"_expandable": {"view": "", "export_view": "", "styled_view": "", "editor": ""}}
        if expand.has("storage"):
            shaped["storage"] = {"value": body, "representation": "storage", "_expandable": inside}
        return shaped

    def _page_shape(self, request: Request, row: Mapping[str, Any], expand: _Expand) -> dict[str, Any]:
        number, base = row["id"], self._base(request)
        old = f"?status=historical&version={row['version']}" if row["status"] == "historical" else ""
        shaped: dict[str, Any] = {
            "id": str(number),
            "type": "page",
            "status": row["status"],
            "title": row["title"],
            "position": -1,
            "extensions": {"position": "none"},
            "_links": {
                "webui": f"/pages/viewpage.action?pageId={number}",
                "edit": f"/pages/resumedraft.action?draftId={number}",
                "tinyui": f"/x/{base64.urlsafe_b64encode(str(number).encode()).decode().rstrip('=')}",
                "self": f"{base}/rest/api/content/{number}{old}",
                "base": base,
                "context": self.context,
                "collection": "/rest/api/content",
            },
        }
        space = self.database.row("select * from spaces where id = ?", (row["space_id"],))
        assert space is not None
        where = f"/rest/api/content/{number}"
        author, created = row["version_author"], row["version_created"]
        parts: dict[str, tuple[str, Callable[[], Any]]] = {
            "space": (
                f"/rest/api/space/{space['key']}",
                lambda: self._space_shape(request, space, expand.below("space")),
            ),
            "container": (
                f"/rest/api/space/{space['key']}",
                lambda: self._space_shape(request, space, expand.below("container")),
            ),
            "version": (
                "",
                lambda: self._version_shape(request, row["version"], author, created, row["message"]),
            ),
            "history": (f"{where}/history", lambda: self._history_shape(request, row, expand.below("history"))),
            "ancestors": ("", lambda: self._ancestors_shape(request, number)),
            "body": ("", lambda: self._body_shape(row["body"], number, expand.below("body"))),
            "metadata": ("", lambda: self._metadata_shape(request, number, expand.below("metadata"))),
            "children": (f"{where}/child", lambda: self._children_shape(request, number, expand.below("children"))),
            "restrictions": (
                f"{where}/restriction/byOperation",
                lambda: {
                    name: self._restriction_shape(request, number, name)
                    for name in ("read", "update")
                    if expand.has(f"restrictions.{name}")
                },
            ),
        }
        return _expanded(shaped, parts, expand)

    def _ancestors_shape(self, request: Request, page_id: int) -> list[dict[str, Any]]:
        shaped = self._page_shaper(request, _Expand(""))
        above = access.ancestors(self.database, page_id)
        rows = [self.database.row("select id from pages where id = ?", (number,)) for number in above]
        return [shaped(row) for row in rows if row is not None]

    def _metadata_shape(self, request: Request, page_id: int, expand: _Expand) -> dict[str, Any]:
        shaped: dict[str, Any] = {}
        expandable = {"currentuser": "", "properties": "", "frontend": "", "editorHtml": "", "labels": ""}
        if expand.has("labels"):
            rows = [_label_shape(row) for row in self._labels(page_id)]
            shaped["labels"] = {"results": rows, "start": 0, "limit": 200, "size": len(rows)}
            expandable.pop("labels")
        if expand.has("properties"):
            expandable.pop("properties")
            found = {"id": page_id}
            rows_of = {key: self._property_of(found, key) for key in expand.below("properties").names()}
            shaped["properties"] = {
                key: self._property_shape(request, row) for key, row in rows_of.items() if row is not None
            }
        return shaped | {"_expandable": expandable}

    def _children_shape(self, request: Request, page_id: int, expand: _Expand) -> dict[str, Any]:
        shaped: dict[str, Any] = {}
        if expand.has("page"):
            rows = self._pages(request, "p.parent_id = ? and p.status = 'current'", (page_id,))
            shape = self._page_shaper(request, expand.below("page"))
            pages = [shape(row) for row in rows[:25]]
            shaped["page"] = {"results": pages, "start": 0, "limit": 25, "size": len(pages)}
        return shaped | {"_expandable": {"attachment": f"/rest/api/content/{page_id}/child/attachment"}}


# --- parameters and pieces -----------------------------------------------------------------------------------------


def _username(row: Mapping[str, Any] | sqlite3.Row) -> str:
    return str(row["email"]).partition("@")[0]


def _object(request: Request) -> dict[str, Any]:
    sent = request.json()
    if not isinstance(sent, dict):
        raise _bad("The body must be a JSON object")
    return sent


def _whole(request: Request, name: str, default: int) -> int:
    text = request.one(name, str(default))
    number = whole(text)
    if number is None or number < 0:
        raise _bad(f"{name} must be a whole number that is not negative, found {text!r}")
    return number


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _statuses(request: Request, values: list[Any]) -> str:
    wanted = request.many("status") or ["current"]
    if wanted == ["any"]:
        wanted = ["current", "trashed"]
    allowed = {"current", "trashed", "historical", "draft", "any"}
    if not set(wanted) <= allowed:
        raise _bad(f"status must be among {', '.join(sorted(allowed))}")
    values += wanted
    return f"p.status in ({_marks(wanted)})"


def _stored(sent: Mapping[str, Any], default: str | None) -> str:
    """Return the body sent, as it will be stored; without one, ``default``."""
    body = sent.get("body")
    body = body.get("storage") if isinstance(body, dict) else None
    if body is None and default is not None:
        return default
    if not isinstance(body, dict) or not isinstance(body.get("value"), str):
        raise _bad("body.storage needs a value")
    if body.get("representation", "storage") != "storage":
        raise _bad("The local Data Center keeps storage format only")
    if len(body["value"].encode("utf-8")) > MAX_PAGE_BYTES:
        raise _error(413, "The page is larger than 5 MB")
    try:
        return markup.rewrite(body["value"])
    except markup.Malformed as error:
        raise _bad(str(error)) from error


def _property_value(sent: Mapping[str, Any]) -> str:
    if "value" not in sent:
        raise _bad("A property needs a value")
    value = json.dumps(sent["value"], ensure_ascii=False)
    if len(value.encode("utf-8")) > PROPERTY_BYTES:
        raise _error(413, f"The value of a property must be at most {PROPERTY_BYTES} bytes")
    return value


def _label_shape(row: sqlite3.Row) -> dict[str, Any]:
    return {"prefix": "global", "name": row["name"], "id": str(row["label_id"]), "label": row["name"]}


def _location(row: sqlite3.Row) -> str:
    return "resolved" if row["location"] == "inline" and row["resolution"] == "resolved" else str(row["location"])


def _expanded(
    shaped: dict[str, Any], parts: Mapping[str, tuple[str, Callable[[], Any]]], expand: _Expand
) -> dict[str, Any]:
    """Return the shape with the parts asked for, and the addresses of the others below ``_expandable``."""
    expandable = {}
    for name, (where, make) in parts.items():
        if expand.has(name):
            shaped[name] = make()
        else:
            expandable[name] = where
    return shaped | {"_expandable": expandable}
