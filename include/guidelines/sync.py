"""One project's guideline as it may be shown: its pages in tree order, each in its approved text.

A run over an unchanged space reads one listing (250 pages a request), on Cloud one more of the tree below the root, and
one for a label. What was read before is in ``seen``, the JSON state of the last run; renderings and images are objects
in the store. Changed pages are read side by side by a few threads; results and the error that is raised depend on the
tree's order alone.
"""

from __future__ import annotations

import difflib
import re
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from include.base.canonical import digest_of
from include.base.errors import InvalidInput, NotFound, Unavailable, Unsupported
from include.base.store import Store
from include.guidelines.approval import (
    VERSION_PLACEHOLDER,
    Approved,
    History,
    Verdict,
    by_label,
    by_property,
    by_state,
    served,
)
from include.guidelines.html import RENDERER, Finding, Include, Rendered, ResolveUser, render
from include.projects.model import Project
from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.values import Attachment, ContentState, Node, Page

__all__ = ["Collected", "CollectedPage", "Image", "LeftOut", "collect", "rows"]

READERS = 8
"""With 50 ms a request, as many as fill the usual limit of 100 requests a second and not many more."""

BODIES_AT_ONCE = 25
"""How many changed pages' texts one request brings: at most 5 MB each, so memory stays within reason."""

SEEN_FORMAT = 1
UNRESOLVED = ("unresolved_image", "external_image")
SHAPES_WITHOUT_TEXT = ("folder",)
"""What may lie below the root besides pages and holds nothing that could be shown."""
_NUMBERS = re.compile(r"(\d{1,18})")


@dataclass(frozen=True)
class Image:
    """An image of a page.

    :param filename: name of the attachment.
    :param name: name in a release, made of its digest: two pages may attach different files of one name.
    :param sha256: its digest, under which the store holds it.
    """

    filename: str
    name: str
    sha256: str
    bytes: int

    def value(self) -> dict[str, Any]:
        """Return the image as JSON."""
        return {"bytes": self.bytes, "filename": self.filename, "name": self.name, "object": self.sha256}


@dataclass(frozen=True)
class CollectedPage:
    """A page that goes into the guideline.

    :param depth: 0 for the root page.
    :param version: the approved version, whose text is published.
    :param current_version: the newest version.
    :param approver: Confluence account id, None where the mark does not say.
    :param author: account id of who wrote the approved text, None where the mark does not say.
    :param approved_at: UTC, ISO 8601, None where the mark does not say.
    :param mark: how it was approved, such as ``state Verified``.
    :param canonical_digest: SHA-256 of the approved text's canonical form.
    :param html_object: digest of the rendered fragment in the store.
    :param largest_image_bytes: the largest image it uses, refused ones included.
    """

    page_id: str
    title: str
    depth: int
    version: int
    current_version: int
    approver: str | None
    author: str | None
    approved_at: str | None
    mark: str
    canonical_digest: str
    html_object: str
    sections: tuple[str, ...]
    images: tuple[Image, ...]
    text_characters: int
    html_bytes: int
    largest_image_bytes: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class LeftOut:
    """A page below the root that was never approved, or of which no approved text could be read.

    :param readable: false for a page that the account may not see.
    """

    page_id: str
    title: str
    depth: int
    current_version: int
    findings: tuple[Finding, ...]
    readable: bool = True


@dataclass(frozen=True)
class Collected:
    """What one run found.

    :param pages: the guideline, in tree order.
    :param left_out: pages below the root that are not part of it.
    :param order: ids of all pages below the root, published or not, in tree order.
    :param findings: all findings of all pages.
    :param missing_sections: sections the project requires and no published page has.
    :param seen: the state to keep for the next run.
    :param read: ids of the pages whose bodies were read in this run.
    """

    pages: tuple[CollectedPage, ...]
    left_out: tuple[LeftOut, ...]
    order: tuple[str, ...]
    findings: tuple[Finding, ...]
    missing_sections: tuple[str, ...]
    seen: dict[str, Any]
    read: tuple[str, ...]


