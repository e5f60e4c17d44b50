"""Confluence Data Center: paths, parameters and the reading of replies.

One API, v1 below the context path (``/rest/api``), as Atlassian publishes it for 10.0.3; everything used here is in
8.5 and later too, and listing a space needs 7.18. What differs from Cloud and matters:

* A space's ``id`` is its **key**: every call takes the key, and a key never changes. ``account_id`` is the **user
  key**.
* A visitor gets 404 for a page and empty lists where Cloud would refuse: a 404, and the end of every list, is believed
  only while the site knows who we are. ``X-AUSERNAME`` says so where the site sends it, else it is asked for.
* Lists count with ``start``. They may send fewer rows than asked for, or go on after the end (CONFSERVER-95396), and
  what is deleted meanwhile moves the rest up: each page is asked for together with the last row of the one before.
* Search is an index that lags behind, reads times to the minute in the zone of the server (or of the user), and cuts
  its pages to 50 results with bodies, 200 with other expansions.
* An account without read access to a page sees 404.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import requests

from include.base.errors import InvalidInput, NotFound
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
    links_of,
    mapping,
    moment,
    need,
    part,
    property_of,
    restrictions_of,
    text,
)
from include.systems.confluence.transport import Transport, anonymous, query_of, rows_of
from include.systems.confluence.values import (
    RESTRICTABLE,
    Attachment,
    Comment,
    InlineComment,
    Node,
    Page,
    PageVersion,
    Property,
    Restriction,
    Space,
    User,
    cql_text,
)
from include.systems.confluence.walks import Rows, every_row, oldest_first
from include.systems.http import read_json, segment

__all__ = ["CHANGES", "DataCenter"]

CHANGES = ("search", "listing")
PAGE_EXPAND = "version,space,ancestors,history"
BODY_EXPAND = f"body.storage,{PAGE_EXPAND}"
BODY_ROWS = 50
"""Results that a search with bodies sends at most; asked for wherever bodies are."""
ROWS = 200
"""Results that a search with other expansions sends at most; asked for elsewhere."""
NO_CHECK = {"X-Atlassian-Token": "nocheck", "Accept": "application/json"}

_Name = Callable[[dict[str, Any]], str]


def _id(row: dict[str, Any]) -> str:
    return str(row.get("id"))


class DataCenter:
    """The requests to Data Center; one method is one request, or the few that one question takes.

    Connection extra, beside what all flavours have:

    * ``time_zone``: in which the site reads the times of a search (``UTC``), an IANA name. A day of overlap makes up
      for a wrong one;
    * ``changes``: where :meth:`changed_pages` looks: ``search`` (default; the first read still lists the space), or
      ``listing``, which always lists the whole space and does not depend on the search index.
    """

    flavour = "datacenter"
    pages_at_once = BODY_ROWS
    newest_first = False
    overlap = timedelta(days=1)

    def __init__(self, transport: Transport) -> None:
        extra = transport.settings.extra
        self._transport = transport
        self._names: dict[str, str] = {}
        self._changes = str(extra.get("changes") or CHANGES[0])
        if self._changes not in CHANGES:
            raise InvalidInput(
                f"confluence: connection extra `changes`: found {self._changes!r}, allowed are {', '.join(CHANGES)}"
            )
        name = str(extra.get("time_zone") or "UTC")
        try:
            self._zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InvalidInput(
                f"confluence: connection extra `time_zone`: found {name!r}, allowed are IANA names like Europe/Berlin"
            ) from error

    # --- requests --------------------------------------------------------------------------------------------------

    def _api(self, path: str) -> str:
        return f"{self._transport.settings.path}/rest/api{path}"

    def _content(self, page_id: str, rest: str = "") -> str:
        return self._api(f"/content/{segment(page_id)}{rest}")

    def _call(self, method: str, path: str, **parts: Any) -> requests.Response:
        try:
            response = self._transport.call(method, path, **parts)
        except NotFound:
            # A visitor gets 404 for everything: only somebody whom the site knows has asked for what is not there.
            self.whoami()
            raise
        if response.headers.get("X-AUSERNAME", "").lower() == "anonymous":
            raise anonymous()
        return response

    def _json(self, method: str, path: str, **parts: Any) -> dict[str, Any]:
        return mapping(read_json(self._call(method, path, **parts), SYSTEM), path)

    def _listed(self, path: str, query: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any], bool]:
        """Return the rows of one page, the whole document, and whether the reply itself says who we are."""
        response = self._call("GET", path, params=dict(query))
        rows, document = rows_of(response, path)
        return rows, document, "X-AUSERNAME" in response.headers

    def _rows(
        self,
        path: str,
        query: Mapping[str, Any],
        place: str | None,
        name: _Name = _id,
        limit: int = ROWS,
    ) -> Rows[dict[str, Any]]:
        """Return one page of a list that counts with ``start``, and the place of the next one.

        A place holds the next start and the names of the last rows, as many as a page has at most. Each page is asked
        for from the last row of the one before on. When that is not met again, rows before it are gone and the rest
        moved up: then the rows that are remembered are asked for again. Those are left out; a page that holds nothing
        else, and comes twice, is behind the end.
        """
        start, before = _read_place(place)
        at, looked_back = max(0, start - 1), False
        behind: list[str] | None = None
        while True:
            rows, document, known = self._listed(path, {**query, "start": at, "limit": limit})
            names = [name(row) for row in rows]
            if before and before[-1] not in names and not looked_back:
                at, looked_back = max(0, start - len(before)), True
                continue
            new = [row for row, found in zip(rows, names, strict=True) if found not in before]
            following = links_of(document, path).get("next")
            at += len(rows)
            if not following or not rows or names == behind:
                if not known:
                    self.whoami()
                return new, None
            if new:
                given = [*before, *(found for found in names if found not in before)]
                return new, json.dumps([at, given[-limit:]], separators=(",", ":"))
            behind = names

    def _all(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list with bodies."""
        return every_row(lambda place: self._rows(path, query, place, limit=BODY_ROWS), path)

    # --- accounts --------------------------------------------------------------------------------------------------

    def whoami(self) -> User:
        """Return the account of the credential; a visitor is answered 200 too."""
        where = self._api("/user/current")
        row = mapping(self._transport.json("GET", where), where)
        if row.get("type") == "anonymous" or not row.get("userKey"):
            raise anonymous()
        return _user(row, where)

    def _person(self, key: str) -> dict[str, Any]:
        return self._json("GET", self._api("/user"), params={"key": key})

    def _username(self, key: str) -> str:
        """Return the name that writing restrictions wants."""
        if key not in self._names:
            self._names[key] = need(self._person(key), "username", str, self._api("/user"))
        return self._names[key]

    # --- spaces and pages ------------------------------------------------------------------------------------------

    def spaces(self, place: str | None) -> Rows[Space]:
        """List the spaces that the account may see."""
        where = self._api("/space")
        rows, following = self._rows(where, {"expand": "homepage"}, place, lambda row: text(row, "key", where))
        return [_space(row, where) for row in rows], following

    def space(self, key: str) -> Space | None:
        """Return the space of a key."""
        where = self._api(f"/space/{segment(key)}")
        try:
            row = self._json("GET", where, params={"expand": "homepage"})
        except NotFound:
            return None
        return _space(row, where) if row.get("key") == key else None

    def pages_in_space(self, space_id: str, place: str | None) -> Rows[Page]:
        """List the current pages by cursor, which neither new nor deleted pages can shift."""
        where = self._api("/content/scan")
        query = {"spaceKey": space_id, "type": "page", "status": "current", "expand": PAGE_EXPAND, "limit": ROWS}
        rows, document, known = self._listed(where, query | ({"cursor": place} if place else {}))
        if not rows and place is None and self.space(space_id) is None:
            raise NotFound(f"confluence: no space {space_id!r}, or the account may not see it", system=SYSTEM)
        following = text(links_of(document, where), "next", where)
        cursor = text(document, "nextCursor", where) or parse_qs(query_of(following, where)).get("cursor", [""])[0]
        last = not rows or not following or not cursor
        if last and not known:
            self.whoami()
        return [self._page(row, where) for row in rows], None if last else cursor

    def changed_pages(self, space_id: str, since: datetime | None) -> Iterator[Page]:
        """Yield the changed pages by the times of their versions, the oldest first.

        What changed is worked out first, without bodies, and put in order by the times the pages themselves tell, for
        the index may order them by older ones. A page that is written again meanwhile comes at the end.
        """
        if since is not None and self._changes == "search":
            found = self._changed_by_search(space_id, since)
        else:
            found = every_row(lambda place: self.pages_in_space(space_id, place), f"pages of space {space_id}")
        yield from oldest_first(found, since, self.pages, self.pages_at_once)

    def _changed_by_search(self, space_id: str, since: datetime) -> Iterator[Page]:
        path = "/content/search"
        minute = since.astimezone(self._zone).strftime("%Y-%m-%d %H:%M")
        cql = (
            f"space = {cql_text(space_id)} and type = page and lastmodified >= {cql_text(minute)}"
            " order by lastmodified asc"
        )
        query = {"cql": cql, "expand": PAGE_EXPAND}
        for row in every_row(lambda place: self._search(path, query, place), path):
            yield self._page(row, self._api(path))

    def pages(self, ids: Sequence[str]) -> list[Page]:
        """Return the current pages of these ids; those that the list leaves out are asked for singly."""
        where, wanted = self._api("/content"), set(ids)
        query = {"ids": list(ids), "status": "current", "expand": BODY_EXPAND}
        rows = self._all(where, query) if ids else iter(())
        found = {
            identifier(row, "id", where): row
            for row in rows
            if row.get("type", "page") == "page" and identifier(row, "id", where) in wanted
        }
        pages = {page_id: self._page(row, where, with_body=True) for page_id, row in found.items()}
        for page_id in ids:
            if page_id in pages:
                continue
            try:
                row = self._json("GET", self._content(page_id), params={"status": "current", "expand": BODY_EXPAND})
            except NotFound:
                continue
            if row.get("type", "page") == "page":
                pages[page_id] = self._page(row, where, with_body=True)
        return list(pages.values())

    def page(self, page_id: str, version: int | None) -> Page:
        """Return one page; an older version is historical content under the same id."""
        where = self._content(page_id)
        row = self._json("GET", where, params={"status": "any", "expand": BODY_EXPAND})
        now = self._page(row, where, with_body=True)
        if version is None or version == now.version.number:
            return now
        query = {"status": "historical", "version": str(version), "expand": BODY_EXPAND}
        old = self._json("GET", where, params=query)
        # Whatever a site calls an old version: it is the page that was asked for.
        return self._page({**old, "id": page_id}, where, with_body=True)

    def find_pages(self, space_id: str, title: str, status: str) -> list[Page]:
        """Return the pages of a title."""
        where = self._api("/content")
        query = {"spaceKey": space_id, "title": title, "type": "page", "status": status, "expand": BODY_EXPAND}
        return [self._page(row, where, with_body=True) for row in self._all(where, query)]

    def versions(self, page_id: str, place: str | None) -> Rows[PageVersion]:
        """List a page's versions one by one, downwards from the current one, for no list is published."""
        where = self._content(page_id)
        query = {"status": "any", "expand": "version"}
        number = None
        if place is not None:
            number = _whole(place)
            query = {"status": "historical", "version": str(number), "expand": "version"}
        try:
            row = self._json("GET", where, params=query)
        except NotFound:
            # A single version may have been deleted; the current one may not.
            if number is None:
                raise
            return [], str(number - 1) if number > 1 else None
        found = _version(row, where)
        return [found], str(found.number - 1) if found.number > 1 else None

    def descendants(self, page_id: str, place: str | None) -> Rows[Node]:
        """List what is below a page, level by level; a child is asked for its own only where it has some."""
        waiting: list[list[Any]] = [[page_id, 0, None]]
        if place is not None:
            waiting = _read_walk(place)
        top, depth, inner = waiting[0]
        where = self._content(top, "/child/page")
        rows, following = self._rows(where, {"expand": "children.page"}, inner)
        nodes = []
        later = waiting[1:]
        for row in rows:
            node = Node(identifier(row, "id", where), text(row, "title", where), top, "page", depth + 1)
            nodes.append(node)
            below = part(part(row, "children", where), "page", where)
            if below.get("size", 1):
                later.append([node.id, node.depth, None])
        if following is not None:
            later.insert(0, [top, depth, following])
        return nodes, json.dumps(later, separators=(",", ":")) if later else None

    def pages_above(self, page_id: str) -> list[str]:
        """Return the ids of the pages above a page, the highest first."""
        where = self._content(page_id)
        rows = need(self._json("GET", where, params={"expand": "ancestors"}), "ancestors", list, where)
        return [identifier(mapping(row, where), "id", where) for row in rows]

    def create_page(self, space_id: str, title: str, body: str, parent_id: str | None, *, private: bool) -> Page:
        """Create a page, below the space's root where no parent is named.

        There are no private pages: what is created is visible to all who see the space until it is restricted, so for
        ``private`` the client sends a body that says nothing.
        """
        where = self._api("/content")
        sent: dict[str, Any] = {
            "type": "page",
            "title": title,
            "space": {"key": space_id},
            "body": {"storage": as_storage(body)},
        }
        if parent_id is not None:
            sent["ancestors"] = [{"id": parent_id}]
        return self._written(self._json("POST", where, params={"expand": BODY_EXPAND}, json=sent), where, body)

    def write_page(self, page_id: str, title: str, body: str, number: int, message: str) -> Page:
        """Write a version; its parent stays, for no ancestors are sent."""
        where = self._content(page_id)
        sent = {
            "id": page_id,
            "type": "page",
            "title": title,
            "body": {"storage": as_storage(body)},
            "version": {"number": number, "message": message},
        }
        return self._written(self._json("PUT", where, json=sent), where, body)

    def _written(self, row: dict[str, Any], where: str, body: str) -> Page:
        """Read the reply to a write; one that does not show all of the page is followed by a read."""
        if not all(name in row for name in ("version", "space", "ancestors")):
            return self.page(identifier(row, "id", where), None)
        return self._page(row, where, with_body=True, sent_body=body)

    # --- labels, attachments, properties ---------------------------------------------------------------------------

    def labels(self, page_id: str, place: str | None) -> Rows[str]:
        """List the global labels."""
        where = self._content(page_id, "/label")
        rows, following = self._rows(where, {"prefix": "global"}, place, lambda row: text(row, "name", where))
        return [need(row, "name", str, where) for row in rows if row.get("prefix") == "global"], following

    def add_label(self, page_id: str, label: str) -> None:
        """Put a label on."""
        sent = [{"prefix": "global", "name": label}]
        self._call("POST", self._content(page_id, "/label"), json=sent, idempotent=True)

    def remove_label(self, page_id: str, label: str) -> None:
        """Take a label off; the name goes into the query, where it may hold any sign."""
        self._call("DELETE", self._content(page_id, "/label"), params={"name": label}, idempotent=True)

    def attachments(self, page_id: str, name: str | None, place: str | None) -> Rows[Attachment]:
        """List the current attachments."""
        where = self._content(page_id, "/child/attachment")
        query = {"expand": "version"} | ({} if name is None else {"filename": name})
        rows, following = self._rows(where, query, place)
        return [_attachment(row, page_id, where) for row in rows], following

    def download_path(self, attachment: Attachment) -> str:
        """Return the listed link, which is relative to the context path."""
        path = attachment.download or f"/download/attachments/{attachment.page_id}/{segment(attachment.title)}"
        return f"{self._transport.settings.path}{path}"

    def send_file(self, page_id: str, attachment_id: str | None, parts: dict[str, Any]) -> str:
        """Upload a file and return the name it has then; PUT, which replaces or creates on Cloud, is not there."""
        where = self._content(page_id, "/child/attachment")
        if attachment_id is not None:
            where += f"/{segment(attachment_id)}/data"
        return file_name_of(self._json("POST", where, files=parts, headers=NO_CHECK), where)

    def properties(self, page_id: str, key: str | None, place: str | None) -> Rows[Property]:
        """List the properties; one key is asked for by itself, and its absence is told from that of the page."""
        where = self._content(page_id, "/property")
        if key is None:
            rows, following = self._rows(where, {"expand": "version"}, place, lambda row: text(row, "key", where))
            return [property_of(row, where) for row in rows], following
        try:
            row = self._json("GET", f"{where}/{segment(key)}", params={"expand": "version"})
        except NotFound:
            self._json("GET", self._content(page_id), params={"status": "any", "expand": ""})
            return [], None
        return [property_of(row, where)], None

    def create_property(self, page_id: str, key: str, value: Any) -> Property:
        """Write version 1, which creates, and conflicts where the key is taken."""
        return self._put_property(page_id, key, {"key": key, "value": value, "version": {"number": 1}})

    def write_property(self, page_id: str, read: Property, value: Any) -> Property:
        """Write the version after the one read."""
        sent = {"id": read.id, "key": read.key, "value": value, "version": {"number": read.version + 1}}
        return self._put_property(page_id, read.key, sent)

    def _put_property(self, page_id: str, key: str, sent: Mapping[str, Any]) -> Property:
        where = self._content(page_id, f"/property/{segment(key)}")
        return property_of(self._json("PUT", where, params={"expand": "version"}, json=dict(sent)), where)

    # --- comments and tasks ----------------------------------------------------------------------------------------

    def footer_comments(self, page_id: str, place: str | None) -> Rows[Comment]:
        """List the footer comments."""
        where = self._content(page_id, "/child/comment")
        query = {"location": "footer", "expand": "body.storage,version"}
        rows, following = self._rows(where, query, place, limit=BODY_ROWS)
        return [comment_of(row, page_id, _version(row, where), where) for row in rows], following

    def add_footer_comment(self, page_id: str, body: str) -> Comment:
        """Write a footer comment, which is content in the page's container."""
        where = self._api("/content")
        sent = {
            "type": "comment",
            "container": {"id": page_id, "type": "page"},
            "body": {"storage": as_storage(body)},
        }
        row = self._json("POST", where, params={"expand": "body.storage,version"}, json=sent)
        return comment_of(row, page_id, _version(row, where), where, body)

    def inline_comments(self, page_id: str, resolution: str | None, place: str | None) -> Rows[InlineComment]:
        """List the inline comments; resolved ones are at a location of their own."""
        where = self._content(page_id, "/child/comment")
        expand = "body.storage,version,extensions.inlineProperties,extensions.resolution"
        query = {"location": ["inline", "resolved"], "expand": expand}
        rows, following = self._rows(where, query, place, limit=BODY_ROWS)
        found = [_inline_comment(row, page_id, where) for row in rows]
        return [item for item in found if resolution in (None, item.resolution)], following

    # --- restrictions ----------------------------------------------------------------------------------------------

    def restrictions(self, page_id: str) -> tuple[Restriction, ...]:
        """Return the page's own restrictions, users and groups of each operation counted to their end."""
        found: Restricted = {operation: (set(), set()) for operation in RESTRICTABLE}
        for operation, held in found.items():
            where = self._content(page_id, f"/restriction/byOperation/{operation}")
            start = 0
            while True:
                query = {"expand": "restrictions.user,restrictions.group", "start": start, "limit": 100}
                inside = need(self._json("GET", where, params=query), "restrictions", dict, where)
                before = restrictions_of(found)
                most = add_restricted(inside, "userKey", held, where, unsaid=100)
                # A round that brings nothing new, or is not full, is the last.
                if not most or restrictions_of(found) == before:
                    break
                start += most
        return restrictions_of(found)

    def set_restrictions(self, page_id: str, restrictions: Sequence[Restriction]) -> None:
        """Replace users and groups of both operations in one request: empty lists open an operation again."""
        given = {item.operation: item for item in restrictions}
        sent = []
        for operation in RESTRICTABLE:
            item = given.get(operation, Restriction(operation))
            users = [{"type": "known", "username": self._username(key), "userKey": key} for key in item.users]
            groups = [{"type": "group", "name": name} for name in item.groups]
            sent.append({"operation": operation, "restrictions": {"user": users, "group": groups}})
        self._call("PUT", self._content(page_id, "/restriction"), json=sent, idempotent=True)

    # --- search ----------------------------------------------------------------------------------------------------

    def _search(
        self,
        path: str,
        query: Mapping[str, Any],
        place: str | None,
        name: _Name = _id,
    ) -> Rows[dict[str, Any]]:
        try:
            return self._rows(self._api(path), query, place, name)
        except NotFound as error:
            # By contract the search of content answers so where CQL cannot be read; sites answer 400.
            raise InvalidInput(f"confluence: the site does not take this CQL: {error}") from error

    def search_pages(self, cql: str, place: str | None) -> Rows[str]:
        """List the ids of content."""
        rows, following = self._search("/content/search", {"cql": cql}, place)
        return [identifier(row, "id", self._api("/content/search")) for row in rows], following

    # --- reading pages ---------------------------------------------------------------------------------------------

    def _page(self, row: Any, where: str, *, with_body: bool = False, sent_body: str | None = None) -> Page:
        row = mapping(row, where)
        settings = self._transport.settings
        above = need(row, "ancestors", list, where)
        author = part(part(row, "history", where), "createdBy", where)
        return Page(
            id=identifier(row, "id", where),
            title=need(row, "title", str, where),
            space_id=need(need(row, "space", dict, where), "key", str, where),
            status=need(row, "status", str, where),
            version=_version(row, where),
            parent_id=identifier(mapping(above[-1], where), "id", where) if above else None,
            author_id=text(author, "userKey", where),
            body=body_of(row, where, sent_body) if with_body else None,
            url=link_of(row, f"{settings.site}{settings.path}", where),
        )


