"""What is attached to a task."""

from __future__ import annotations

import uuid
from typing import Any

from include.sandbox.http import Reply, Request, json_reply
from include.sandbox.opentext.service import Subject
from include.sandbox.opentext.shapes import bad_request, hal, missing, utc_time
from include.sandbox.opentext.tasks import Tasks
from include.sandbox.opentext.wire import read_body

__all__ = ["Attachments"]


class Attachments(Tasks):
    """Attachments: links and files."""

    def _attachment_json(self, row: Any) -> dict[str, Any]:
        return {
            "id": row["id"],
            "name": row["name"],
            "description": row["description"],
            "type": row["type"],
            "userId": row["author"],
            "externalUrl": row["url"],
            "time": utc_time(row["at"]),
        }

    def _attachments(self, request: Request, subject: Subject) -> Reply:
        task = self._task(request)
        rows = self.state.rows("SELECT * FROM attachment WHERE task_id = ? ORDER BY rowid", task["id"])
        return hal(request, "attachments", [self._attachment_json(row) for row in rows], page=False)

    def _add_attachment(self, request: Request, subject: Subject) -> Reply:
        task = self._task(request)
        content: bytes | None = None
        if request.headers.get("content-type", "").startswith("multipart/"):
            parts = {part.name: part for part in request.parts()}
            if "file" not in parts:
                raise bad_request("Attachment content is required.")
            content = parts["file"].content
            fields: dict[str, Any] = {
                name: part.content.decode("utf-8") for name, part in parts.items() if name != "file"
            }
        else:
            fields = read_body(request)
            if not fields.get("externalUrl"):
                raise bad_request("externalUrl is required.")
        if not fields.get("name"):
            raise bad_request("Attachment name is required.")
        attachment_id = str(uuid.uuid4())
        self.state.insert(
            "attachment",
            id=attachment_id,
            task_id=task["id"],
            name=str(fields["name"]),
            description=fields.get("description") or None,
            type=fields.get("type") or None,
            url=None if content is not None else str(fields["externalUrl"]),
            content=content,
            author=subject.name,
            at=self.clock(),
        )
        return json_reply(self._attachment_json(self._attachment_row(task, attachment_id)), 201)

    def _attachment_row(self, task: Any, attachment_id: str) -> Any:
        found = self.state.row("SELECT * FROM attachment WHERE id = ? AND task_id = ?", attachment_id, task["id"])
        if found is None:
            raise missing(f"Task '{task['id']}' does not have an attachment with id '{attachment_id}'.")
        return found

    def _attachment_content(self, request: Request, subject: Subject) -> Reply:
        found = self._attachment_row(self._task(request), request.values["attachment"])
        if found["content"] is None:
            raise missing(f"Attachment with id '{found['id']}' doesn't have content associated with it.")
        return Reply(200, bytes(found["content"]), {"Content-Type": "application/octet-stream"})