def collect(
    project: Project,
    confluence: ConfluenceClient,
    store: Store,
    seen: dict[str, Any] | None,
    *,
    resolve_user: ResolveUser | None = None,
    readers: int = READERS,
) -> Collected:
    """Return the project's guideline in its approved state.

    :param confluence: used by several threads at once, as the client allows.
    :param seen: ``Collected.seen`` of the last run, or None for the first.
    :param resolve_user: turns the account id of a mention into a name; without it the id is shown. Called by several
        threads at once.
    :param readers: how many changed pages are read at the same time.
    :raises InvalidInput: when the root page is not in the space. A single bad page never raises: it becomes a finding.
    :raises Unsupported: the project takes content states for approval, and this Confluence has none.
    :raises OutsideError: as the gateway does: that of the first page in tree order of which one was raised. No further
        page is begun then.
    """
    if readers < 1:
        raise InvalidInput(f"readers: found {readers}; allowed: 1 or more")
    return _Run(project, confluence, store, seen or {}, resolve_user or (lambda account: None), readers).collect()


def rows(collected: Collected) -> list[dict[str, Any]]:
    """Return the batch that the gate checks, one row per page of the tree, left-out pages included.

    ``sections_missing`` concerns the guideline as a whole and stands on the root's row, which is the first. Kilobytes
    are rounded up, so that a limit of ``n`` kilobytes is kept exactly when the number is at most ``n``.
    """
    published = {page.page_id: page for page in collected.pages}
    left_out = {page.page_id: page for page in collected.left_out}
    batch = []
    for position, page_id in enumerate(collected.order):
        page = published.get(page_id)
        either = page or left_out[page_id]
        missing = collected.missing_sections if position == 0 else ()
        kinds = [finding.kind for finding in either.findings]
        batch.append(
            {
                "row_id": page_id,
                "title": either.title,
                "version": page.version if page else either.current_version,
                "approved": page is not None,
                "readable": page is not None or left_out[page_id].readable,
                "sections_missing": ", ".join(missing),
                "sections_missing_count": len(missing),
                "includes_missing": kinds.count("include_missing"),
                "images_unresolved": sum(kind in UNRESOLVED for kind in kinds),
                "largest_image_kilobytes": _kilobytes(page.largest_image_bytes) if page else 0,
                "html_kilobytes": _kilobytes(page.html_bytes) if page else 0,
                "text_characters": page.text_characters if page else 0,
                "unknown_macros": kinds.count("unknown_macro"),
            }
        )
    return batch


def _kilobytes(size: int) -> int:
    return -(-size // 1024)


@dataclass
class _Entry:
    """What ``seen`` keeps of a page.

    :param version: the version that was judged; 0 makes the next run look again.
    :param doubted: the version whose state said that it is not approved, at the first look at it.
    """

    version: int
    doubted: int = 0
    digest: str | None = None
    title: str = ""
    approved: Approved | None = None
    cleared: bool = False
    labelled: list[int] = field(default_factory=list)
    html: str | None = None
    sections: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    text_characters: int = 0
    html_bytes: int = 0
    largest_image_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    render_findings: list[Finding] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    hides_excerpt: bool = False

    def value(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in _PLAIN_FIELDS},
            **({"doubted": self.doubted} if self.doubted else {}),
            "approved": self.approved.value() if self.approved else None,
            "findings": [finding.value() for finding in self.findings],
            "images": [image.value() for image in self.images],
            "includes": [[one.title, one.space_key, one.excerpt] for one in self.includes],
            "hides_excerpt": self.hides_excerpt,
            "render_findings": [finding.value() for finding in self.render_findings],
        }

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> _Entry:
        entry = cls(**{name: value[name] for name in _PLAIN_FIELDS}, doubted=value.get("doubted", 0))
        entry.approved = Approved.from_value(value["approved"])
        entry.includes = [Include(*one) for one in value.get("includes", ())]
        entry.hides_excerpt = value.get("hides_excerpt", False)
        entry.findings = [Finding(*finding) for finding in value["findings"]]
        entry.render_findings = [Finding(*finding) for finding in value["render_findings"]]
        entry.images = [
            Image(image["filename"], image["name"], image["object"], image["bytes"]) for image in value["images"]
        ]
        return entry