# --- places --------------------------------------------------------------------------------------------------------


def _read_place(place: str | None) -> tuple[int, list[str]]:
    """Return the next start and the names of the rows before it."""
    if place is None:
        return 0, []
    try:
        start, before = json.loads(place)
        return int(start), [str(name) for name in before]
    except (ValueError, TypeError) as error:
        raise InvalidInput("confluence: the state is not one of a listing of Data Center") from error


def _read_walk(place: str) -> list[list[Any]]:
    try:
        found = [[str(top), int(depth), inner] for top, depth, inner in json.loads(place)]
    except (ValueError, TypeError) as error:
        raise InvalidInput("confluence: the state is not one of a listing of descendants") from error
    if not found:
        raise InvalidInput("confluence: the state is not one of a listing of descendants")
    return found


def _whole(place: str) -> int:
    if not place.isdigit():
        raise InvalidInput("confluence: the state is not one of a listing of versions")
    return int(place)


# --- reading replies -----------------------------------------------------------------------------------------------


def _user(row: Mapping[str, Any], where: str) -> User:
    return User(need(row, "userKey", str, where), text(row, "displayName", where) or text(row, "username", where))


def _space(row: Mapping[str, Any], where: str) -> Space:
    key, homepage = need(row, "key", str, where), row.get("homepage")
    found = identifier(mapping(homepage, where), "id", where) if homepage else None
    return Space(id=key, key=key, name=text(row, "name", where) or key, homepage_id=found)


