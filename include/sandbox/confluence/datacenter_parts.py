"""What hangs on the local Data Center's pages, and people: labels, properties, files, comments, restrictions."""

# ruff: noqa: S608 - the pieces put into statements are constants of this module; values are always bound

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from include.sandbox.confluence import access
from include.sandbox.confluence.datacenter_base import SELECT, WRITTEN_EXPAND, DataCenterBase
from include.sandbox.confluence.datacenter_wire import (
    EXCEPTIONS,
    Expand,
    bad,
    conflict,
    count_in,
    expanded,
    label_shape,
    location_of,
    object_in,
    property_value,
    refused,
    stored_in,
)
from include.sandbox.confluence.wire import whole
from include.sandbox.http import Reply, Request, json_reply

__all__ = ["DataCenterParts"]


class DataCenterParts(DataCenterBase):
    """Calls for what hangs on pages, and for people."""

    # --- labels and properties ----------------------------------------------------------------------------------------

    def _list_content_labels(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        rows = self._labels(row["id"]) if "global" in (request.many("prefix") or ["global"]) else []
        return self._collection(request, rows, label_shape, default=200)

    def _add_content_labels(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"], operation="update")
        sent = request.json()
        for entry in sent if isinstance(sent, list) else [sent]:
            name = str(entry.get("name", "") if isinstance(entry, dict) else "").lower()
            if not name or re.search(r"[\s:;,.?&\[\]()#^*@!]", name) or len(name) > 255:
                raise bad(f"The label name is not valid: {name!r}")
            number = self._count("select label_id as n from labels where name = ?", (name,)) or self.database.next_id()
            values = (row["id"], name, number, self.database.now())
            self.database.write("insert or ignore into labels values (?, ?, ?, ?)", values)
        return self._collection(request, self._labels(row["id"]), label_shape, default=200)

    def _remove_label(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"], operation="update")
        values = (row["id"], request.one("name"))
        if not self.database.row("select 1 from labels where page_id = ? and name = ?", values):
            raise refused(404, f"{EXCEPTIONS}NotFoundException: No such label on this content")
        self.database.write("delete from labels where page_id = ? and name = ?", values)
        return Reply(204)

    def _list_content_properties(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        rows = self.database.rows("select * from properties where page_id = ? order by id", (row["id"],))
        return self._collection(request, rows, lambda found: self._property_shape(request, found), default=10)

    def _get_content_property(self, request: Request) -> Reply:
        row, key = self._row(request, request.values["id"]), request.values["key"]
        found = self._property_of(row, key)
        if found is None:
            raise refused(404, f"{EXCEPTIONS}NotFoundException: Cannot find content property with key: [{key}]")
        return json_reply(self._property_shape(request, found))

    def _create_content_property(self, request: Request) -> Reply:
        row, sent = self._row(request, request.values["id"], operation="update"), object_in(request)
        key = sent.get("key")
        if not isinstance(key, str) or not key:
            raise bad("A property needs a key")
        if self._property_of(row, key) is not None:
            raise bad(f"Cannot create content property: a property with the key {key} already exists")
        return self._new_property(request, row, key, sent)

    def _new_property(self, request: Request, row: Mapping[str, Any], key: str, sent: Mapping[str, Any]) -> Reply:
        value, number = property_value(sent), self.database.next_id()
        values = (number, row["id"], key, value, 1, self._who(request), self.database.now())
        self.database.write("insert into properties values (?, ?, ?, ?, ?, ?, ?)", values)
        found = self._property_of(row, key)
        assert found is not None
        return json_reply(self._property_shape(request, found))

    def _write_content_property(self, request: Request) -> Reply:
        row, sent = self._row(request, request.values["id"], operation="update"), object_in(request)
        key, found = request.values["key"], None
        found = self._property_of(row, key)
        number = sent["version"].get("number") if isinstance(sent.get("version"), dict) else None
        if sent.get("key") not in (None, key):
            raise bad("The key in the body is not the key in the path")
        if found is None:
            if number != 1:
                raise refused(404, f"{EXCEPTIONS}NotFoundException: Cannot find content property with key: [{key}]")
            return self._new_property(request, row, key, sent)
        if number != found["version"] + 1:
            raise conflict(f"Can't update property: expected version {found['version'] + 1}, given {number}")
        values = (property_value(sent), number, self._who(request), self.database.now(), found["id"])
        statement = "update properties set value = ?, version = ?, author_id = ?, created = ? where id = ?"
        self.database.write(statement, values)
        changed = self._property_of(row, key)
        assert changed is not None
        return json_reply(self._property_shape(request, changed))

    def _delete_content_property(self, request: Request) -> Reply:
        row, key = self._row(request, request.values["id"], operation="update"), request.values["key"]
        found = self._property_of(row, key)
        if found is None:
            raise refused(404, f"{EXCEPTIONS}NotFoundException: Cannot find content property with key: [{key}]")
        self.database.write("delete from properties where id = ?", (found["id"],))
        return Reply(204)

    # --- attachments --------------------------------------------------------------------------------------------------

    def _list_files(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        where, values = "page_id = ?", [row["id"]]
        for name, column in (("filename", "title"), ("mediaType", "media_type")):
            if name in request.query:
                where += f" and {column} = ?"
                values.append(request.one(name))
        rows = self.database.rows(f"select id from attachments where {where} order by id", values)
        expand = Expand(request.one("expand"))
        return self._collection(request, rows, lambda found: self._file_shape(request, found["id"], expand), default=50)

    def _create_file(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"], operation="update")
        name, media_type, comment, content = self._file(request)
        same = self.database.row("select id from attachments where page_id = ? and title = ?", (row["id"], name))
        if same and request.one("allowDuplicated") != "true":
            raise bad(f"Cannot add a new attachment with same file name as an existing attachment: {name}")
        if same:
            number = same["id"]
            self._new_bytes(number, media_type, comment, content, self._who(request))
        else:
            number = self.database.next_id()
            values = (number, row["id"], name, media_type, comment, 1, self._who(request), self.database.now(), content)
            self.database.write("insert into attachments values (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        shaped = [self._file_shape(request, number, Expand("version,container"))]
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
        return json_reply(self._file_shape(request, int(number), Expand("version,container")))

    def _download_file(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        name = request.values["name"]
        found = self.database.row("select id from attachments where page_id = ? and title = ?", (row["id"], name))
        if found is None:
            return Reply(404, b"<html><title>Page Not Found</title></html>", {"Content-Type": "text/html"})
        return self._file_reply(found["id"])

    def _file_shape(self, request: Request, number: int, expand: Expand) -> dict[str, Any]:
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
            shaped["container"] = self._page_shape(request, page, Expand(""))
        return shaped | {"_expandable": expandable}

    # --- comments -----------------------------------------------------------------------------------------------------

    def _comment_row(self, content_id: Any) -> sqlite3.Row | None:
        number = whole(str(content_id)) or -1
        return self.database.row("select * from comments where id = ?", (number,))

    def _list_content_comments(self, request: Request) -> Reply:
        row = self._row(request, request.values["id"])
        wanted = set(request.many("location")) or {"footer", "inline", "resolved"}
        if not wanted <= {"footer", "inline", "resolved"}:
            raise bad(f"Unknown comment location: {sorted(wanted)}")
        rows = self.database.rows("select * from comments where page_id = ? order by created", (row["id"],))
        if request.one("depth") != "all":
            rows = [found for found in rows if found["parent_id"] is None]
        rows = [found for found in rows if location_of(found) in wanted]
        expand = Expand(request.one("expand"))
        return self._collection(request, rows, lambda found: self._comment_shape(request, found, expand))

    def _create_content_comment(self, request: Request, sent: Mapping[str, Any], account: str) -> Reply:
        container = sent.get("container")
        if not isinstance(container, dict):
            raise bad("A comment needs a container")
        page = self._row(request, container.get("id"))
        above = sent.get("ancestors") or [{}]
        parent = self._comment_row(above[-1].get("id")) if isinstance(above[-1], dict) else None
        number = self.database.next_id()
        values = (number, page["id"], stored_in(sent, None), 1, account, self.database.now())
        self.database.write(
            "insert into comments (id, page_id, body, version, author_id, created, parent_id)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            (*values, None if parent is None else parent["id"]),
        )
        stored = self._comment_row(number)
        assert stored is not None
        expand = Expand(request.one("expand", WRITTEN_EXPAND))
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

    def _comment_shape(self, request: Request, row: sqlite3.Row, expand: Expand) -> dict[str, Any]:
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
                lambda: self._page_shape(request, page, Expand("")),
            ),
            "body": ("", lambda: self._body_shape(row["body"], row["id"], page, expand.below("body"))),
        }
        return expanded(shaped, parts, expand)

    # --- restrictions -------------------------------------------------------------------------------------------------

    def _get_restriction(self, request: Request) -> Reply:
        row, operation = self._row(request, request.values["id"]), request.values["operation"]
        if operation not in ("read", "update"):
            raise bad(f"Unknown operation: {operation}")
        start, limit = count_in(request, "start", 0), count_in(request, "limit", 100)
        shaped = self._restriction_shape(request, row["id"], operation, start, limit)
        expand = Expand(request.one("expand", "restrictions.user,restrictions.group"))
        kept = {kind: found for kind, found in shaped["restrictions"].items() if expand.has(f"restrictions.{kind}")}
        return json_reply(shaped | {"restrictions": kept})

    def _get_restrictions(self, request: Request) -> Reply:
        page_id = self._row(request, request.values["id"])["id"]
        shown = {name: self._restriction_shape(request, page_id, name) for name in ("read", "update")}
        return json_reply({**shown, "_links": self._links(request)})

    def _set_restrictions(self, request: Request) -> Reply:
        row, sent = self._row(request, request.values["id"], operation="update"), request.json()
        if not isinstance(sent, list) or not all(isinstance(entry, dict) for entry in sent):
            raise bad("The body must be a list of restrictions")
        for entry in sent:
            operation = entry.get("operation")
            given = entry.get("restrictions")
            if operation not in ("read", "update") or not isinstance(given, dict):
                raise bad(f"Unknown operation: {operation}")
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
            raise bad("Restrictions that revoke the access of the user who sets them are not allowed")
        shaped = [self._restriction_shape(request, row["id"], name) for name in ("read", "update")]
        return json_reply(
            {"results": shaped, "start": 0, "limit": self.system_limit, "size": 2, "_links": self._links(request)}
        )

    def _subject(self, kind: str, sent: Mapping[str, Any]) -> str:
        if kind == "group":
            if not self.database.row("select 1 from groups where name = ?", (sent.get("name"),)):
                raise bad(f"No group with name {sent.get('name')!r}")
            return str(sent["name"])
        found = self._user_row(sent.get("userKey"), sent.get("username"))
        if found is None:
            raise bad(f"No user with username {sent.get('username')!r}")
        return str(found["account_id"])

    # --- people -------------------------------------------------------------------------------------------------------

    def _get_current_user(self, request: Request) -> Reply:
        return json_reply(self._person(request, self._key(request)))

    def _watch(self, request: Request) -> Reply:
        me = self._who(request)
        self._row(request, self.holder_of(request.values["id"]))
        asked = self._user_row(request.one("key"), request.one("username")) if request.query else None
        if asked is not None and asked["account_id"] != me:
            raise refused(403, f"{EXCEPTIONS}PermissionException: Only an administrator may let others watch")
        watching = self.watched(request, me)
        if request.method == "GET":
            return json_reply({"watching": watching})
        return Reply(204) if request.method == "DELETE" else json_reply({"watcher": self._person(request, me)})

    def _asked_user(self, request: Request) -> sqlite3.Row:
        self._who(request)
        if not request.one("key") and not request.one("username"):
            raise bad("key or username is needed")
        row = self._user_row(request.one("key"), request.one("username"))
        if row is None:
            raise refused(404, f"{EXCEPTIONS}NotFoundException: No user found with key or username")
        return row

    def _get_user(self, request: Request) -> Reply:
        return json_reply(self._person(request, self._asked_user(request)["account_id"]))
