"""A local Confluence Data Center: REST v1 below a context path, over the same pages as the local Cloud.

Paths, parameters and shapes follow the published contract of Data Center 10.0.3; what it leaves out (409, error texts,
caps of the search, paging past the end, rate limit headers) follows Atlassian's articles and reports of live sites.
Where nobody has established a behaviour it is a switch of :class:`DataCenterStandIn`.
"""

# ruff: noqa: S608 - the pieces put into statements are constants of this module; values are always bound

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from include.sandbox.confluence import access, cql, view
from include.sandbox.confluence.datacenter_base import WRITTEN_EXPAND
from include.sandbox.confluence.datacenter_parts import DataCenterParts
from include.sandbox.confluence.datacenter_wire import (
    EXCEPTIONS,
    Expand,
    bad,
    conflict,
    count_in,
    marks,
    object_in,
    refused,
    statuses,
    stored_in,
)
from include.sandbox.confluence.wire import whole
from include.sandbox.http import Reply, Request, json_reply

__all__ = ["DataCenterStandIn"]

ONE_EXPAND = "history,space,version"


class DataCenterStandIn(DataCenterParts):
    """A Confluence Data Center site on this machine.

    Sign in with the part of the e-mail before ``@`` and the token as password, or with the token as a personal access
    token. A user's key is the ``account_id``.

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

    # --- routes -------------------------------------------------------------------------------------------------------

    def _routes(self) -> None:
        api = self._api
        content = f"{api}/content/{{id}}"
        file = f"{content}/child/attachment"
        routes: list[tuple[str, str, Callable[[Request], Reply]]] = [
            ("GET", f"{api}/content", self._list_content),
            ("POST", f"{api}/content", self._create_content),
            ("GET", f"{api}/content/scan", self._scan),
            ("GET", f"{api}/content/search", self._search_content),
            ("GET", content, self._get_content),
            ("PUT", content, self._update_content),
            ("DELETE", content, self._delete_content),
            ("GET", f"{content}/history", self._get_history),
            ("GET", file, self._list_files),
            ("POST", file, self._create_file),
            ("POST", f"{file}/{{attachment}}/data", self._replace_file),
            ("GET", f"{content}/child/comment", self._list_content_comments),
            ("GET", f"{content}/child/page", self._list_child_pages),
            ("GET", f"{content}/label", self._list_content_labels),
            ("POST", f"{content}/label", self._add_content_labels),
            ("DELETE", f"{content}/label", self._remove_label),
            ("GET", f"{content}/property", self._list_content_properties),
            ("POST", f"{content}/property", self._create_content_property),
            ("GET", f"{content}/property/{{key}}", self._get_content_property),
            ("PUT", f"{content}/property/{{key}}", self._write_content_property),
            ("DELETE", f"{content}/property/{{key}}", self._delete_content_property),
            ("GET", f"{content}/restriction/byOperation", self._get_restrictions),
            ("GET", f"{content}/restriction/byOperation/{{operation}}", self._get_restriction),
            ("PUT", f"{content}/restriction", self._set_restrictions),
            ("GET", f"{api}/space", self._list_v1_spaces),
            ("POST", f"{api}/space", self._create_v1_space),
            ("GET", f"{api}/space/{{key}}", self._get_v1_space),
            ("GET", f"{api}/user", self._get_user),
            ("GET", f"{api}/user/current", self._get_current_user),
            *((method, f"{api}/user/watch/content/{{id}}", self._watch) for method in ("GET", "POST", "DELETE")),
            ("GET", f"{self.context}/download/attachments/{{id}}/{{name}}", self._download_file),
            ("GET", "/_sandbox/snapshot", lambda request: json_reply(self._snapshot())),
            ("GET", "/_view/attachments/{id}", self._view_attachment),
        ]
        for method, template, handler in routes:
            self.app.route(method, template)(handler)
        view.add_routes(self.app, self.database, self.context)

    # --- content ------------------------------------------------------------------------------------------------------

    def _list_content(self, request: Request) -> Reply:
        where, values = ["1"], []
        if "ids" in request.query:
            wanted = request.many("ids")
            where.append(f"p.id in ({marks(wanted)})")
            values += wanted
        elif request.one("type", "page") != "page":
            return self._collection(request, [], lambda row: {})
        if "spaceKey" in request.query:
            where.append("s.key = ?")
            values.append(request.one("spaceKey"))
        if "title" in request.query:
            where.append("lower(p.title) = lower(?)")
            values.append(request.one("title").strip())
        where.append(statuses(request, values))
        rows = self._pages(request, " and ".join(where), values)
        expand = Expand(request.one("expand"))
        return self._collection(request, rows, self._page_shaper(request, expand), most=self._cap(expand))

    def _cap(self, expand: Expand) -> int:
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
        where.append(statuses(request, values))
        cursor = request.one("cursor")
        found = re.fullmatch(r"content:false:(\d+)", cursor)
        if cursor and not found:
            raise bad(f"Invalid cursor: {cursor}")
        after = (whole(found[1]) or 0) if found else 0
        rows = self._pages(request, " and ".join([*where, "p.id > ?"]), [*values, after])
        expand = Expand(request.one("expand"))
        limit = min(count_in(request, "limit", 25), self._cap(expand))
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
        expand = Expand(request.one("expand", ONE_EXPAND))
        comment = self._comment_row(content_id)
        if comment is not None:
            self._row(request, comment["page_id"])
            return json_reply(self._comment_shape(request, comment, expand))
        row = self._row(request, content_id)
        if self._hidden.get(row["id"], 0) > 0:
            self._hidden[row["id"]] -= 1
            raise self._absent(request, content_id)
        statuses = request.many("status") or ["current"]
        number = count_in(request, "version", 0)
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
        account, sent = self._who(request), object_in(request)
        if sent.get("type") == "comment":
            return self._create_content_comment(request, sent, account)
        if sent.get("type") != "page":
            raise bad("The local Data Center makes content of type page and comment")
        key = sent["space"].get("key") if isinstance(sent.get("space"), dict) else None
        space = self.database.row("select * from spaces where key = ?", (key,))
        if space is None:
            raise refused(404, f"{EXCEPTIONS}NotFoundException: No space with key {key}")
        title = self._free_title(sent.get("title"), space, None)
        body = stored_in(sent, "")
        parent = self._parent(request, sent, space["id"], None)
        page_id = self._insert_page(space["id"], title, body, parent, account)
        if self.hidden_reads:
            self._hidden[page_id] = self.hidden_reads
        expand = Expand(request.one("expand", WRITTEN_EXPAND))
        return json_reply(self._page_shape(request, self._row(request, page_id), expand))

    def _free_title(self, title: Any, space: Mapping[str, Any] | sqlite3.Row, page_id: int | None) -> str:
        if not isinstance(title, str) or not title.strip() or len(title) > 255:
            raise bad("Title is required, and has at most 255 characters")
        title = title.strip()
        taken = self.database.row(
            "select id from pages where space_id = ? and lower(title) = lower(?) and id is not ?"
            " and status in ('current', 'archived')",
            (space["id"], title, page_id),
        )
        if taken:
            raise bad(
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
            raise bad("ancestors must be a list of content")
        parent = self._row(request, above[0].get("id"))
        if parent["space_id"] != space_id:
            raise bad("The local Data Center moves pages inside one space only")
        if page_id is not None and page_id in (parent["id"], *access.ancestors(self.database, parent["id"])):
            raise bad("A page cannot be moved below itself")
        return int(parent["id"])

    def _update_content(self, request: Request) -> Reply:
        row, sent = self._row(request, request.values["id"], operation="update"), object_in(request)
        if str(sent.get("id", row["id"])) != str(row["id"]):
            raise bad("The id in the body is not the id in the path")
        if "status" in request.query and request.one("status") != row["status"]:
            raise self._absent(request, row["id"])
        restored = row["status"] == "trashed"
        if not restored and sent.get("type") != "page":
            raise bad("type is required, and the type of content cannot be changed")
        space = self.database.row("select * from spaces where id = ?", (row["space_id"],))
        assert space is not None
        if isinstance(sent.get("space"), dict) and sent["space"].get("key") not in (None, space["key"]):
            raise bad("The local Data Center moves pages inside one space only")
        if restored and sent.get("status") != "current":
            raise bad("Content in the trash can only be restored: status must be current")
        number = sent["version"].get("number") if isinstance(sent.get("version"), dict) else None
        if number is None:
            raise bad("Must supply an incremented version when updating Content. No version supplied.")
        if number != row["version"] + 1:
            raise conflict(f"Version must be incremented on update. Current version is: {row['version']}")
        title = self._free_title(row["title"] if restored else sent.get("title", row["title"]), space, row["id"])
        body = row["body"] if restored else stored_in(sent, row["body"])
        if sent.get("ancestors") and not restored:
            parent = self._parent(request, sent, row["space_id"], row["id"])
            self.database.write("update pages set parent_id = ? where id = ?", (parent, row["id"]))
        self.database.write("update pages set status = 'current' where id = ?", (row["id"],))
        message = str(sent["version"].get("message") or "")
        self._publish(row["id"], title, body, self._who(request), message, self.database.now())
        return json_reply(self._page_shape(request, self._row(request, row["id"]), Expand(WRITTEN_EXPAND)))

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
        self.database.purge(row["id"])
        return Reply(204)

    def _get_history(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        expand = Expand(request.one("expand", "previousVersion,nextVersion,lastUpdated"))
        return json_reply(self._history_shape(request, row, expand))

    def _list_child_pages(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        rows = self._pages(request, "p.parent_id = ? and p.status = 'current'", (row["id"],))
        return self._collection(request, rows, self._page_shaper(request, Expand(request.one("expand"))))

    # --- search -------------------------------------------------------------------------------------------------------

    def _found(self, request: Request, refusal: int) -> tuple[list[sqlite3.Row], str]:
        text = request.one("cql")
        seen_before = self.database.now() - round(self.search_lag_seconds * 1000)
        try:
            query = cql.translate(text, seen_before=seen_before, zone=self.zone)
        except cql.BadCql as error:
            raise refused(refusal, f"{EXCEPTIONS}BadRequestException: {error}") from error
        where = f"p.status = 'current' and p.modified <= ? and {query.where}"
        return self._pages(request, where, [seen_before, *query.values], query.order), text

    def _search_content(self, request: Request) -> Reply:
        rows, text = self._found(request, self.bad_cql_status)
        expand = Expand(request.one("expand"))
        more: dict[str, Any] = {"totalSize": len(rows), "cqlQuery": text, "searchDuration": 1}
        return self._collection(request, rows, self._page_shaper(request, expand), most=self._cap(expand), **more)

    # --- spaces -------------------------------------------------------------------------------------------------------

    def _may_see_spaces(self, request: Request) -> bool:
        return self._key(request) is not None or self.anonymous_reads

    def _list_v1_spaces(self, request: Request) -> Reply:
        where, values = ["1"], []
        for name, column in (("spaceKey", "key"), ("spaceKeys", "key"), ("spaceId", "id"), ("spaceIds", "id")):
            if name in request.query:
                wanted = request.many(name)
                where.append(f"{column} in ({marks(wanted)})")
                values += wanted
        rows = self.database.rows(f"select * from spaces where {' and '.join(where)} order by key", values)
        expand = Expand(request.one("expand"))
        rows = rows if self._may_see_spaces(request) else []
        return self._collection(request, rows, lambda row: self._space_shape(request, row, expand))

    def _space_by_key(self, request: Request, key: str) -> sqlite3.Row:
        row = self.database.row("select * from spaces where key = ?", (key,))
        if row is None or not self._may_see_spaces(request):
            message = f"{EXCEPTIONS}NotFoundException: No space found with key : {key}"
            raise refused(404, message, authorized=self._key(request) is not None)
        return row

    def _get_v1_space(self, request: Request) -> Reply:
        row = self._space_by_key(request, request.values["key"])
        return json_reply(self._space_shape(request, row, Expand(request.one("expand"))))

    def _create_v1_space(self, request: Request) -> Reply:
        account, sent = self._who(request), object_in(request)
        key, name = str(sent.get("key") or ""), str(sent.get("name") or "")
        if not re.fullmatch(r"[A-Za-z0-9]{1,255}", key) or not name:
            raise bad("A space needs a name, and a key of letters and digits")
        if self.database.row("select 1 from spaces where lower(key) = lower(?)", (key,)):
            raise bad(f"A space already exists with key {key}")
        space_id = self.database.next_id()
        values = (space_id, key, name, None, account, self.database.now())
        self.database.write("insert into spaces values (?, ?, ?, ?, ?, ?)", values)
        homepage = self._insert_page(space_id, f"{name} Home", "<p />", None, account)
        self.database.write("update spaces set homepage_id = ? where id = ?", (homepage, space_id))
        return json_reply(self._space_shape(request, self._space_by_key(request, key), Expand("homepage")))
