"""Confluence Cloud: paths, parameters and the reading of replies.

Both of Cloud's APIs are needed. v2 (``/api/v2``): pages, spaces, the tree, properties, comments, tasks, users in bulk,
reading labels and attachments. v1 (``/rest/api``): who we are, groups, search, labels written, uploads, content states,
restrictions, moving and archiving. Paths, parameters and shapes are those of Atlassian's published descriptions; what
those leave out is in ``docs/assumptions.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from include.base.errors import InvalidInput, InvalidReply, NotFound
from include.systems.confluence import capabilities as scope
from include.systems.confluence.replies import (
    SYSTEM,
    Restricted,
    add_restricted,
    as_storage,
    body_of,
    comment_of,
    digest_in,
    file_name_of,
    identifier,
    link_of,
    mapping,
    moment,
    need,
    number,
    optional_moment,
    part,
    property_of,
    restrictions_of,
    text,
)
from include.systems.confluence.transport import Transport, anonymous
from include.systems.confluence.values import (
    RESTRICTABLE,
    Attachment,
    Comment,
    ContentState,
    InlineComment,
    InlineTask,
    Node,
    Page,
    PageVersion,
    Property,
    Restriction,
    Space,
    User,
)
from include.systems.confluence.walks import Rows, every_row, oldest_first
from include.systems.http import segment

__all__ = ["Cloud"]

PAGE_ROWS = 250
"""Rows asked for in v2; its descriptions allow no more."""
OLD_ROWS = 100
"""Rows asked for in v1, where limits differ from call to call; restrictions allow no more."""
TREE_DEPTH = 10
BRANCHES = {
    "page": "pages",
    "folder": "folders",
    "whiteboard": "whiteboards",
    "database": "databases",
    "embed": "embeds",
}
NO_CHECK = {"X-Atlassian-Token": "no-check", "Accept": "application/json"}


class Cloud:
    """The requests to Cloud; one method is one request, or the few that one question takes.

    Of the connection's extra it reads ``changes``, where :meth:`changed_pages` looks: in the space's list by time,
    newest first (default), or, as ``listing``, in the whole list of the space, where that order cannot be relied on.
    """

    flavour = "cloud"
    pages_at_once = 250
    overlap = timedelta(minutes=10)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._groups: dict[str, str] = {}
        self.newest_first = transport.settings.extra.get("changes") != "listing"

    def _v2(self, path: str) -> str:
        return f"{self._transport.settings.path}/api/v2{path}"

    def _v1(self, path: str) -> str:
        return f"{self._transport.settings.path}/rest/api{path}"

    def _rows(
        self, path: str, query: Mapping[str, Any], place: str | None, needs: str, limit: int = PAGE_ROWS
    ) -> Rows[dict[str, Any]]:
        return self._transport.cursor_rows(path, {**query, "limit": limit}, place, scope=needs)

    def _all(self, path: str, query: Mapping[str, Any], needs: str) -> Iterator[dict[str, Any]]:
        return every_row(lambda place: self._rows(path, query, place, needs), path)

    # --- accounts --------------------------------------------------------------------------------------------------

    def whoami(self) -> User:
        """Return the account of the credential."""
        where = self._v1("/user/current")
        row = mapping(self._transport.json("GET", where, scope=scope.READ_USER), where)
        if row.get("type") == "anonymous" or not row.get("accountId"):
            raise anonymous()
        return _user(row, where)

    def _group_id(self, name: str) -> str:
        """Return the id of the group of exactly this name: v1 addresses groups by id, people know the name."""
        if name not in self._groups:
            where = self._v1("/group/picker")
            place: str | None = None
            while name not in self._groups:
                query = {"query": name, "limit": OLD_ROWS}
                rows, place = self._transport.offset_rows(where, query, place, scope=scope.READ_GROUPS)
                self._groups |= {need(row, "name", str, where): identifier(row, "id", where) for row in rows}
                if place is None:
                    break
        if name not in self._groups:
            raise NotFound(f"confluence: no group {name!r}, or the account may not see it", system=SYSTEM)
        return self._groups[name]

    # --- spaces and pages ------------------------------------------------------------------------------------------

    def spaces(self, place: str | None) -> Rows[Space]:
        """List the spaces that the account may see."""
        where = self._v2("/spaces")
        rows, following = self._rows(where, {}, place, scope.READ_SPACE)
        return [_space(row, where) for row in rows], following

    def space(self, key: str) -> Space | None:
        """Return the space of a key."""
        where = self._v2("/spaces")
        found = (row for row in self._all(where, {"keys": key}, scope.READ_SPACE) if row.get("key") == key)
        return next((_space(row, where) for row in found), None)

    def pages_in_space(self, space_id: str, place: str | None) -> Rows[Page]:
        """List the current pages, 250 a request."""
        where = self._v2(f"/spaces/{segment(space_id)}/pages")
        rows, following = self._rows(where, {"status": "current"}, place, scope.READ_PAGE)
        return [self._page(row, where) for row in rows], following

    def changed_pages(self, space_id: str, since: datetime | None) -> Iterator[Page]:
        """Yield the pages from the newest version on; v2 has no filter by time, so the walk ends by itself.

        Or all that changed from the oldest on, after a look at the whole list.
        """
        if not self.newest_first:
            found = every_row(lambda place: self.pages_in_space(space_id, place), f"pages of space {space_id}")
            yield from oldest_first(found, since, self.pages, self.pages_at_once)
            return
        where = self._v2(f"/spaces/{segment(space_id)}/pages")
        query = {"status": "current", "sort": "-modified-date", "body-format": "storage"}
        for row in self._all(where, query, scope.READ_PAGE):
            page = self._page(row, where, with_body=True)
            if since is not None and page.version.created < since:
                return
            yield page

    def pages(self, ids: Sequence[str]) -> list[Page]:
        """Return the pages of these ids."""
        where = self._v2("/pages")
        query = {"id": ",".join(ids), "body-format": "storage"}
        return [self._page(row, where, with_body=True) for row in self._all(where, query, scope.READ_PAGE)]

    def page(self, page_id: str, version: int | None) -> Page:
        """Return one page; an older version is asked for by number."""
        where = self._v2(f"/pages/{segment(page_id)}")
        query = {"body-format": "storage"} | ({} if version is None else {"version": str(version)})
        return self._page(
            self._transport.json("GET", where, params=query, scope=scope.READ_PAGE), where, with_body=True
        )

    def find_pages(self, space_id: str, title: str, status: str) -> list[Page]:
        """Return the pages of a title, whose letter case v2 does not mind."""
        where = self._v2(f"/spaces/{segment(space_id)}/pages")
        query = {"title": title, "status": status, "body-format": "storage"}
        return [self._page(row, where, with_body=True) for row in self._all(where, query, scope.READ_PAGE)]

    def versions(self, page_id: str, place: str | None) -> Rows[PageVersion]:
        """List a page's versions."""
        where = self._v2(f"/pages/{segment(page_id)}/versions")
        rows, following = self._rows(where, {"sort": "-modified-date"}, place, scope.READ_PAGE)
        return [_version({"version": row}, where) for row in rows], following

    def descendants(self, page_id: str, place: str | None) -> Rows[Node]:
        """List what is below a page, ten levels a walk: what is on the tenth begins a walk of its own."""
        walk = _Walk.read(place) if place else _Walk("page", page_id)
        where = self._v2(f"/{BRANCHES[walk.kind]}/{segment(walk.top)}/descendants")
        rows, following = self._rows(where, {"depth": TREE_DEPTH}, walk.place, scope.READ_TREE)
        nodes = []
        for row in rows:
            depth, kind = need(row, "depth", int, where), need(row, "type", str, where)
            node = Node(
                id=identifier(row, "id", where),
                title=text(row, "title", where),
                parent_id=text(row, "parentId", where) or None,
                kind=kind,
                depth=walk.depth + depth,
            )
            nodes.append(node)
            if depth >= TREE_DEPTH and kind in BRANCHES:
                walk.waiting.append([kind, node.id, node.depth])
        return nodes, walk.after(following)

    def pages_above(self, page_id: str) -> list[str]:
        """Return the ids of the pages above a page, the highest first; folders between them are left out."""
        chain: list[tuple[str, str]] = []
        kind, top = "page", page_id
        while True:
            where = self._v2(f"/{BRANCHES[kind]}/{segment(top)}/ancestors")
            reply = self._transport.json("GET", where, params={"limit": PAGE_ROWS}, scope=scope.READ_METADATA)
            rows = [mapping(row, where) for row in need(mapping(reply, where), "results", list, where)]
            above = [(text(row, "type", where), identifier(row, "id", where)) for row in rows]
            if above and above[0] in chain:
                raise InvalidReply(f"confluence: {where}: the pages above repeat themselves", system=SYSTEM)
            chain = above + chain
            if len(above) < PAGE_ROWS or above[0][0] not in BRANCHES:
                break
            kind, top = above[0]
        return [identity for kind, identity in chain if kind == "page"]

    def create_page(self, space_id: str, title: str, body: str, parent_id: str | None, *, private: bool) -> Page:
        """Create a page; ``private`` is a parameter of the call, so nobody else ever sees it."""
        where = self._v2("/pages")
        sent: dict[str, Any] = {"spaceId": space_id, "status": "current", "title": title, "body": as_storage(body)}
        if parent_id is not None:
            sent["parentId"] = parent_id
        query = {"params": {"private": "true"}} if private else {}
        row = self._transport.json("POST", where, json=sent, scope=scope.WRITE_PAGE, **query)
        return self._page(row, where, with_body=True, sent_body=body)

    def write_page(self, page_id: str, title: str, body: str, number: int, message: str) -> Page:
        """Write a version; all five fields of the contract are sent."""
        where = self._v2(f"/pages/{segment(page_id)}")
        sent = {
            "id": page_id,
            "status": "current",
            "title": title,
            "body": as_storage(body),
            "version": {"number": number, "message": message},
        }
        row = self._transport.json("PUT", where, json=sent, scope=scope.WRITE_PAGE)
        return self._page(row, where, with_body=True, sent_body=body)

    # --- labels, states, attachments -------------------------------------------------------------------------------

    def labels(self, page_id: str, place: str | None) -> Rows[str]:
        """List the global labels."""
        where = self._v2(f"/pages/{segment(page_id)}/labels")
        rows, following = self._rows(where, {"prefix": "global"}, place, scope.READ_PAGE)
        return [need(row, "name", str, where) for row in rows if row.get("prefix") == "global"], following

    def add_label(self, page_id: str, label: str) -> None:
        """Put a label on, by v1, for v2 only reads labels."""
        where = self._v1(f"/content/{segment(page_id)}/label")
        sent = [{"prefix": "global", "name": label}]
        self._transport.call("POST", where, json=sent, scope=scope.WRITE_CONTENT, idempotent=True)

    def remove_label(self, page_id: str, label: str) -> None:
        """Take a label off; the name goes into the query, where it may hold any sign."""
        where = self._v1(f"/content/{segment(page_id)}/label")
        self._transport.call("DELETE", where, params={"name": label}, scope=scope.WRITE_CONTENT, idempotent=True)

    def content_state(self, page_id: str) -> ContentState | None:
        """Return the state; its time is text by the contract, milliseconds on some sites, and both are read."""
        where = self._v1(f"/content/{segment(page_id)}/state")
        row = mapping(self._transport.json("GET", where, params={"status": "current"}, scope=scope.READ_SUMMARY), where)
        state = row.get("contentState")
        if state is None:
            return None
        state = mapping(state, where)
        return ContentState(
            id=None if state.get("id") is None else number(state, "id", where, 0),
            name=need(state, "name", str, where),
            color=text(state, "color", where),
            last_updated=optional_moment(row.get("lastUpdated"), "lastUpdated", where),
        )

    def attachments(self, page_id: str, name: str | None, place: str | None) -> Rows[Attachment]:
        """List the current attachments."""
        where = self._v2(f"/pages/{segment(page_id)}/attachments")
        query = {"status": "current"} | ({} if name is None else {"filename": name})
        rows, following = self._rows(where, query, place, scope.READ_ATTACHMENT)
        return [_attachment(row, page_id, where) for row in rows], following

    def download_path(self, attachment: Attachment) -> str:
        """Return v1's download, which redirects to a media host."""
        page, file = segment(attachment.page_id), segment(attachment.id)
        return self._v1(f"/content/{page}/child/attachment/{file}/download")

    def send_file(self, page_id: str, attachment_id: str | None, parts: dict[str, Any]) -> str:
        """Upload a file and return the name it has then; without the header v1 takes it for a forged form."""
        where = self._v1(f"/content/{segment(page_id)}/child/attachment")
        if attachment_id is not None:
            where += f"/{segment(attachment_id)}/data"
        reply = self._transport.json("POST", where, files=parts, headers=NO_CHECK, scope=scope.WRITE_FILE)
        return file_name_of(reply, where)

    # --- properties ------------------------------------------------------------------------------------------------

    def properties(self, page_id: str, key: str | None, place: str | None) -> Rows[Property]:
        """List the content properties."""
        where = self._v2(f"/pages/{segment(page_id)}/properties")
        rows, following = self._rows(where, {} if key is None else {"key": key}, place, scope.READ_PAGE)
        return [property_of(row, where) for row in rows], following

    def create_property(self, page_id: str, key: str, value: Any) -> Property:
        """Create a property."""
        where = self._v2(f"/pages/{segment(page_id)}/properties")
        reply = self._transport.json("POST", where, json={"key": key, "value": value}, scope=scope.WRITE_PAGE)
        return property_of(reply, where)

    def write_property(self, page_id: str, read: Property, value: Any) -> Property:
        """Write the version after the one read; v2 addresses a property by its number, not its key."""
        where = self._v2(f"/pages/{segment(page_id)}/properties/{segment(read.id)}")
        sent = {"key": read.key, "value": value, "version": {"number": read.version + 1, "message": ""}}
        return property_of(self._transport.json("PUT", where, json=sent, scope=scope.WRITE_PAGE), where)

    # --- comments and tasks ----------------------------------------------------------------------------------------

    def footer_comments(self, page_id: str, place: str | None) -> Rows[Comment]:
        """List the footer comments."""
        where = self._v2(f"/pages/{segment(page_id)}/footer-comments")
        query = {"body-format": "storage", "sort": "created-date"}
        rows, following = self._rows(where, query, place, scope.READ_COMMENT)
        return [comment_of(row, page_id, _version(row, where), where) for row in rows], following

    def add_footer_comment(self, page_id: str, body: str) -> Comment:
        """Write a footer comment."""
        where = self._v2("/footer-comments")
        sent = {"pageId": page_id, "body": as_storage(body)}
        row = mapping(self._transport.json("POST", where, json=sent, scope=scope.WRITE_COMMENT), where)
        return comment_of(row, page_id, _version(row, where), where, body)

    def inline_comments(self, page_id: str, resolution: str | None, place: str | None) -> Rows[InlineComment]:
        """List the inline comments."""
        where = self._v2(f"/pages/{segment(page_id)}/inline-comments")
        query = {"body-format": "storage", "sort": "created-date"}
        if resolution is not None:
            query["resolution-status"] = resolution
        rows, following = self._rows(where, query, place, scope.READ_COMMENT)
        return [_inline_comment(row, page_id, where) for row in rows], following

    def inline_tasks(self, page_ids: Sequence[str], status: str | None, place: str | None) -> Rows[InlineTask]:
        """List the tasks of many pages in one list."""
        where = self._v2("/tasks")
        query = {"page-id": ",".join(page_ids), "body-format": "storage"}
        if status is not None:
            query["status"] = status
        rows, following = self._rows(where, query, place, scope.READ_TASK)
        return [_task(row, where) for row in rows], following

    # --- restrictions ----------------------------------------------------------------------------------------------

    def restrictions(self, page_id: str) -> tuple[Restriction, ...]:
        """Return the page's own restrictions, users and groups counted to their end."""
        where = self._v1(f"/content/{segment(page_id)}/restriction")
        found: Restricted = {operation: (set(), set()) for operation in RESTRICTABLE}
        start = 0
        while True:
            query = {"expand": "restrictions.user,restrictions.group", "start": start, "limit": OLD_ROWS}
            reply = mapping(self._transport.json("GET", where, params=query, scope=scope.READ_ALL), where)
            before, most = restrictions_of(found), 0
            for row in need(reply, "results", list, where):
                kind = need(mapping(row, where), "operation", str, where)
                if kind in found:
                    inside = need(row, "restrictions", dict, where)
                    most = max(most, add_restricted(inside, "accountId", found[kind], where, unsaid=1))
            start += most
            if not most or restrictions_of(found) == before:
                return restrictions_of(found)

    def set_restrictions(self, page_id: str, restrictions: Sequence[Restriction]) -> None:
        """Replace all restrictions in one request; an operation that is left out is open again."""
        where = self._v1(f"/content/{segment(page_id)}/restriction")
        results = []
        for item in restrictions:
            rule: dict[str, Any] = {}
            if item.users:
                rule["user"] = [{"type": "known", "accountId": one} for one in item.users]
            if item.groups:
                rule["group"] = [{"type": "group", "id": self._group_id(one)} for one in item.groups]
            if rule:
                results.append({"operation": item.operation, "restrictions": rule})
        if results:
            self._transport.call("PUT", where, json={"results": results}, scope=scope.WRITE_CONTENT, idempotent=True)
        else:
            self._transport.call("DELETE", where, scope=scope.WRITE_CONTENT, idempotent=True)

    # --- search ----------------------------------------------------------------------------------------------------

    def search_pages(self, cql: str, place: str | None) -> Rows[str]:
        """List the ids of content."""
        where = self._v1("/content/search")
        rows, following = self._rows(where, {"cql": cql}, place, scope.SEARCH)
        return [identifier(row, "id", where) for row in rows], following

    # --- reading pages ---------------------------------------------------------------------------------------------

    def _page(self, row: Any, where: str, *, with_body: bool = False, sent_body: str | None = None) -> Page:
        row = mapping(row, where)
        settings, parent = self._transport.settings, row.get("parentId")
        return Page(
            id=identifier(row, "id", where),
            title=need(row, "title", str, where),
            space_id=identifier(row, "spaceId", where),
            status=need(row, "status", str, where),
            version=_version(row, where),
            parent_id=None if parent is None else str(parent),
            author_id=text(row, "authorId", where),
            body=body_of(row, where, sent_body) if with_body else None,
            url=link_of(row, f"{settings.site}{settings.path}", where),
        )