_PLAIN_FIELDS = (
    "version",
    "digest",
    "title",
    "cleared",
    "labelled",
    "html",
    "sections",
    "text_characters",
    "html_bytes",
    "largest_image_bytes",
)


class _Run:
    def __init__(
        self,
        project: Project,
        confluence: ConfluenceClient,
        store: Store,
        seen: dict[str, Any],
        resolve_user: ResolveUser,
        readers: int,
    ) -> None:
        self.project = project
        self.readers = readers
        self.settings = project.confluence.guideline
        self.mark = self.settings.approved
        self.confluence = confluence
        self.store = store
        self.resolve_user = resolve_user
        # an approval under another mark says nothing about this one
        trusted = seen.get("format") == SEEN_FORMAT and seen.get("mark") == self.mark.model_dump(mode="json")
        self.space_known = seen.get("space") if seen.get("format") == SEEN_FORMAT else None
        self.before = {
            page_id: _Entry.from_value(value) for page_id, value in (seen.get("pages", {}) if trusted else {}).items()
        }
        self.rendering = digest_of([RENDERER, self.settings.max_image_kilobytes])
        self.stale = seen.get("rendering") != self.rendering
        self.read: list[str] = []
        self.attachments: dict[str, dict[str, Attachment]] = {}
        # Threads that ask for the same attachments, or keep the same bytes, take turns.
        self.listing_turn: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self.keeping_turn = tuple(threading.Lock() for _ in range(16))
        self.turns = threading.Lock()
        self.bodies: _Bodies | None = None

    def collect(self) -> Collected:
        if self.mark.by == "state" and not self.confluence.supports("content_state"):
            raise Unsupported(
                f"project {self.project.name}: confluence.guideline.approved: found by: state, but this Confluence "
                f"({self.confluence.flavour}) has no content states; allowed are by: label and by: property",
                system="confluence",
            )
        self._list()
        tree = self._tree()
        self.inside = {page.id for page, _ in tree}
        hidden = self._hidden(tree[0][0])
        order = (*(page.id for page, _ in tree), *(page.page_id for page in hidden))
        self.labelled = self._labelled([page for page, _ in tree])
        entries = self._entries([page for page, _ in tree])
        pages: list[CollectedPage] = []
        left_out: list[LeftOut] = []
        for page, depth in tree:
            entry = entries[page.id]
            findings = (*entry.findings, *entry.render_findings)
            if entry.approved is None or entry.html is None:
                left_out.append(LeftOut(page.id, page.title, depth, page.version.number, findings))
            else:
                pages.append(self._collected(page, depth, entry, findings))
        pages = [self._with_missing_includes(page, entries) for page in pages]
        left_out += hidden
        told = set(order)
        reported = [finding for page in pages for finding in page.findings]
        reported += [finding for page in left_out for finding in page.findings]
        reported += [
            Finding("page_removed", page_id, f"{entry.title!r} is no longer below the guideline's root: it is left out")
            for page_id, entry in sorted(self.before.items())
            if page_id not in told and entry.html is not None
        ]
        reported += self._no_pages()
        return Collected(
            pages=tuple(pages),
            left_out=tuple(left_out),
            order=order,
            findings=tuple(reported),
            missing_sections=self._missing_sections(pages),
            seen=self._seen(entries),
            read=tuple(self.read),
        )

    def _seen(self, entries: dict[str, _Entry]) -> dict[str, Any]:
        return {
            "format": SEEN_FORMAT,
            "mark": self.mark.model_dump(mode="json"),
            "pages": {page_id: entry.value() for page_id, entry in sorted(entries.items())},
            "rendering": self.rendering,
            "space": {"id": self.space_id, "key": self.project.confluence.space},
        }

    def _missing_sections(self, pages: list[CollectedPage]) -> tuple[str, ...]:
        present = {" ".join(section.split()).casefold() for page in pages for section in (page.title, *page.sections)}
        return tuple(
            section
            for section in self.settings.required_sections
            if " ".join(section.split()).casefold() not in present
        )

    # the listing and the tree

    def _list(self) -> None:
        key = self.project.confluence.space
        known = self.space_known
        if known and known.get("key") == key:
            self.space_id = str(known["id"])
            try:
                self.listing = list(self.confluence.pages_in_space(self.space_id))
            except NotFound:
                # the space was deleted and made anew under its old key
                known = None
        if not known or known.get("key") != key:
            self.space_id = self.confluence.space(key).id
            self.listing = list(self.confluence.pages_in_space(self.space_id))
        self.by_title = {page.title.casefold(): page for page in self.listing}

    def _tree(self) -> list[tuple[Page, int]]:
        root = next((page for page in self.listing if page.title == self.settings.root), None)
        if root is None:
            near = difflib.get_close_matches(self.settings.root, [page.title for page in self.listing], n=3)
            hint = f"; near it: {', '.join(map(repr, near))}" if near else ""
            raise InvalidInput(
                f"project {self.project.name}: confluence.guideline.root: found {self.settings.root!r}, but space "
                f"{self.project.confluence.space} has no current page of that title among its {len(self.listing)}{hint}"
            )
        listed = {page.id for page in self.listing}
        self.below = self._below(root, listed)
        children: dict[str | None, list[Page | Node]] = defaultdict(list)
        for page in self.listing:
            children[page.parent_id].append(page)
        for node in self.below:
            if node.id not in listed:
                children[node.parent_id].append(node)
        return list(_walk(root, children))

    def _below(self, root: Page, listed: set[str]) -> list[Node]:
        """Return all that is below the root, in so far as the listing of pages may not tell it by itself."""
        joined = all(page.parent_id is None or page.parent_id in listed for page in self.listing)
        if joined and self.confluence.flavour == "datacenter":
            # there, the tree is made of pages alone
            return []
        return list(self.confluence.descendants(root.id))

    def _hidden(self, root: Page) -> list[LeftOut]:
        """Return the pages that belong here and that the account may not see: without them the guideline has a hole.

        :raises Unavailable: a listing lacks a page which is there. A later one has it again.
        """
        belonging = {node.id: node.title for node in self.below if node.kind == "page"}
        belonging |= {page_id: entry.title for page_id, entry in self.before.items() if entry.html is not None}
        hidden = []
        for page_id in sorted({*belonging, *self.before} - self.inside):
            try:
                page = self.confluence.page(page_id)
                still_here = page.status == "current" and root.id in self.confluence.pages_above(page_id)
            except NotFound:
                if page_id not in belonging or page_id in self.settings.purged:
                    continue
                detail = (
                    f"{belonging[page_id]!r} belongs to the guideline, and the account may not see it: give it the "
                    "right, or, where it was deleted for good, add its id to confluence.guideline.purged"
                )
                finding = Finding("page_hidden", page_id, detail)
                hidden.append(LeftOut(page_id, belonging[page_id], 1, 0, (finding,), readable=False))
                continue
            if still_here:
                raise Unavailable(
                    f"confluence: the listing of space {self.project.confluence.space} lacks page {page_id}, which is "
                    "there: it is listed again later",
                    system="confluence",
                )
        return hidden

    def _no_pages(self) -> Iterator[Finding]:
        for node in self.below:
            if node.kind not in ("page", *SHAPES_WITHOUT_TEXT):
                detail = f"{node.kind} {node.title!r} is below the guideline's root; only pages are shown"
                yield Finding("no_page", node.id, detail)

    def _with_missing_includes(self, page: CollectedPage, entries: dict[str, _Entry]) -> CollectedPage:
        """Add a finding for each text that belongs into a page and is not published with it."""
        missing = []
        for one in entries[page.page_id].includes:
            found = self.by_title.get(one.title.casefold()) if self._in_space(one.space_key) else None
            entry = entries.get(found.id) if found else None
            if entry is None or entry.html is None or (one.excerpt and entry.hides_excerpt):
                what = "excerpt" if one.excerpt else "text"
                where = "" if self._in_space(one.space_key) else f" of space {one.space_key}"
                detail = f"it includes the {what} of page {one.title!r}{where}, which the guideline does not show"
                missing.append(Finding("include_missing", page.page_id, detail))
        return replace(page, findings=(*page.findings, *missing)) if missing else page

    def _in_space(self, key: str | None) -> bool:
        return not key or key == self.project.confluence.space

    # labels: listings that serve all pages at once

    def _labelled(self, pages: list[Page]) -> dict[str, set[int]]:
        """Return, per page id, the versions its labels name; a plain label names no version and stands as 0."""
        marked: dict[str, set[int]] = defaultdict(set)
        if self.mark.by != "label":
            return marked
        space = self.project.confluence.space
        if VERSION_PLACEHOLDER not in self.mark.value:
            for page_id in self.confluence.pages_with_label(space, self.mark.value):
                marked[page_id].add(0)
            return marked
        # one listing per version number in question, since a label says nothing to a search but its whole name
        asked: set[int] = set()
        for page in pages:
            before = self.before.get(page.id)
            asked.add(page.version.number)
            if before is not None:
                asked.update(before.labelled)
        for number in sorted(asked):
            for page_id in self.confluence.pages_with_label(
                space, self.mark.value.replace(VERSION_PLACEHOLDER, str(number))
            ):
                marked[page_id].add(number)
        return marked

    def _labels_now(self, page_id: str) -> list[int]:
        """Return what the page's labels say at this moment, in the shape of :meth:`_labelled`.

        The listing is a search, whose index lags: it tells where to look, never what to approve or withdraw. Labels
        that approve nothing are read twice: a withdrawal that nobody made would let the next label approve any text.
        """
        return self._approving_labels(page_id) or self._approving_labels(page_id)

    def _approving_labels(self, page_id: str) -> list[int]:
        labels = {label.lower() for label in self.confluence.labels(page_id)}
        value = self.mark.value.lower()
        if VERSION_PLACEHOLDER not in value:
            return [0] if value in labels else []
        shape = re.compile(re.escape(value).replace(re.escape(VERSION_PLACEHOLDER), r"([1-9]\d{0,8})"))
        return sorted(int(found.group(1)) for found in map(shape.fullmatch, labels) if found)

    def _changed(self, page: Page) -> bool:
        before = self.before.get(page.id)
        return before is None or before.version != page.version.number

    # one page

    def _entries(self, pages: list[Page]) -> dict[str, _Entry]:
        """Return each page's entry, in the order given: as it was, or read now."""
        entries = {page.id: self._as_before(page) for page in pages}
        changed = [page for page in pages if entries[page.id] is None]
        self.read = [page.id for page in changed]
        if self.mark.by == "state" and len(changed) > 1:
            # Not for labels, which must be read before the text, nor for rows, which are judged by text alone.
            self.bodies = _Bodies(self.confluence, self.read)
        if len(changed) < 2 or self.readers == 1:
            found = map(self._entry, changed)
            entries.update(zip(self.read, found, strict=True))
        else:
            with ThreadPoolExecutor(min(self.readers, len(changed)), thread_name_prefix="pages") as pool:
                # In order, so the first error met is the first page's; it cancels what has not begun.
                entries.update(zip(self.read, pool.map(self._entry, changed), strict=True))
        return {page_id: entry for page_id, entry in entries.items() if entry is not None}

    def _as_before(self, page: Page) -> _Entry | None:
        """Return what is known of a page if nothing about it changed, else None."""
        before = self.before.get(page.id)
        if before is None or self._changed(page):
            return None
        if self.mark.by == "label" and sorted(self.labelled.get(page.id, ())) != before.labelled:
            return None
        return None if self._must_render(before) else before

    def _entry(self, page: Page) -> _Entry:
        before = self.before.get(page.id)
        labelled = sorted(self.labelled.get(page.id, ()))
        try:
            return self._look(page, before, labelled)
        except InvalidInput as error:
            return self._unreadable(page, before, labelled, page.version.number, str(error))
        except NotFound as error:
            # gone since the listing, or not yet visible everywhere: version 0 makes the next run look again
            return self._unreadable(page, before, labelled, 0, str(error))

    def _must_render(self, before: _Entry) -> bool:
        if before.approved is None:
            return False
        return self.stale or before.html is None or not self.store.has_object(before.html)

    def _unreadable(
        self, page: Page, before: _Entry | None, labelled: list[int], looked_at: int, reason: str
    ) -> _Entry:
        entry = _Entry.from_value(before.value()) if before else _Entry(looked_at, title=page.title)
        entry.version, entry.digest, entry.labelled = looked_at, None, labelled
        approved = entry.approved if entry.html is not None else None
        detail = f"version {page.version.number}: {reason}; {served(approved)}"
        entry.findings = [Finding("unreadable" if looked_at else "not_settled", page.id, detail)]
        return entry

    def _look(self, page: Page, before: _Entry | None, labelled: list[int]) -> _Entry:
        if self.mark.by == "label":
            labelled = self._labels_now(page.id)
        current = self.bodies.take(page.id) if self.bodies else self.confluence.page(page.id)
        if self.mark.by == "label" and current.version.number != page.version.number:
            # the labels were read between the two readings: nobody can say which of the two texts carried them
            entry = self._unreadable(page, before, labelled, 0, "it was edited while it was being read")
            entry.cleared = entry.cleared or not labelled
            return entry
        history = History(self.confluence, current)
        verdict = self._judge(history, before, labelled)
        entry = _Entry(
            version=current.version.number,
            approved=verdict.approved,
            cleared=verdict.cleared,
            labelled=labelled,
            findings=list(verdict.findings),
        )
        if not any(finding.kind == "unreadable" for finding in verdict.findings):
            entry.digest = history.digest(history.number)
        unapproved = entry.approved is None or entry.approved.version != entry.version or entry.cleared
        if self.mark.by == "state" and unapproved:
            self._doubt(entry, before)
        if entry.approved is None:
            entry.title = page.title
            return entry
        earlier = bool(entry.findings)
        if before is not None and self._same_rendering(before, entry):
            _keep_rendering(before, entry)
            entry.title = before.title if earlier else page.title
        else:
            self._render(history, entry, entry.approved)
            entry.title = history.page(entry.approved.version).title if earlier else page.title
        return entry

    def _doubt(self, entry: _Entry, before: _Entry | None) -> None:
        """Let the next run look again at a version that is not approved, once.

        A state is read by a request of its own, which may answer from before the approval; setting it is what made
        this version, so nothing about the page would ever bring another look.
        """
        if before is None or before.doubted != entry.version:
            entry.doubted, entry.version = entry.version, 0
        else:
            entry.doubted = entry.version

    def _judge(self, history: History, before: _Entry | None, labelled: list[int]) -> Verdict:
        known = before.approved if before else None
        if self.mark.by == "state":
            return by_state(self.mark, self._state_now(history.current.id), history, known)
        if self.mark.by == "property":
            return by_property(self.mark, history, known)
        cleared = before.cleared if before else False
        return by_label(self.mark, bool(labelled), frozenset(labelled), history, known, cleared)

    def _state_now(self, page_id: str) -> ContentState | None:
        """Return a page's state. One that approves nothing is read twice: a single reply may be old, or empty."""
        found = self.confluence.content_state(page_id)
        if found is None or found.name != self.mark.value:
            found = self.confluence.content_state(page_id)
        return found

    def _same_rendering(self, before: _Entry, entry: _Entry) -> bool:
        return (
            before.approved is not None
            and entry.approved is not None
            and before.approved.digest == entry.approved.digest
            and not self._must_render(before)
        )

    def _render(self, history: History, entry: _Entry, approved: Approved) -> None:
        pictures = _Pictures(self, history.current.id)
        rendered: Rendered = render(
            history.body(approved.version),
            resolve_link=self._resolve_link,
            resolve_image=pictures.resolve,
            resolve_user=self.resolve_user,
            page_id=history.current.id,
            heading_offset=2,
        )
        content = rendered.html.encode("utf-8")
        entry.html = self.keep(content)
        entry.html_bytes = len(content)
        entry.sections = rendered.sections
        entry.text_characters = rendered.text_characters
        entry.images = pictures.used
        entry.largest_image_bytes = pictures.largest
        entry.includes, entry.hides_excerpt = rendered.includes, rendered.hides_excerpt
        entry.render_findings = [*rendered.findings, *pictures.findings]

    def _resolve_link(self, title: str, space_key: str | None, anchor: str | None) -> str | None:
        if not self._in_space(space_key):
            return None
        page = self.by_title.get(title.casefold())
        if page is None:
            return None
        return f"#page-{page.id}" if page.id in self.inside else self.confluence.page_url(page) or None

    def keep(self, content: bytes) -> str:
        # Two threads with the same bytes would write the same file: the turn goes by what the bytes are.
        with self.keeping_turn[zlib.crc32(content) % len(self.keeping_turn)]:
            return self.store.put_object(content)

    def attached(self, page_id: str) -> dict[str, Attachment]:
        with self.turns:
            turn = self.listing_turn[page_id]
        with turn:
            if page_id not in self.attachments:
                self.attachments[page_id] = {item.title: item for item in self.confluence.attachments(page_id)}
            return self.attachments[page_id]

    def page_by_title(self, title: str) -> Page | None:
        return self.by_title.get(title.casefold())

    def _collected(self, page: Page, depth: int, entry: _Entry, findings: tuple[Finding, ...]) -> CollectedPage:
        if entry.approved is None or entry.html is None:
            raise AssertionError("only pages with an approved rendering are collected")
        return CollectedPage(
            page_id=page.id,
            title=entry.title,
            depth=depth,
            version=entry.approved.version,
            current_version=page.version.number,
            approver=entry.approved.approver,
            author=entry.approved.author,
            approved_at=entry.approved.when,
            mark=entry.approved.how,
            canonical_digest=entry.approved.digest,
            html_object=entry.html,
            sections=tuple(entry.sections),
            images=tuple(entry.images),
            text_characters=entry.text_characters,
            html_bytes=entry.html_bytes,
            largest_image_bytes=entry.largest_image_bytes,
            findings=findings,
        )


