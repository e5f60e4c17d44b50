"""Comments on processes and their tasks, running or ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from include.base.errors import NotFound, OutsideError, Unsupported
from include.systems.http import read_json, segment
from include.systems.opentext.values import ProcessComment
from labelops.hooks.opentext.history import History
from labelops.hooks.opentext.values import SYSTEM, as_object, comment_of, with_task

__all__ = ["Comments"]


class Comments(History):
    """Comments."""

    def comments(self, process_id: str) -> list[ProcessComment]:
        """Return the comments on a process and on its tasks, each once, oldest first, running or ended.

        Comments on tasks come with the lists of waiting and of ended tasks (``includeTaskComments``). A process that
        has ended is asked for in history.

        :raises NotFound: neither running nor in history.
        :raises Unsupported: it has ended and the tenant's history has no comments under ``history_comments``.
        """
        found = list(self._process_comments(process_id))
        for item in self._list(
            self.settings.at("tasks"),
            "tasks",
            {"processInstanceIdWithChildren": process_id, "includeTaskComments": "true"},
        ):
            found += [with_task(comment, item) for comment in item.get("comments") or []]
        for item in self._historic_tasks(process_id, includeTaskComments="true"):
            found += [with_task(comment, item) for comment in item.get("comments") or []]
        # The same comment can come with its process and with its task; only the latter may say which task it is on.
        once: dict[str, ProcessComment] = {}
        for comment in map(comment_of, found):
            if comment.id not in once or once[comment.id].task_id is None:
                once[comment.id] = comment
        start = datetime.min.replace(tzinfo=UTC)
        return sorted(once.values(), key=lambda comment: comment.time or start)

    def _process_comments(self, process_id: str) -> Iterator[dict[str, Any]]:
        try:
            yield from self._list(
                f"{self.settings.at('process-instances')}/{segment(process_id)}/comments", "comments", {}
            )
            return
        except NotFound:
            self.history(process_id)
        try:
            yield from self._list(self._ended_comments(process_id), "comments", {})
        except (NotFound, Unsupported) as error:
            raise _no_comments_in_history(error) from error

    def add_comment(self, process_id: str, message: str) -> ProcessComment:
        """Comment on a process, running or ended. Sent once: the caller looks through :meth:`comments` first.

        :raises NotFound: neither running nor in history.
        :raises Unsupported: it has ended and the tenant takes no comment then.
        """
        body = {"includeUserIds": False, "message": message}
        running = f"{self.settings.at('process-instances')}/{segment(process_id)}/comments"
        try:
            response = self._request("POST", running, json=body)
        except NotFound:
            self.history(process_id)
            try:
                response = self._request("POST", self._ended_comments(process_id), json=body)
            except (NotFound, Unsupported) as error:
                raise _no_comments_in_history(error) from error
        return comment_of(as_object(read_json(response, SYSTEM)))

    def delete_comment(self, process_id: str, comment_id: str) -> bool:
        """Delete a comment on a running process; return whether it was there.

        :raises NotFound: the process is not running.
        """
        path = f"{self.settings.at('process-instances')}/{segment(process_id)}/comments"
        try:
            self._request("DELETE", f"{path}/{segment(comment_id)}", idempotent=True)
        except NotFound:
            # Refused for want of the comment, or of the process? The list tells.
            if any(item.get("id") == comment_id for item in self._list(path, "comments", {})):
                raise
            return False
        return True

    def _ended_comments(self, process_id: str) -> str:
        return self.settings.history + self.settings.history_comments.replace("{id}", segment(process_id))


def _no_comments_in_history(error: OutsideError) -> Unsupported:
    return Unsupported(
        f"{SYSTEM}: the process has ended and the tenant's history has no comments at the address of the connection's "
        f"extra `history_comments` ({error})",
        system=SYSTEM,
        status=error.status,
    )