class _Walk:
    """Where a walk through a tree deeper than one request reaches is: its top, its page, and the tops still to come."""

    def __init__(
        self, kind: str, top: str, depth: int = 0, place: str | None = None, waiting: list[list[Any]] | None = None
    ) -> None:
        self.kind, self.top, self.depth, self.place = kind, top, depth, place
        self.waiting = waiting or []

    @classmethod
    def read(cls, place: str) -> _Walk:
        try:
            kind, top, depth, inner, waiting = json.loads(place)
            if kind not in BRANCHES or any(one[0] not in BRANCHES for one in waiting):
                raise ValueError(kind)
            return cls(kind, str(top), int(depth), inner, [list(one) for one in waiting])
        except (ValueError, TypeError, IndexError) as error:
            raise InvalidInput("confluence: the state is not one of a listing of descendants") from error

    def after(self, following: str | None) -> str | None:
        if following is not None:
            return json.dumps([self.kind, self.top, self.depth, following, self.waiting])
        if not self.waiting:
            return None
        kind, top, depth = self.waiting[0]
        return json.dumps([kind, top, depth, None, self.waiting[1:]])


# --- reading replies -----------------------------------------------------------------------------------------------


def _user(row: Mapping[str, Any], where: str) -> User:
    return User(need(row, "accountId", str, where), text(row, "displayName", where) or text(row, "publicName", where))


