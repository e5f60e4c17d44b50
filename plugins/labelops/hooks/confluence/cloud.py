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
from html import unescape
from typing import Any

from include.base.errors import AuthError, InvalidInput, InvalidReply, NotFound
from include.systems.confluence.values import (
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
    SearchHit,
    Space,
    User,
)
from include.systems.http import segment
from labelops.hooks.confluence import capabilities as scope
from labelops.hooks.confluence.changes import every_page, oldest_first
from labelops.hooks.confluence.client import Client
from labelops.hooks.confluence.replies import (
    SYSTEM,
    digest_in,
    identifier,
    mapping,
    moment,
    need,
    optional_moment,
    text,
)
from labelops.hooks.confluence.site import Rows

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
    """Implements ``labelops.hooks.confluence.site.Site``.

    Of the connection's extra it reads ``changes``, where :meth:`changed_pages` looks: in the space's list by time,
    newest first (default), or, as ``listing``, in the whole list of the space, where that order cannot be relied on.
    """

    flavour = "cloud"
    pages_at_once = 250
    users_at_once = 250
    overlap = timedelta(minutes=10)

    def __init__(self, client: Client) -> None:
        self._client = client
        self._groups: dict[str, str] = {}
        self.newest_first = client.settings.extra.get("changes") != "listing"

    def _v2(self, path: str) -> str:
        return f"{self._client.settings.path}/api/v2{path}"

    def _v1(self, path: str) -> str:
        return f"{self._client.settings.path}/rest/api{path}"

    def _rows(
        self, path: str, query: Mapping[str, Any], place: str | None, needs: str, limit: int = PAGE_ROWS
    ) -> Rows[dict[str, Any]]:
        return self._client.cursor_rows(path, {**query, "limit": limit}, place, scope=needs)

    def _all(self, path: str, query: Mapping[str, Any], needs: str) -> Iterator[dict[str, Any]]:
        place = None
        seen: set[str] = set()
        while True:
            rows, place = self._rows(path, query, place, needs)
            yield from rows
            if place is None:
                return
            if place in seen:
                raise InvalidReply(f"confluence: {path}: the listing repeats itself and does not end", system=SYSTEM)
            seen.add(place)

    # --- accounts --------------------------------------------------------------------------------------------------

    def whoami(self) -> User:
        """Return the account of the credential."""
        where = self._v1("/user/current")
        row = mapping(self._client.json("GET", where, scope=scope.READ_USER), where)
        if row.get("type") == "anonymous" or not row.get("accountId"):
            raise AuthError("confluence: the site takes this credential for an anonymous visitor", system=SYSTEM)
        return _user(row, where)

    def users(self, account_ids: Sequence[str]) -> list[User]:
        """Return those accounts that exist."""
        where = self._v2("/users-bulk")
        sent = {"accountIds": list(account_ids)}
        reply = self._client.json("POST", where, json=sent, scope=scope.READ_USERS, idempotent=True)
        rows = need(mapping(reply, where), "results", list, where)
        return [_user(mapping(row, where), where) for row in rows if row.get("accountStatus") != "unknown"]

    def group_members(self, name: str, place: str | None) -> Rows[User]:
        """List a group's members; the group is found by its name first."""
        where = self._v1(f"/group/{segment(self._group_id(name))}/membersByGroupId")
        rows, following = self._client.offset_rows(where, {"limit": OLD_ROWS}, place, scope=scope.READ_GROUPS)
        return [_user(row, where) for row in rows], following

    def _group_id(self, name: str) -> str:
        """Return the id of the group of exactly this name: v1 addresses groups by id, people know the name."""
        if name not in self._groups:
            where = self._v1("/group/picker")
            place: str | None = None
            while name not in self._groups:
                query = {"query": name, "limit": OLD_ROWS}
                rows, place = self._client.offset_rows(where, query, place, scope=scope.READ_GROUPS)
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
            yield from oldest_first(self, every_page(self, space_id), since)
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
        return self._page(self._client.json("GET", where, params=query, scope=scope.READ_PAGE), where, with_body=True)

    def find_pages(self, space_id: str, title: str) -> list[Page]:
        """Return the current pages of a title, whose letter case v2 does not mind."""
        where = self._v2(f"/spaces/{segment(space_id)}/pages")
        query = {"title": title, "status": "current", "body-format": "storage"}
        return [self._page(row, where, with_body=True) for row in self._all(where, query, scope.READ_PAGE)]

    def versions(self, page_id: str, place: str | None) -> Rows[PageVersion]:
        """List a page's versions."""
        where = self._v2(f"/pages/{segment(page_id)}/versions")
        rows, following = self._rows(where, {"sort": "-modified-date"}, place, scope.READ_PAGE)
        return [_version(row, where) for row in rows], following

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
                title=text(row, "title"),
                parent_id=text(row, "parentId") or None,
                kind=kind,
                depth=walk.depth + depth,
            )
            nodes.append(node)
            if depth >= TREE_DEPTH and kind in BRANCHES:
                walk.waiting.append([kind, node.id, node.depth])
        return nodes, walk.after(following)

    def ancestors(self, page_id: str, *, titles: bool = True) -> list[Node]:
        """Return what is above a page; v2 gives ids and kinds, so titles are asked for."""
        chain: list[tuple[str, str]] = []
        kind, top = "page", page_id
        while True:
            where = self._v2(f"/{BRANCHES[kind]}/{segment(top)}/ancestors")
            reply = self._client.json("GET", where, params={"limit": PAGE_ROWS}, scope=scope.READ_METADATA)
            rows = need(mapping(reply, where), "results", list, where)
            above = [(text(row, "type"), identifier(row, "id", where)) for row in rows]
            chain = above + chain
            if len(above) < PAGE_ROWS or above[0][0] not in BRANCHES:
                break
            kind, top = above[0]
        named = self._titles(chain) if titles else {}
        ids = [identity for _, identity in chain]
        parents = [None, *ids]
        return [
            Node(identity, named.get(identity, ""), parents[index], kind, len(chain) - index)
            for index, (kind, identity) in enumerate(chain)
        ]

    def _titles(self, chain: Sequence[tuple[str, str]]) -> dict[str, str]:
        found: dict[str, str] = {}
        ids = [identity for kind, identity in chain if kind == "page"]
        where = self._v2("/pages")
        for start in range(0, len(ids), self.pages_at_once):
            query = {"id": ",".join(ids[start : start + self.pages_at_once])}
            for row in self._all(where, query, scope.READ_PAGE):
                found[identifier(row, "id", where)] = text(row, "title")
        for identity in (identity for kind, identity in chain if kind == "folder"):
            where = self._v2(f"/folders/{segment(identity)}")
            found[identity] = text(mapping(self._client.json("GET", where, scope=scope.READ_FOLDER), where), "title")
        return found

    def create_page(self, space_id: str, title: str, body: str, parent_id: str | None, *, private: bool) -> Page:
        """Create a page; ``private`` is a parameter of the call, so nobody else ever sees it."""
        where = self._v2("/pages")
        body_out = {"representation": "storage", "value": body}
        sent: dict[str, Any] = {"spaceId": space_id, "status": "current", "title": title, "body": body_out}
        if parent_id is not None:
            sent["parentId"] = parent_id
        query = {"params": {"private": "true"}} if private else {}
        row = self._client.json("POST", where, json=sent, scope=scope.WRITE_PAGE, **query)
        return self._page(row, where, with_body=True, sent_body=body)

    def write_page(self, page_id: str, title: str, body: str, number: int, message: str) -> Page:
        """Write a version; all five fields of the contract are sent."""
        where = self._v2(f"/pages/{segment(page_id)}")
        sent = {
            "id": page_id,
            "status": "current",
            "title": title,
            "body": {"representation": "storage", "value": body},
            "version": {"number": number, "message": message},
        }
        row = self._client.json("PUT", where, json=sent, scope=scope.WRITE_PAGE)
        return self._page(row, where, with_body=True, sent_body=body)

    def move_page(self, page: Page, parent_id: str) -> None:
        """Append the page to the other's children."""
        where = self._v1(f"/content/{segment(page.id)}/move/append/{segment(parent_id)}")
        self._client.call("PUT", where, scope=scope.WRITE_CONTENT, idempotent=True)

    def archive_page(self, page_id: str) -> None:
        """Ask for archiving, which the site does later, as a long task."""
        self._client.json(
            "POST",
            self._v1("/content/archive"),
            json={"pages": [{"id": _number(page_id)}]},
            scope=scope.WRITE_CONTENT,
        )

    def page_address(self, page_id: str) -> str:
        """Return the address that any page has by its id."""
        settings = self._client.settings
        return f"{settings.site}{settings.path}/pages/viewpage.action?pageId={page_id}"

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
        self._client.call("POST", where, json=sent, scope=scope.WRITE_CONTENT, idempotent=True)

    def remove_label(self, page_id: str, label: str) -> None:
        """Take a label off; the name goes into the query, where it may hold any sign."""
        where = self._v1(f"/content/{segment(page_id)}/label")
        self._client.call("DELETE", where, params={"name": label}, scope=scope.WRITE_CONTENT, idempotent=True)

    def content_state(self, page_id: str) -> ContentState | None:
        """Return the state; its time is text by the contract, milliseconds on some sites, and both are read."""
        where = self._v1(f"/content/{segment(page_id)}/state")
        row = mapping(self._client.json("GET", where, params={"status": "current"}, scope=scope.READ_SUMMARY), where)
        state = row.get("contentState")
        if state is None:
            return None
        number = mapping(state, where).get("id")
        return ContentState(
            id=None if number is None else int(number),
            name=need(state, "name", str, where),
            color=text(state, "color"),
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

    def send_file(self, page_id: str, attachment_id: str | None, parts: dict[str, Any]) -> None:
        """Upload a file by v1; without the header it is taken for a forged form."""
        where = self._v1(f"/content/{segment(page_id)}/child/attachment")
        if attachment_id is not None:
            where += f"/{segment(attachment_id)}/data"
        self._client.json("POST", where, files=parts, headers=NO_CHECK, scope=scope.WRITE_FILE)

    # --- properties ------------------------------------------------------------------------------------------------

    def properties(self, page_id: str, key: str | None, place: str | None) -> Rows[Property]:
        """List the content properties."""
        where = self._v2(f"/pages/{segment(page_id)}/properties")
        rows, following = self._rows(where, {} if key is None else {"key": key}, place, scope.READ_PAGE)
        return [_property(row, where) for row in rows], following

    def create_property(self, page_id: str, key: str, value: Any) -> Property:
        """Create a property."""
        where = self._v2(f"/pages/{segment(page_id)}/properties")
        reply = self._client.json("POST", where, json={"key": key, "value": value}, scope=scope.WRITE_PAGE)
        return _property(reply, where)

    def write_property(self, page_id: str, read: Property, value: Any) -> Property:
        """Write the version after the one read; v2 addresses a property by its number, not its key."""
        where = self._v2(f"/pages/{segment(page_id)}/properties/{segment(read.id)}")
        sent = {"key": read.key, "value": value, "version": {"number": read.version + 1, "message": ""}}
        return _property(self._client.json("PUT", where, json=sent, scope=scope.WRITE_PAGE), where)

    # --- comments and tasks ----------------------------------------------------------------------------------------

    def footer_comments(self, page_id: str, place: str | None) -> Rows[Comment]:
        """List the footer comments."""
        where = self._v2(f"/pages/{segment(page_id)}/footer-comments")
        query = {"body-format": "storage", "sort": "created-date"}
        rows, following = self._rows(where, query, place, scope.READ_COMMENT)
        return [_comment(row, page_id, where) for row in rows], following

    def add_footer_comment(self, page_id: str, body: str) -> Comment:
        """Write a footer comment."""
        where = self._v2("/footer-comments")
        sent = {"pageId": page_id, "body": {"representation": "storage", "value": body}}
        row = mapping(self._client.json("POST", where, json=sent, scope=scope.WRITE_COMMENT), where)
        return _comment(row, page_id, where, sent_body=body)

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

    def complete_task(self, task_id: str) -> InlineTask:
        """Tick a task; the status is all that v2 changes."""
        where = self._v2(f"/tasks/{segment(task_id)}")
        reply = self._client.json(
            "PUT",
            where,
            params={"body-format": "storage"},
            json={"status": "complete"},
            scope=scope.WRITE_TASK,
            idempotent=True,
        )
        return _task(mapping(reply, where), where)

    # --- restrictions ----------------------------------------------------------------------------------------------

    def restrictions(self, page_id: str) -> tuple[Restriction, ...]:
        """Return the page's own restrictions, users and groups counted to their end."""
        where = self._v1(f"/content/{segment(page_id)}/restriction")
        found: dict[str, tuple[set[str], set[str]]] = {"read": (set(), set()), "update": (set(), set())}
        start = 0
        while True:
            query = {"expand": "restrictions.user,restrictions.group", "start": start, "limit": OLD_ROWS}
            reply = mapping(self._client.json("GET", where, params=query, scope=scope.READ_ALL), where)
            before, more, most = sum(len(one) for both in found.values() for one in both), False, 0
            for row in need(reply, "results", list, where):
                kind = need(mapping(row, where), "operation", str, where)
                if kind not in found:
                    continue
                inside = need(row, "restrictions", dict, where)
                for part, name, into in zip(("user", "group"), ("accountId", "name"), found[kind], strict=True):
                    page = need(inside, part, dict, where)
                    rows = [mapping(one, where) for one in need(page, "results", list, where)]
                    into.update(need(one, name, str, where) for one in rows)
                    # The server may allow fewer rows than asked for, and then says so, or does not.
                    more = more or (bool(rows) and len(rows) >= int(page.get("limit") or 0))
                    most = max(most, len(rows))
            start += most
            if not more or sum(len(one) for both in found.values() for one in both) == before:
                break
        read, update = (tuple(map(tuple, map(sorted, found[kind]))) for kind in ("read", "update"))
        own = (Restriction("read", *read), Restriction("update", *update))
        return tuple(item for item in own if item.users or item.groups)

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
            self._client.call("PUT", where, json={"results": results}, scope=scope.WRITE_CONTENT, idempotent=True)
        else:
            self._client.call("DELETE", where, scope=scope.WRITE_CONTENT, idempotent=True)

    # --- search ----------------------------------------------------------------------------------------------------

    def search(self, cql: str, place: str | None) -> Rows[SearchHit]:
        """List hits; the next page is reached by ``next`` alone, for ``start`` and ``totalSize`` mean little."""
        where = self._v1("/search")
        query = {"cql": cql, "expand": "content.space", "excerpt": "none"}
        rows, following = self._rows(where, query, place, scope.SEARCH, OLD_ROWS)
        return [_hit(row, where) for row in rows], following

    def search_pages(self, cql: str, place: str | None) -> Rows[str]:
        """List the ids of content."""
        where = self._v1("/content/search")
        rows, following = self._rows(where, {"cql": cql}, place, scope.SEARCH)
        return [identifier(row, "id", where) for row in rows], following

    # --- reading pages ---------------------------------------------------------------------------------------------

    def _page(self, row: Any, where: str, *, with_body: bool = False, sent_body: str | None = None) -> Page:
        row = mapping(row, where)
        settings = self._client.settings
        links = row.get("_links") or {}
        base = links.get("base") or row.get("_base") or f"{settings.site}{settings.path}"
        parent = row.get("parentId")
        body = None
        if with_body:
            body = sent_body if sent_body is not None and not row.get("body") else _storage_of(row, where)
        return Page(
            id=identifier(row, "id", where),
            title=need(row, "title", str, where),
            space_id=identifier(row, "spaceId", where),
            status=need(row, "status", str, where),
            version=_version(need(row, "version", dict, where), where),
            parent_id=None if parent is None else str(parent),
            author_id=text(row, "authorId"),
            body=body,
            url=base + links["webui"] if links.get("webui") else "",
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


def _number(page_id: str) -> int:
    if not page_id.isdigit():
        raise InvalidInput(f"confluence: page id {page_id!r} is not a number")
    return int(page_id)


def _user(row: Mapping[str, Any], where: str) -> User:
    return User(need(row, "accountId", str, where), text(row, "displayName") or text(row, "publicName"))


def _space(row: Mapping[str, Any], where: str) -> Space:
    key, homepage = need(row, "key", str, where), row.get("homepageId")
    return Space(
        id=identifier(row, "id", where),
        key=key,
        name=text(row, "name") or key,
        homepage_id=None if homepage is None else str(homepage),
    )


def _version(row: Mapping[str, Any], where: str) -> PageVersion:
    return PageVersion(
        number=need(row, "number", int, where),
        created=moment(row.get("createdAt"), "version.createdAt", where),
        author_id=text(row, "authorId"),
        message=text(row, "message"),
    )


def _attachment(row: Mapping[str, Any], page_id: str, where: str) -> Attachment:
    comment = text(row, "comment")
    return Attachment(
        id=identifier(row, "id", where),
        page_id=text(row, "pageId") or page_id,
        title=need(row, "title", str, where),
        media_type=text(row, "mediaType") or "application/octet-stream",
        size=need(row, "fileSize", int, where),
        version=need(need(row, "version", dict, where), "number", int, where),
        download=text(row, "downloadLink"),
        comment=comment,
        sha256=digest_in(comment),
    )


def _property(row: Any, where: str) -> Property:
    row = mapping(row, where)
    if "value" not in row:
        raise InvalidReply(f"confluence: {where}: field `value` is missing", system=SYSTEM)
    number = need(need(row, "version", dict, where), "number", int, where)
    return Property(identifier(row, "id", where), need(row, "key", str, where), row["value"], number)


def _comment(row: Mapping[str, Any], page_id: str, where: str, sent_body: str | None = None) -> Comment:
    version = _version(need(row, "version", dict, where), where)
    return Comment(
        id=identifier(row, "id", where),
        page_id=text(row, "pageId") or page_id,
        author_id=version.author_id,
        created=version.created,
        body=sent_body if sent_body is not None and not row.get("body") else _storage_of(row, where),
        version=version.number,
    )


def _inline_comment(row: Mapping[str, Any], page_id: str, where: str) -> InlineComment:
    version = _version(need(row, "version", dict, where), where)
    properties = mapping(row.get("properties") or {}, where)
    return InlineComment(
        id=identifier(row, "id", where),
        page_id=text(row, "pageId") or page_id,
        author_id=version.author_id,
        created=version.created,
        body=_storage_of(row, where),
        version=version.number,
        resolution=need(row, "resolutionStatus", str, where),
        marker_ref=text(properties, "inlineMarkerRef"),
        selection=text(properties, "inlineOriginalSelection"),
    )


def _task(row: Mapping[str, Any], where: str) -> InlineTask:
    due = optional_moment(row.get("dueAt"), "dueAt", where)
    return InlineTask(
        id=identifier(row, "id", where),
        page_id=text(row, "pageId"),
        local_id=text(row, "localId"),
        status=need(row, "status", str, where),
        body=_storage_of(row, where) if row.get("body") else "",
        created_by=text(row, "createdBy"),
        assigned_to=text(row, "assignedTo") or None,
        completed_by=text(row, "completedBy") or None,
        created=moment(row.get("createdAt"), "createdAt", where),
        due=None if due is None else due.date(),
        completed=optional_moment(row.get("completedAt"), "completedAt", where),
    )


def _hit(row: Mapping[str, Any], where: str) -> SearchHit:
    """Read a hit: a hit's own title is escaped and marked up, so the content's is taken."""
    kind = text(row, "entityType")
    inside = mapping(row.get(kind) or row.get("content") or row.get("space") or row.get("user") or {}, where)
    space = mapping(inside.get("space") or (inside if kind == "space" else {}), where)
    container = mapping(row.get("resultGlobalContainer") or {}, where)
    url = text(row, "url")
    return SearchHit(
        id=str(inside.get("id") or inside.get("accountId") or url),
        kind=text(inside, "type") if kind == "content" else kind,
        title=text(inside, "title") or text(inside, "name") or unescape(text(row, "title")),
        space_key=text(space, "key") or _key_in(text(container, "displayUrl")),
        url=f"{row.get('_base') or ''}{url}",
        modified=optional_moment(row.get("lastModified"), "lastModified", where),
    )


def _key_in(address: str) -> str:
    parts = address.strip("/").split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "spaces" else ""


def _storage_of(row: Mapping[str, Any], where: str) -> str:
    body = need(row, "body", dict, where)
    return need(need(body, "storage", dict, where), "value", str, where)