class _Bodies:
    """The current texts of changed pages, read some at a time, shortly before they are needed and by any thread."""

    def __init__(self, confluence: ConfluenceClient, ids: list[str]) -> None:
        self._confluence = confluence
        self._blocks = [_Block(ids[start : start + BODIES_AT_ONCE]) for start in range(0, len(ids), BODIES_AT_ONCE)]
        self._place = {page_id: number for number, block in enumerate(self._blocks) for page_id in block.ids}

    def take(self, page_id: str) -> Page:
        """Return a page with its text and forget it."""
        number = self._place[page_id]
        block = self._blocks[number]
        page = self._loaded(block).pop(page_id, None)
        if page_id == block.ids[0] and number + 1 < len(self._blocks):
            # The next ones, while the other threads are busy with these.
            self._loaded(self._blocks[number + 1])
        # What the listing of texts left out is asked for by itself, for only that answer says why.
        return page or self._confluence.page(page_id)

    def _loaded(self, block: _Block) -> dict[str, Page]:
        with block.turn:
            if block.pages is None:
                try:
                    block.pages = {page.id: page for page in self._confluence.pages(block.ids)}
                except (InvalidInput, NotFound):
                    # Which page it is about, the single readings will tell.
                    block.pages = {}
            return block.pages


class _Block:
    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        self.turn = threading.Lock()
        self.pages: dict[str, Page] | None = None


