"""What hangs on pages: labels, content states, attachments, properties, comments, inline tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import requests

from include.base.errors import Conflict, InvalidInput, InvalidReply, NotFound, Unavailable
from include.systems.confluence import storage
from include.systems.confluence.values import (
    Attachment,
    Comment,
    ContentState,
    InlineComment,
    InlineTask,
    Property,
    cql_text,
)
from include.systems.listing import Listing
from labelops.hooks.confluence import capabilities
from labelops.hooks.confluence.door import CLOCK_SKEW, Door, digest_of, drain, in_batches
from labelops.hooks.confluence.replies import SYSTEM

__all__ = ["Attached"]

CHUNK_BYTES = 64 * 1024
PROPERTY_BYTES = 32 * 1024
RESOLUTIONS = ("open", "reopened", "resolved", "dangling")
STATUSES = ("complete", "incomplete")


class Attached(Door):
    """What hangs on a page: labels, states, files, properties, comments, tasks."""

    # --- labels and states -----------------------------------------------------------------------------------------

    def labels(self, page_id: str) -> list[str]:
        """Return the names of a page's global labels, sorted."""
        site = self._site("labels")
        return sorted(drain(lambda place: site.labels(page_id, place), f"labels of page {page_id}"))

    def pages_with_label(self, space_key: str, label: str, *, resume: str | None = None) -> Listing[str]:
        """List the ids of a space's pages that carry a label.

        Search is an index: it lags behind, and does not see archived pages. An absence proves nothing.
        """
        site = self._site("pages_with_label")
        cql = f"label = {cql_text(label)} and space = {cql_text(space_key)} and type = page"
        return self._listing(
            f"pages of {space_key} with label {label}", lambda place: site.search_pages(cql, place), str, resume
        )

    def add_label(self, page_id: str, label: str) -> None:
        """Put a global label on a page; Confluence keeps labels in lower case. Doing it twice changes nothing."""
        site = self._site("add_label")
        if not label or label != label.lower() or any(character.isspace() for character in label):
            raise InvalidInput(f"confluence: label {label!r} must be lower case and hold no blanks")
        with self._writing(page_id):
            site.add_label(page_id, label)

    def remove_label(self, page_id: str, label: str) -> None:
        """Take a global label off a page; one that is not there is no error, a page that is not there is.

        :raises NotFound: no such page.
        """
        site = self._site("remove_label")
        if label not in self.labels(page_id):
            return
        try:
            with self._writing(page_id):
                site.remove_label(page_id, label)
        except NotFound:
            # Somebody was quicker, or an earlier try took effect without a reply.
            if label in self.labels(page_id):
                raise

    def content_state(self, page_id: str) -> ContentState | None:
        """Return the content state of the published page, or None.

        ``last_updated`` is the publication at which the state changed.
        """
        return self._site("content_state").content_state(page_id)

    # --- attachments -----------------------------------------------------------------------------------------------

    def attachments(self, page_id: str, *, resume: str | None = None) -> Listing[Attachment]:
        """List a page's current attachments."""
        site = self._site("attachments")
        return self._listing(
            f"attachments of page {page_id}",
            lambda place: site.attachments(page_id, None, place),
            lambda item: item.id,
            resume,
        )

    def download(self, attachment: Attachment) -> Iterator[bytes]:
        """Stream an attachment's bytes; whoever stops early has only a part, and an end without an error is the whole.

        A site may redirect to a media host with a token of its own: our credential never goes to another host.

        :raises InvalidReply: size or SHA-256 is not what was listed.
        :raises Unavailable: the stream broke off.
        """
        path = self._site("download").download_path(attachment)
        response = self._open()[0].open(path, scope=capabilities.DOWNLOAD)
        digest, size = sha256(), 0
        try:
            for chunk in response.iter_content(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
        except requests.exceptions.RequestException as error:
            raise Unavailable(
                f"confluence: {path}: the download broke off after {size} bytes", system=SYSTEM
            ) from error
        finally:
            response.close()
        if size != attachment.size or attachment.sha256 not in (None, digest.hexdigest()):
            raise InvalidReply(
                f"confluence: {path}: got {size} bytes that are not the {attachment.size} listed; list it again",
                system=SYSTEM,
            )

    def upload(self, page_id: str, name: str, content: bytes, media_type: str) -> tuple[Attachment, bool]:
        """Upload a file unless the same bytes are there; the flag says whether anything was sent.

        The file's SHA-256 is kept in the attachment's comment as ``sha256:<hex>``. A file of the same name gets a new
        version. A lost reply is settled by listing again.

        :raises InvalidInput: the name is empty or holds ``/``.
        """
        self._site("upload")
        if not name or "/" in name:
            raise InvalidInput(f"confluence: attachment name {name!r} must not be empty or hold a slash")
        digest = sha256(content).hexdigest()
        existing = self._named(page_id, name)
        if existing and existing.sha256 == digest and existing.size == len(content):
            return existing, False
        parts = {
            "file": (name, content, _with_charset(media_type)),
            # Without a charset Confluence reads a text part as Latin-1.
            "comment": (None, f"sha256:{digest}".encode(), "text/plain; charset=utf-8"),
            "minorEdit": (None, b"true", "text/plain; charset=utf-8"),
        }
        try:
            self._send_file(page_id, existing, parts)
        except Conflict:
            # The name was there after all: the list lagged behind.
            existing = self._named(page_id, name)
            if existing is None:
                raise
            if existing.sha256 != digest:
                self._send_file(page_id, existing, parts)
        except (Unavailable, InvalidReply):
            landed = self._named(page_id, name)
            if landed is None or landed.sha256 != digest or landed.size != len(content):
                raise
            return landed, True
        stored = self._named(page_id, name)
        if stored is None or stored.sha256 != digest:
            raise Unavailable(
                f"confluence: page {page_id} does not list the uploaded file yet; looking again later settles it",
                system=SYSTEM,
            )
        return stored, True

    def _named(self, page_id: str, name: str) -> Attachment | None:
        site = self._site()
        rows = drain(lambda place: site.attachments(page_id, name, place), f"attachments of page {page_id}")
        return next((item for item in rows if item.title == name), None)

    def _send_file(self, page_id: str, existing: Attachment | None, parts: Mapping[str, Any]) -> None:
        with self._writing(page_id):
            self._site().send_file(page_id, existing.id if existing else None, dict(parts))

    # --- properties ------------------------------------------------------------------------------------------------

    def properties(self, page_id: str, *, resume: str | None = None) -> Listing[Property]:
        """List a page's content properties, of every app that keeps some."""
        site = self._site("properties")
        return self._listing(
            f"properties of page {page_id}",
            lambda place: site.properties(page_id, None, place),
            lambda item: item.key,
            resume,
        )

    def property(self, page_id: str, key: str) -> Property | None:
        """Return a content property, or None."""
        site = self._site("property")
        rows = drain(lambda place: site.properties(page_id, key, place), f"properties of page {page_id}")
        return next((item for item in rows if item.key == key), None)

    def set_property(self, page_id: str, key: str, value: Any, read: Property | None) -> Property:
        """Create a property, or write the version after ``read``'s. Properties do not change the page's version.

        :raises Conflict: somebody else created or wrote it with another value.
        :raises InvalidInput: over 32 KB of JSON.
        """
        site = self._site("set_property")
        size = len(_json_bytes(value))
        if size > PROPERTY_BYTES:
            raise InvalidInput(
                f"confluence: property {key!r}: found {size} bytes of JSON, allowed are {PROPERTY_BYTES}"
            )
        if read is not None and read.key != key:
            raise InvalidInput(f"confluence: property {key!r}: what was read is {read.key!r}")
        try:
            with self._writing(page_id):
                if read is None:
                    return site.create_property(page_id, key, value)
                return site.write_property(page_id, read, value)
        except (Unavailable, InvalidReply, Conflict):
            now = self.property(page_id, key)
            expected = read.version + 1 if read else 1
            if now and now.version == expected and _json_bytes(now.value) == _json_bytes(value):
                return now
            raise

    # --- comments and tasks ----------------------------------------------------------------------------------------

    def footer_comments(self, page_id: str, *, resume: str | None = None) -> Listing[Comment]:
        """List a page's footer comments, oldest first.

        Author and time are those of the comment's latest version, so an edited comment counts as of its edit.
        """
        site = self._site("footer_comments")
        return self._listing(
            f"footer comments of page {page_id}",
            lambda place: site.footer_comments(page_id, place),
            lambda comment: comment.id,
            resume,
        )

    def add_footer_comment(self, page_id: str, body: str) -> Comment:
        """Write a footer comment and return it as stored.

        When the reply is lost, the page's comments are read: one of this account made just now with equal canonical
        text is ours; otherwise the loss is raised and nothing is sent twice.

        :param body: storage format.
        :raises NotFound: no such page.
        """
        site = self._site("add_footer_comment")
        started = datetime.now(UTC)
        try:
            with self._writing(page_id):
                return site.add_footer_comment(page_id, body)
        except (Unavailable, InvalidReply):
            for comment in self.footer_comments(page_id):
                if (
                    comment.version == 1
                    and comment.author_id == self.current_user().account_id
                    and comment.created >= started - CLOCK_SKEW
                    and storage.equal(comment.body, body)
                ):
                    return comment
            raise

    def inline_comments(
        self, page_id: str, resolution: str | None = None, *, resume: str | None = None
    ) -> Listing[InlineComment]:
        """List a page's inline comments, oldest first; all, or those of one resolution."""
        site = self._site("inline_comments")
        if resolution is not None and resolution not in RESOLUTIONS:
            raise InvalidInput(f"confluence: resolution: found {resolution!r}, allowed are {', '.join(RESOLUTIONS)}")
        return self._listing(
            f"inline comments of page {page_id}, {resolution or 'all'}",
            lambda place: site.inline_comments(page_id, resolution, place),
            lambda comment: comment.id,
            resume,
        )

    def inline_tasks(
        self, page_ids: Sequence[str], status: str | None = None, *, resume: str | None = None
    ) -> Listing[InlineTask]:
        """List the inline tasks of pages, many pages a request; all, or those of one status."""
        site, wanted = self._site("inline_tasks"), list(dict.fromkeys(page_ids))
        if status is not None and status not in STATUSES:
            raise InvalidInput(f"confluence: task status: found {status!r}, allowed are {', '.join(STATUSES)}")
        return self._listing(
            f"inline tasks of pages {digest_of(wanted)}, {status or 'all'}",
            in_batches(wanted, site.pages_at_once, lambda batch, place: site.inline_tasks(batch, status, place)),
            lambda task: task.id,
            resume,
        )

    def complete_task(self, task_id: str) -> InlineTask:
        """Tick an inline task and return it; ticking twice changes nothing.

        Whoever the credential belongs to is recorded as the one who did.

        :raises NotFound: no such task.
        """
        task = self._site("complete_task").complete_task(task_id)
        self._count_write(task.page_id)
        if task.status != "complete":
            raise InvalidReply(f"confluence: task {task_id} was ticked and is {task.status}", system=SYSTEM)
        return task


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _with_charset(media_type: str) -> str:
    return (
        f"{media_type}; charset=utf-8" if media_type.startswith("text/") and "charset" not in media_type else media_type
    )
