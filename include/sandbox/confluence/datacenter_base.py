"""What every call of the local Data Center needs: who asks, how often, what they may see, and the shapes of things."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from include.sandbox.confluence import access, view
from include.sandbox.confluence.datacenter_wire import (
    EXCEPTIONS,
    Expand,
    bad,
    count_in,
    expanded,
    label_shape,
    refused,
    username_of,
)
from include.sandbox.confluence.service import ConfluenceStandIn, SandboxUser
from include.sandbox.confluence.wire import whole
from include.sandbox.http import HttpError, Reply, Request, json_reply

__all__ = ["SELECT", "WRITTEN_EXPAND", "DataCenterBase"]

WRITTEN_EXPAND = "body.storage,history,space,container,version,ancestors"
SELECT = (
    "select p.*, v.body, v.author_id as version_author, v.created as version_created, v.message, s.key as space_key,"
    " s.homepage_id from pages p join versions v on v.page_id = p.id and v.number = p.version"
    " join spaces s on s.id = p.space_id"
)

Item = TypeVar("Item")


class DataCenterBase(ConfluenceStandIn):
    """Sign-in, limits, lists and shapes; the calls are in the classes made of it."""

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

    # --- sign-in and limits -------------------------------------------------------------------------------------------

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
        return next((row for row in rows if username_of(row) == name), None)

    def _key(self, request: Request) -> str | None:
        account = self._account(request)
        return None if account is None else str(account["account_id"])

    def _who(self, request: Request) -> str:
        key = self._key(request)
        if key is None:
            raise refused(403, f"{EXCEPTIONS}PermissionException: Not permitted to use Confluence", authorized=False)
        return key

    def refuse(self, request: Request, message: str) -> HttpError:
        """Return a 400 in the words of the API."""
        return bad(message)

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
        headers = {"X-AUSERNAME": "anonymous" if account is None else username_of(account)} if self.names_user else {}
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

    # --- lists --------------------------------------------------------------------------------------------------------

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
        start, limit = count_in(request, "start", 0), count_in(request, "limit", default)
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

    def _page_shaper(self, request: Request, expand: Expand) -> Callable[[sqlite3.Row], dict[str, Any]]:
        def shape(found: sqlite3.Row) -> dict[str, Any]:
            row = self.database.row(f"{SELECT} where p.id = ?", (found["id"],))
            assert row is not None
            return self._page_shape(request, dict(row), expand)

        return shape

    # --- pages as they are --------------------------------------------------------------------------------------------

    def _row(self, request: Request, page_id: Any, *, operation: str = "read") -> dict[str, Any]:
        """Return a page as its present version, whatever its status."""
        number = whole(str(page_id)) or -1
        row = self.database.row(f"{SELECT} where p.id = ?", (number,))
        if row is None or not self._visible(request, "select id from pages where id = ?", (number,)):
            raise self._absent(request, page_id)
        if operation == "update":
            self._who(request)
            if not access.may(self.database, number, self._key(request), "update"):
                raise refused(
                    403, f"{EXCEPTIONS}PermissionException: Could not update Content with id {number}", authorized=False
                )
        return dict(row)

    def _absent(self, request: Request, content_id: Any) -> HttpError:
        message = f"{EXCEPTIONS}NotFoundException: No content found with id: ContentId{{id={content_id}}}"
        return refused(404, message, authorized=self._key(request) is not None)

    # --- shapes -------------------------------------------------------------------------------------------------------

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
            "username": username_of(row),
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
        return next((row for row in rows if username_of(row) == username), None)

    def _group_shape(self, request: Request, name: str) -> dict[str, Any]:
        own = f"{self._base(request)}/rest/api/group/{quote(name, safe='')}"
        return {"type": "group", "name": name, "_links": {"self": own}}

    def _space_shape(self, request: Request, row: sqlite3.Row, expand: Expand) -> dict[str, Any]:
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
        return expanded(shaped, parts, expand) if parts else shaped | {"_expandable": {}}

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

    def _labels(self, page_id: int) -> list[sqlite3.Row]:
        return self.database.rows("select * from labels where page_id = ? order by name", (page_id,))

    def _property_of(self, row: Mapping[str, Any], key: str) -> sqlite3.Row | None:
        return self.database.row("select * from properties where page_id = ? and key = ?", (row["id"], key))

    def _property_shape(self, request: Request, found: sqlite3.Row) -> dict[str, Any]:
        when, number = self._when(found["created"]), found["version"]
        version = {"by": self._person(request, found["author_id"]), "when": when, "message": "", "number": number}
        own = f"{self._base(request)}/rest/api/content/{found['page_id']}/property/{quote(found['key'], safe='')}"
        shaped = {
            "id": str(found["id"]),
            "key": found["key"],
            "value": json.loads(found["value"]),
            "version": version | {"minorEdit": False, "hidden": False},
            "_links": {"self": own},
            "_expandable": {"content": f"/rest/api/content/{found['page_id']}"},
        }
        if Expand(request.one("expand", "version")).has("version"):
            return shaped
        return {name: value for name, value in shaped.items() if name != "version"} | {
            "_expandable": {**shaped["_expandable"], "version": ""}
        }

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

    def _history_shape(self, request: Request, row: Mapping[str, Any], expand: Expand) -> dict[str, Any]:
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

    def _body_shape(self, body: str, content_id: int, page: Mapping[str, Any], expand: Expand) -> dict[str, Any]:
        if set(expand.names()) - set(view.REPRESENTATIONS):
            raise refused(501, "The local Data Center keeps storage format, and shows it as HTML")
        inside = {"content": f"/rest/api/content/{content_id}"}
        found = view.bodies(self.database, self.context, page, body, expand.has)
        shaped = {name: {**one, "_expandable": inside} for name, one in found.items()}
        others = {name: "" for name in (*view.REPRESENTATIONS, "editor") if name not in shaped}
        return shaped | {"_expandable": others}

    def _page_shape(self, request: Request, row: Mapping[str, Any], expand: Expand) -> dict[str, Any]:
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
            "body": ("", lambda: self._body_shape(row["body"], number, row, expand.below("body"))),
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
        return expanded(shaped, parts, expand)

    def _ancestors_shape(self, request: Request, page_id: int) -> list[dict[str, Any]]:
        shaped = self._page_shaper(request, Expand(""))
        above = access.ancestors(self.database, page_id)
        rows = [self.database.row("select id from pages where id = ?", (number,)) for number in above]
        return [shaped(row) for row in rows if row is not None]

    def _metadata_shape(self, request: Request, page_id: int, expand: Expand) -> dict[str, Any]:
        shaped: dict[str, Any] = {}
        expandable = {"currentuser": "", "properties": "", "frontend": "", "editorHtml": "", "labels": ""}
        if expand.has("labels"):
            rows = [label_shape(row) for row in self._labels(page_id)]
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

    def _children_shape(self, request: Request, page_id: int, expand: Expand) -> dict[str, Any]:
        shaped: dict[str, Any] = {}
        if expand.has("page"):
            rows = self._pages(request, "p.parent_id = ? and p.status = 'current'", (page_id,))
            shape = self._page_shaper(request, expand.below("page"))
            pages = [shape(row) for row in rows[:25]]
            shaped["page"] = {"results": pages, "start": 0, "limit": 25, "size": len(pages)}
        return shaped | {"_expandable": {"attachment": f"/rest/api/content/{page_id}/child/attachment"}}