def _keep_rendering(before: _Entry, entry: _Entry) -> None:
    for name in (
        "html",
        "html_bytes",
        "sections",
        "text_characters",
        "images",
        "largest_image_bytes",
        "render_findings",
        "includes",
        "hides_excerpt",
    ):
        setattr(entry, name, getattr(before, name))


class _Pictures:
    """The images of one page: fetched once, checked for size and kind, kept in the store."""

    def __init__(self, run: _Run, page_id: str) -> None:
        self.run = run
        self.page_id = page_id
        self.limit = run.settings.max_image_kilobytes * 1024
        self.largest = 0
        self.used: list[Image] = []
        self.findings: list[Finding] = []
        self._known: dict[tuple[str, str], str | None] = {}

    def resolve(self, filename: str, page_title: str | None) -> str | None:
        holder = self.page_id
        if page_title is not None:
            page = self.run.page_by_title(page_title)
            if page is None:
                return None
            holder = page.id
        if (holder, filename) not in self._known:
            self._known[holder, filename] = self._fetch(holder, filename)
        return self._known[holder, filename]

    def _fetch(self, holder: str, filename: str) -> str | None:
        attachment = self.run.attached(holder).get(filename)
        if attachment is None:
            return None
        content = self._download(attachment)
        if content is None:
            limit = self.limit // 1024
            self._note(
                "image_too_large", f"image {filename!r} is over max_image_kilobytes {limit} ({self.largest:,} bytes)"
            )
            return None
        ending = _image_ending(content)
        if ending is None:
            self._note("image_type", f"image {filename!r} is not PNG, JPEG, GIF or WebP by its first bytes")
            return None
        digest = self.run.keep(content)
        image = Image(filename, f"{digest[:16]}.{ending}", digest, len(content))
        self.used.append(image)
        return f"images/{image.name}"

    def _download(self, attachment: Attachment) -> bytes | None:
        self.largest = max(self.largest, attachment.size)
        if attachment.size > self.limit:
            return None
        content = bytearray()
        for piece in self.run.confluence.download(attachment):
            content += piece
            self.largest = max(self.largest, len(content))
            if len(content) > self.limit:
                return None
        return bytes(content)

    def _note(self, kind: str, detail: str) -> None:
        self.findings.append(Finding(kind, self.page_id, detail))


def _image_ending(content: bytes) -> str | None:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if content[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return None


def _walk(root: Page, children: dict[str | None, list[Page | Node]]) -> Iterator[tuple[Page, int]]:
    """Yield the tree's pages in reading order: siblings by title, numbers in it as numbers ("2. b" before "10. a").

    What is no page has its place among its siblings and is no level of its own, for it is not shown.
    """
    waiting: list[tuple[Page | Node, int]] = [(root, 0)]
    met: set[str] = set()
    while waiting:
        found, depth = waiting.pop()
        if found.id in met:
            continue
        met.add(found.id)
        if isinstance(found, Page):
            yield found, depth
            depth += 1
        below = sorted(children.get(found.id, ()), key=_natural, reverse=True)
        waiting.extend((child, depth) for child in below)


def _natural(found: Page | Node) -> tuple[Any, ...]:
    # split puts the numbers at the odd places; a superscript is a digit too, but no number
    parts = _NUMBERS.split(found.title.casefold())
    return ([(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)], found.id)