def _version(row: Mapping[str, Any], where: str) -> PageVersion:
    version = need(row, "version", dict, where)
    by = part(version, "by", where)
    return PageVersion(
        number=need(version, "number", int, where),
        created=moment(version.get("when"), "version.when", where),
        author_id=text(by, "userKey", where),
        message=text(version, "message", where),
    )


def _attachment(row: Mapping[str, Any], page_id: str, where: str) -> Attachment:
    extensions, metadata = (part(row, name, where) for name in ("extensions", "metadata"))
    comment = text(metadata, "comment", where) or text(extensions, "comment", where)
    return Attachment(
        id=identifier(row, "id", where),
        page_id=page_id,
        title=need(row, "title", str, where),
        media_type=text(metadata, "mediaType", where)
        or text(extensions, "mediaType", where)
        or "application/octet-stream",
        size=need(extensions, "fileSize", int, where),
        version=need(need(row, "version", dict, where), "number", int, where),
        download=text(links_of(row, where), "download", where),
        comment=comment,
        sha256=digest_in(comment),
    )


def _inline_comment(row: Mapping[str, Any], page_id: str, where: str) -> InlineComment:
    extensions = need(row, "extensions", dict, where)
    selected = part(extensions, "inlineProperties", where)
    resolution = part(extensions, "resolution", where)
    return InlineComment(
        **vars(comment_of(row, page_id, _version(row, where), where)),
        resolution=text(resolution, "status", where) or "open",
        marker_ref=text(selected, "markerRef", where),
        selection=text(selected, "originalSelection", where),
    )