def _space(row: Mapping[str, Any], where: str) -> Space:
    key, homepage = need(row, "key", str, where), row.get("homepageId")
    return Space(
        id=identifier(row, "id", where),
        key=key,
        name=text(row, "name", where) or key,
        homepage_id=None if homepage is None else str(homepage),
    )


def _version(row: Mapping[str, Any], where: str) -> PageVersion:
    version = need(row, "version", dict, where)
    return PageVersion(
        number=need(version, "number", int, where),
        created=moment(version.get("createdAt"), "version.createdAt", where),
        author_id=text(version, "authorId", where),
        message=text(version, "message", where),
    )


def _attachment(row: Mapping[str, Any], page_id: str, where: str) -> Attachment:
    comment = text(row, "comment", where)
    return Attachment(
        id=identifier(row, "id", where),
        page_id=text(row, "pageId", where) or page_id,
        title=need(row, "title", str, where),
        media_type=text(row, "mediaType", where) or "application/octet-stream",
        size=need(row, "fileSize", int, where),
        version=need(need(row, "version", dict, where), "number", int, where),
        download=text(row, "downloadLink", where),
        comment=comment,
        sha256=digest_in(comment),
    )


def _inline_comment(row: Mapping[str, Any], page_id: str, where: str) -> InlineComment:
    properties = part(row, "properties", where)
    return InlineComment(
        **vars(comment_of(row, page_id, _version(row, where), where)),
        resolution=need(row, "resolutionStatus", str, where),
        marker_ref=text(properties, "inlineMarkerRef", where),
        selection=text(properties, "inlineOriginalSelection", where),
    )


def _task(row: Mapping[str, Any], where: str) -> InlineTask:
    due = optional_moment(row.get("dueAt"), "dueAt", where)
    return InlineTask(
        id=identifier(row, "id", where),
        page_id=text(row, "pageId", where),
        local_id=text(row, "localId", where),
        status=need(row, "status", str, where),
        body=body_of(row, where) if row.get("body") else "",
        created_by=text(row, "createdBy", where),
        assigned_to=text(row, "assignedTo", where) or None,
        completed_by=text(row, "completedBy", where) or None,
        created=moment(row.get("createdAt"), "createdAt", where),
        due=None if due is None else due.date(),
        completed=optional_moment(row.get("completedAt"), "completedAt", where),
    )
