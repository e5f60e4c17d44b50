"""People's tasks: who may decide, who has them, what is attached, and the actions of people's clients.

Labelops itself lists tasks, reads them, and changes their due date and priority. It never claims, completes, delegates
or resolves a person's task in its use cases: those methods are for clients that people use, for tests, and for the
probe that finds out whether this token could.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from include.base.errors import InvalidInput, InvalidReply, NotFound, Unavailable, Unsupported
from include.systems.http import read_json, segment
from include.systems.listing import Listing
from include.systems.opentext.values import Assignment, Attachment, ProcessComment, UserTask
from labelops.hooks.opentext.history import History
from labelops.hooks.opentext.values import (
    SYSTEM,
    as_object,
    assignment,
    attachment,
    comment_of,
    user_task,
    with_task,
    write_variable,
)

__all__ = ["Tasks"]

log = logging.getLogger(__name__)

_LOST = (Unavailable, InvalidReply)
"""Errors after which a write may have taken effect: the reply did not come, or cannot be read."""

_FIELDS = (
    "assignee", "category", "description", "dueDate", "formKey", "name", "owner", "parentTaskId", "priority",
)  # fmt: skip
_LARGEST = 50_000_000


class Tasks(History):
    """Tasks that wait for people."""

    @property
    def groups(self) -> Mapping[str, str]:
        """Return role to candidate group in this tenant, as the connection's extra ``groups`` has it."""
        return self.settings.groups

    # --- reading ---------------------------------------------------------------------------------------------------

    def tasks(
        self,
        *,
        process_id: str | None = None,
        process_key: str | None = None,
        candidate_or_assigned: str | None = None,
        candidate_group: str | Iterable[str] | None = None,
        candidate_user: str | None = None,
        assignee: str | None = None,
        name: str | None = None,
        key: str | None = None,
        resume: str | None = None,
    ) -> Listing[UserTask]:
        """List waiting tasks, oldest first, that fit everything given; all of them where nothing is.

        :param process_id: in this process or one that it called.
        :param process_key: in processes of the model with this key.
        :param candidate_or_assigned: that this person (e-mail) has or may claim.
        :param candidate_group: offered to this group, or to any of several, and claimed by nobody.
        :param candidate_user: offered to this person, and claimed by nobody.
        :param assignee: that this person has.
        :param key: id in the model. The service has no such filter: chosen here, by the task's own field where the
            list carries it, else with the help of history, which may lag.
        :param resume: ``state`` of an earlier listing of the same tasks.
        """
        groups = [candidate_group] if isinstance(candidate_group, str) else list(candidate_group or ())
        chosen = {
            "processInstanceIdWithChildren": process_id,
            "processDefinitionKey": process_key,
            "candidateOrAssigned": candidate_or_assigned,
            "candidateGroup": groups[0] if len(groups) == 1 else None,
            "candidateGroups": ",".join(groups) if len(groups) > 1 else None,
            "candidateUser": candidate_user,
            "assignee": assignee,
            "name": name,
        }
        filters = {name: value for name, value in chosen.items() if value}
        told = " ".join(f"{name}={value}" for name, value in {**filters, "key": key}.items() if value)
        known: dict[str, set[str]] = {}

        def has_key(task: UserTask) -> bool:
            if key is None or task.key is not None:
                return key is None or task.key == key
            if "ids" not in known:
                known["ids"] = self._ids_with_key(key, process_id)
            return task.id in known["ids"]

        return self._listing(
            f"opentext tasks {told}".strip(),
            self.settings.at("tasks"),
            "tasks",
            {"includeTaskAssignments": "true", "sort": "createTime", "order": "asc", **filters},
            user_task,
            resume,
            has_key,
        )

    def _ids_with_key(self, key: str, process_id: str | None) -> set[str]:
        filters = {"taskDefinitionKey": key, "finished": "false"}
        if process_id:
            filters["processInstanceIdWithChildren"] = process_id
        path = self.settings.at("historic-task-instances")
        return {
            str(item["id"])
            for item in self._list(path, "historic-task-instances", filters)
            if item.get("taskDefinitionKey") == key
        }

    def task(self, task_id: str) -> UserTask:
        """Return a waiting task with its candidates and process variables.

        :raises NotFound: it does not wait (any more).
        """
        return user_task(
            self._get_object(
                self._task_path(task_id), {"includeTaskAssignments": "true", "includeProcessVariables": "true"}
            )
        )

    def task_comments(self, task_id: str) -> list[ProcessComment]:
        """Return the comments on a waiting task, oldest first.

        :raises NotFound: it does not wait (any more); :meth:`comments` of its process has them then.
        """
        item = self._get_object(self._task_path(task_id), {"includeTaskComments": "true"})
        return [comment_of(with_task(comment, item)) for comment in item.get("comments") or []]

    def add_task_comment(self, task_id: str, message: str) -> ProcessComment:
        """Comment on a waiting task; after a lost reply it is looked up before it is given up.

        :raises Unsupported: the tenant takes no comments on tasks; comment on the process instead.
        """
        before = {one.id for one in self.task_comments(task_id)}
        try:
            reply = self._request(
                "POST", f"{self._task_path(task_id)}/comments", json={"includeUserIds": False, "message": message}
            )
            return comment_of(as_object(read_json(reply, SYSTEM)))
        except NotFound as error:
            self.task(task_id)
            raise Unsupported(f"{SYSTEM}: tasks take no comments here ({error})", system=SYSTEM) from error
        except _LOST:
            for one in self.task_comments(task_id):
                if one.id not in before and one.message == message:
                    return one
            raise

    # --- actions of people's clients -------------------------------------------------------------------------------

    def claim(self, task_id: str, assignee: str) -> None:
        """Claim a task in a person's name; claiming again for the same person is fine. Labelops itself never does.

        :raises Conflict: somebody else holds it.
        """
        try:
            self._act(task_id, {"action": "claim", "assignee": assignee}, idempotent=True)
        except _LOST:
            if not self._is(task_id, lambda task: task.assignee == assignee):
                raise

    def complete(self, task_id: str, *, outcome: str | None = None, variables: Mapping[str, Any] | None = None) -> None:
        """Complete a task, with an outcome where the model has buttons, else with the form's variables. Sent once.

        Labelops itself never does: a decision is a person's. A lost reply is followed by a look: a task that does not
        wait any more and that history shows as completed was completed. It goes by the task's id alone, so a second
        call finds no task and never completes the one that came next.

        :raises NotFound: the task does not wait any more (somebody completed it).
        :raises Unavailable: no reply, and the task still waits: it may be tried again.
        """
        body: dict[str, Any] = {
            "action": "complete",
            "variables": [write_variable(name, value) for name, value in (variables or {}).items()],
        }
        if outcome is not None:
            body["outcome"] = outcome
        try:
            self._act(task_id, body)
        except _LOST:
            if not self._was_completed(task_id):
                raise
            log.warning("The reply to completing task %s was lost; it had been completed.", task_id)

    def delegate(self, task_id: str, assignee: str) -> None:
        """Hand a task to another person, who gives it back by :meth:`resolve`; the present assignee becomes its owner.

        Labelops itself never does.

        :raises InvalidInput: no person is named.
        """
        if not assignee:
            raise InvalidInput("delegate: a task is delegated to somebody; found no assignee")
        try:
            self._act(task_id, {"action": "delegate", "assignee": assignee})
        except _LOST:
            if not self._is(task_id, lambda task: task.assignee == assignee and task.delegation_state == "pending"):
                raise

    def resolve(self, task_id: str) -> None:
        """Give a delegated task back to its owner. Labelops itself never does."""
        try:
            self._act(task_id, {"action": "resolve"})
        except _LOST:
            if not self._is(task_id, lambda task: task.delegation_state == "resolved"):
                raise

    def unclaim(self, task_id: str) -> None:
        """Give a task back to its candidates, in the way that the connection's extra ``unclaim`` says.

        Labelops itself never does.
        """
        if self.settings.unclaim == "update":
            self.update_task(task_id, assignee=None)
            return
        try:
            self._act(task_id, {"action": "unclaim"}, idempotent=True)
        except _LOST:
            if not self._is(task_id, lambda task: task.assignee is None):
                raise

    def update_task(self, task_id: str, **fields: Any) -> UserTask:
        """Change a task's ``assignee``, ``description``, ``dueDate``, ``owner``, ``priority``, …; None clears one.

        Only the fields given are sent, and the task is read back.

        :raises InvalidInput: a field that the service's task has not, or a time without a zone.
        """
        unknown = sorted(set(fields) - set(_FIELDS))
        if unknown:
            raise InvalidInput(f"task field: found {', '.join(unknown)}; allowed: {', '.join(_FIELDS)}")
        body = {
            name: write_variable(name, value)["value"] if isinstance(value, datetime) else value
            for name, value in fields.items()
        }
        if body:
            self._request("PUT", self._task_path(task_id), json=body, idempotent=True)
        # Read back, for the reply of a change may be empty.
        return user_task(self._get_object(self._task_path(task_id), {"includeTaskAssignments": "true"}))

    # --- who may take a task ---------------------------------------------------------------------------------------

    def assignments(self, task_id: str) -> list[Assignment]:
        """Return the persons and groups linked to a waiting task."""
        return [assignment(item) for item in self._some(f"{self._task_path(task_id)}/assignments", "assignments")]

    def add_assignment(self, task_id: str, link: Assignment) -> bool:
        """Link a person or a group to a waiting task; return whether it was not linked before."""
        body = _link(link)
        if link in self.assignments(task_id):
            return False
        try:
            self._request("POST", f"{self._task_path(task_id)}/assignments", json=body)
        except _LOST:
            if link not in self.assignments(task_id):
                raise
        return True

    def remove_assignment(self, task_id: str, link: Assignment) -> bool:
        """Remove a link; return whether it was there. How the link is named is the extra ``assignment_removal``."""
        body = _link(link)
        if link not in self.assignments(task_id):
            return False
        path, how = f"{self._task_path(task_id)}/assignments", self.settings.assignment_removal
        family, name = ("users", link.user) if link.user else ("groups", link.group)
        try:
            if how == "path":
                self._request("DELETE", f"{path}/{family}/{segment(str(name))}/{segment(link.kind)}", idempotent=True)
            elif how == "query":
                self._request("DELETE", path, params=body, idempotent=True)
            else:
                self._request("DELETE", path, json=body, idempotent=True)
        except NotFound:
            self.task(task_id)  # gone with its task is an error, gone before us is not
        return True

    # --- attachments -----------------------------------------------------------------------------------------------

    def attachments(self, task_id: str) -> list[Attachment]:
        """Return what is attached to a waiting task."""
        return [attachment(item) for item in self._some(f"{self._task_path(task_id)}/attachments", "attachments")]

    def add_attachment(
        self, task_id: str, name: str, *, url: str | None = None, content: bytes | None = None, description: str = ""
    ) -> Attachment:
        """Attach a link (``url``) or a file (``content``) to a waiting task. Sent once.

        A reply that was lost is looked up: an attachment of this name that was not there before is the one.

        :raises InvalidInput: neither or both are given, or more than 50 MB.
        """
        if (url is None) == (content is None):
            raise InvalidInput("attachment: give either a url or content")
        if content is not None and len(content) > _LARGEST:
            raise InvalidInput(f"attachment {name!r}: {len(content)} bytes; at most {_LARGEST} are sent")
        before = {one.id for one in self.attachments(task_id)}
        path = f"{self._task_path(task_id)}/attachments"
        fields = {"name": name, "description": description, "type": "link" if content is None else "file"}
        try:
            if content is None:
                reply = self._request("POST", path, json={**fields, "externalUrl": url})
            else:
                parts = {field: (None, value) for field, value in fields.items()}
                reply = self._request("POST", path, files={**parts, "file": (name, content)})
            return attachment(as_object(read_json(reply, SYSTEM)))
        except (*_LOST, KeyError):
            for one in self.attachments(task_id):
                if one.id not in before and (one.name, one.url) == (name, url):
                    return one
            raise

    def attachment(self, task_id: str, attachment_id: str) -> Attachment:
        """Return one attachment, without its content."""
        return attachment(self._get_object(self._attachment_path(task_id, attachment_id), {}))

    def attachment_content(self, task_id: str, attachment_id: str) -> bytes:
        """Return the bytes of an attached file.

        :raises NotFound: there is none, or it is a link, which has an address and no bytes.
        """
        path = self._attachment_path(task_id, attachment_id) + self.settings.attachment_content
        return self._request("GET", path).content

    def delete_attachment(self, task_id: str, attachment_id: str) -> bool:
        """Delete an attachment from a waiting task; return whether it was there."""
        try:
            self._request("DELETE", self._attachment_path(task_id, attachment_id), idempotent=True)
        except NotFound:
            self.task(task_id)
            return False
        return True

    # ---------------------------------------------------------------------------------------------------------------

    def _task_path(self, task_id: str) -> str:
        return f"{self.settings.at('tasks')}/{segment(task_id)}"

    def _attachment_path(self, task_id: str, attachment_id: str) -> str:
        return f"{self._task_path(task_id)}/attachments/{segment(attachment_id)}"

    def _act(self, task_id: str, body: Mapping[str, Any], idempotent: bool | None = None) -> None:
        self._request("POST", self._task_path(task_id), json=body, idempotent=idempotent)

    def _is(self, task_id: str, wanted: Any) -> bool:
        """Tell whether a task waits and is as an action would have made it."""
        try:
            return bool(wanted(self.task(task_id)))
        except NotFound:
            return False

    def _was_completed(self, task_id: str) -> bool:
        try:
            self.task(task_id)
        except NotFound:
            ended = self.historic_task(task_id)
            return ended is not None and ended.ended is not None and ended.delete_reason in (None, "", "completed")
        return False

    def _some(self, path: str, collection: str) -> list[dict[str, Any]]:
        """Return a short list that may come bare, as Flowable's does, or in ``_embedded``."""
        reply = self._get_json(path, {})
        return [as_object(item) for item in reply] if isinstance(reply, list) else self._elements(reply, collection)


def _link(link: Assignment) -> dict[str, str]:
    if bool(link.user) == bool(link.group):
        raise InvalidInput(f"assignment: names either a user or a group; found {link}")
    return {"type": link.kind, **({"user": link.user} if link.user else {"group": str(link.group)})}
