"""A space in memory that counts what is asked of it, and rewrites storage as the server does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from include.base.errors import NotFound
from include.systems.confluence.values import Attachment, ContentState, Node, Page, PageVersion, Space

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"


class FakeConfluence:
    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.now = START
        self.history: dict[str, list[Page]] = {}
        self.page_labels: dict[str, set[str]] = {}
        self.states: dict[str, ContentState] = {}
        self.files: dict[str, dict[str, tuple[Attachment, bytes]]] = {}
        self.shapes: dict[str, Node] = {}
        self.unseen: set[str] = set()

    # what people do

    def tick(self) -> datetime:
        self.now += timedelta(minutes=10)
        return self.now

    def write(
        self, page_id: str, body: str, *, title: str = "", parent: str | None = None, author: str = "acc-olga"
    ) -> Page:
        before = self.history.get(page_id)
        number = before[-1].version.number + 1 if before else 1
        page = Page(
            id=page_id,
            title=title or (before[-1].title if before else f"Page {page_id}"),
            space_id="77",
            status="current",
            version=PageVersion(number, self.tick(), author),
            parent_id=before[-1].parent_id if before else parent,
            body=body,
        )
        self.history.setdefault(page_id, []).append(page)
        return page

    def rewrite_in_place(self, page_id: str, body: str) -> None:
        """What an inline comment does: another body, the same version."""
        self.history[page_id][-1] = replace(self.history[page_id][-1], body=body)

    def set_state(self, page_id: str, name: str | None, *, author: str = "acc-greta") -> None:
        page = self.write(page_id, self.history[page_id][-1].body or "", author=author)
        if name is None:
            self.states.pop(page_id, None)
        else:
            self.states[page_id] = ContentState(1, name, "#00ff00", page.version.created + timedelta(seconds=1))

    def label(self, page_id: str, name: str) -> None:
        self.page_labels.setdefault(page_id, set()).add(name)

    def unlabel(self, page_id: str, name: str) -> None:
        self.page_labels[page_id].discard(name)

    def attach(self, page_id: str, name: str, content: bytes = PNG, *, size: int | None = None) -> None:
        item = Attachment(f"att{name}", page_id, name, "image/png", len(content) if size is None else size, 1, "")
        self.files.setdefault(page_id, {})[name] = (item, content)

    def shape(self, shape_id: str, title: str, *, parent: str, kind: str = "folder") -> None:
        """What is no page in the tree."""
        self.shapes[shape_id] = Node(shape_id, title, parent, kind, 0)

    def hide(self, page_id: str) -> None:
        """What a restriction does to an account that it leaves out."""
        self.unseen.add(page_id)

    def reset(self) -> None:
        self.requests.clear()

    # what the gateway does

    flavour = "cloud"

    def supports(self, operation: str) -> bool:
        return True

    def space(self, key: str) -> Space:
        self.requests["space"] += 1
        return Space("77", key, "Labelling")

    def pages_in_space(self, space_id: str) -> Iterator[Page]:
        if space_id != "77":
            raise NotFound(f"no space {space_id}", system="confluence", status=404)
        for place, versions in enumerate(list(self.history.values())):
            if place % 250 == 0:
                self.requests["listing"] += 1
            if versions[-1].id not in self.unseen:
                yield replace(versions[-1], body=None)

    def descendants(self, page_id: str) -> Iterator[Node]:
        self.requests["descendants"] += 1
        below: dict[str | None, list[Node]] = defaultdict(list)
        for page in (versions[-1] for versions in self.history.values()):
            below[page.parent_id].append(Node(page.id, page.title, page.parent_id, "page", 0))
        for shape in self.shapes.values():
            below[shape.parent_id].append(shape)
        waiting, met = [page_id], {page_id}
        while waiting:
            for node in below[waiting.pop()]:
                if node.id not in met:
                    met.add(node.id)
                    waiting.append(node.id)
                    yield node

    def pages_above(self, page_id: str) -> list[str]:
        self.requests["ancestors"] += 1
        found, above = [], self.history[page_id][-1].parent_id
        while above is not None and above not in found:
            found.insert(0, above)
            above = self.shapes[above].parent_id if above in self.shapes else self.history[above][-1].parent_id
        return [each for each in found if each in self.history]

    def page(self, page_id: str, *, version: int | None = None) -> Page:
        self.requests["page"] += 1
        if page_id in self.unseen or page_id not in self.history:
            raise NotFound(f"no page {page_id}", system="confluence", status=404)
        versions = self.history[page_id]
        return versions[-1] if version is None else versions[version - 1]

    def pages(self, ids: list[str]) -> Iterator[Page]:
        self.requests["pages"] += 1
        yield from (self.history[page_id][-1] for page_id in ids if page_id in self.history)

    def versions(self, page_id: str) -> Iterator[PageVersion]:
        self.requests["versions"] += 1
        yield from (page.version for page in reversed(self.history[page_id]))

    def labels(self, page_id: str) -> list[str]:
        self.requests["labels"] += 1
        return sorted(self.page_labels.get(page_id, ()))

    def pages_with_label(self, space_key: str, label: str) -> Iterator[str]:
        self.requests["label listing"] += 1
        yield from [page_id for page_id, labels in self.page_labels.items() if label in labels]

    def content_state(self, page_id: str) -> ContentState | None:
        self.requests["state"] += 1
        return self.states.get(page_id)

    def attachments(self, page_id: str) -> Iterator[Attachment]:
        self.requests["attachments"] += 1
        yield from (item for item, _ in self.files.get(page_id, {}).values())

    def download(self, attachment: Attachment) -> Iterator[bytes]:
        self.requests["download"] += 1
        content = self.files[attachment.page_id][attachment.title][1]
        for start in range(0, len(content), 512):
            yield content[start : start + 512]

    def page_url(self, page: Page) -> str:
        return f"https://wiki.example/pages/{page.id}"
