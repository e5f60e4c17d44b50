"""Pages that we write: found again by id or title, created once, updated where they differ, never somebody else's."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from include.base.errors import LabelopsError, NotFound, Refused
from include.projects.model import Project
from include.run.run import Effect
from include.systems.confluence import storage
from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.values import Page

__all__ = ["OwnedPage", "find", "write"]

PROPERTY = "labelops"
"""Key of the content property that says which pages are ours."""

File = tuple[str, str, bytes]
"""Name, media type and content of an attachment."""


@dataclass(frozen=True)
class OwnedPage:
    """A page of a project that we write. It goes below the project's ``report_parent``.

    :param kind: what it is, as its mark and its history name it.
    :param of: which of its kind, as the digest of a version; "" where a project has one.
    :param body: storage format.
    """

    project: Project
    kind: str
    title: str
    body: str
    of: str = ""
    files: tuple[File, ...] = ()

    @property
    def mark(self) -> dict[str, str]:
        """Return the value of the property that says that a page is this one."""
        return {"project": self.project.name, "kind": self.kind, **({"of": self.of} if self.of else {})}


def find(page: OwnedPage, known: str | None, confluence: ConfluenceClient) -> Page | None:
    """Return the page, by the id we remember or by its title; None where there is none, or it was removed.

    :raises Refused: when a page of that title is somebody else's, or ours for something else.
    """
    found = None
    if known:
        with suppress(NotFound):
            found = confluence.page(known)
    if found is None or found.status != "current":
        found = confluence.find_page(confluence.space(page.project.confluence.space).id, page.title)
    if found is None or found.status != "current":
        return None
    _require_ours(page, found, confluence)
    return found


def write(effect: Effect, page: OwnedPage, found: Page | None, confluence: ConfluenceClient) -> tuple[Page, int, int]:
    """Write the page and its files where they differ; return it, and how many were created and updated.

    :param found: the page as :func:`find` returned it.
    :raises Refused: when somebody edited it since we wrote it: their text is never overwritten.
    :raises Conflict: when somebody edits it while we do.
    """
    created = updated = 0
    effect.check()
    if found is None:
        found, created = _create(page, confluence), 1
    elif not storage.equal(found.body or "", page.body):
        found, updated = _update(page, found, confluence), 1
    for name, media_type, content in page.files:
        effect.check()
        attached, sent = confluence.upload(found.id, name, content, media_type)
        created += int(sent and attached.version == 1)
        updated += int(sent and attached.version > 1)
    effect.check()
    return found, created, updated


def _create(page: OwnedPage, confluence: ConfluenceClient) -> Page:
    space = confluence.space(page.project.confluence.space)
    parent = _parent(page.project, space.id, confluence)
    found = confluence.create_page(space.id, page.title, page.body, parent_id=parent)
    confluence.set_property(found.id, PROPERTY, page.mark, None)
    return found


def _update(page: OwnedPage, found: Page, confluence: ConfluenceClient) -> Page:
    if found.version.author_id != confluence.current_user().account_id:
        raise Refused(
            f"somebody edited the page {found.title!r} ({found.id}) since we wrote it: move their text to a page of "
            "their own and restore ours from its history"
        )
    return confluence.update_page(found, body=page.body, message=f"Labelops {page.kind}")


def _require_ours(page: OwnedPage, found: Page, confluence: ConfluenceClient) -> None:
    """Refuse a page that we did not create; one we created and were killed before marking is marked now."""
    mine = confluence.property(found.id, PROPERTY)
    if mine is None:
        if found.author_id != confluence.current_user().account_id or found.version.number != 1:
            raise Refused(
                f"the page {found.title!r} ({found.id}) exists and is not ours: rename it, or the project's title"
            )
        mine = confluence.set_property(found.id, PROPERTY, page.mark, None)
    if mine.value != page.mark:
        raise Refused(f"the page {found.title!r} ({found.id}) is ours for something else: {str(mine.value)[:120]}")


def _parent(project: Project, space_id: str, confluence: ConfluenceClient) -> str | None:
    if project.confluence.report_parent is None:
        return None
    parent = confluence.find_page(space_id, project.confluence.report_parent)
    if parent is None:
        raise LabelopsError(
            f"confluence.report_parent: no page {project.confluence.report_parent!r} in {project.confluence.space}"
        )
    return parent.id
