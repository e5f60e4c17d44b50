"""Who may take a task, and what is attached to it."""

from __future__ import annotations

import json
import uuid
from typing import Any

from include.sandbox.http import Reply, Request, json_reply
from include.sandbox.opentext.service import Subject
from include.sandbox.opentext.shapes import bad_request, hal, missing, utc_time
from include.sandbox.opentext.tasks import Tasks
from include.sandbox.opentext.wire import assignment_links, read_body

__all__ = ["Links"]

_KINDS = ("candidate", "participant", "assignee", "owner")


class Links(Tasks):
    """Links between tasks and people, and attachments."""

    # --- assignments -----------------------------------------------------------------------------------------------

    def _assignments(self, request: Request, subject: Subject) -> Reply:
        return json_reply(assignment_links(self._task(request)))

    def _link_of(self, request: Request) -> dict[str, str]:
        """Return the link that a request names: in its body, its query, or (Flowable's way) its path."""
        if "family" in request.values:
            family = {"users": "user", "groups": "group"}.get(request.values["family"])
            found = {family or "": request.values["identity"], "type": request.values["kind"]}
        else:
            found = read_body(request) if request.body else {name: request.one(name) for name in request.query}
        link = {name: str(found[name]) for name in ("type", "user", "group") if found.get(name)}
        if link.get("type") not in _KINDS:
            raise bad_request("The identity link type is required.")
        if ("user" in link) == ("group" in link):
            raise bad_request("Only one of user or group should be set.")
        return link

    def _add_assignment(self, request: Request, subject: Subject) -> Reply:
        task, link = self._task(request), self._link_of(request)
        self._change_link(task, link, add=True)
        return json_reply(link, 201)

    def _remove_assignment(self, request: Request, subject: Subject) -> Reply:
        task, link = self._task(request), self._link_of(request)
        if link not in assignment_links(task):
            raise missing(f"Task '{task['id']}' does not have this identity link.")
        self._change_link(task, link, add=False)
        return Reply(204)

    def _change_link(self, task: Any, link: dict[str, str], *, add: bool) -> None:
        kind = link["type"]
        if kind in ("assignee", "owner"):
            if "user" not in link:
                raise bad_request(f"The {kind} is a user.")
            self.state.update("task", task["id"], **{kind: link["user"] if add else None})
            return
        if kind == "participant":
            column, name = "participants", next(f"{who}:{link[who]}" for who in ("user", "group") if who in link)
        else:
            column, name = ("groups", link["group"]) if "group" in link else ("users", link["user"])
        names = [one for one in json.loads(task[column]) if one != name]
        self.state.update("task", task["id"], **{column: json.dumps([*names, name] if add else names)})

    # --- attachments -----------------------------------------------------------------------------------------------

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

    def _one_attachment(self, request: Request, subject: Subject) -> Reply:
        return json_reply(
            self._attachment_json(self._attachment_row(self._task(request), request.values["attachment"]))
        )

    def _attachment_content(self, request: Request, subject: Subject) -> Reply:
        found = self._attachment_row(self._task(request), request.values["attachment"])
        if found["content"] is None:
            raise missing(f"Attachment with id '{found['id']}' doesn't have content associated with it.")
        return Reply(200, bytes(found["content"]), {"Content-Type": "application/octet-stream"})

    def _delete_attachment(self, request: Request, subject: Subject) -> Reply:
        found = self._attachment_row(self._task(request), request.values["attachment"])
        self.state.delete("attachment", found["id"])
        return Reply(204)
