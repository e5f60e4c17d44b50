"""Comments on processes and tasks."""

from __future__ import annotations

from include.sandbox.http import Reply, Request, json_reply
from include.sandbox.opentext.history import History
from include.sandbox.opentext.service import Subject
from include.sandbox.opentext.shapes import bad_request, comment_json, hal
from include.sandbox.opentext.tasks import Tasks
from include.sandbox.opentext.wire import read_body

__all__ = ["Comments"]


class Comments(Tasks, History):
    """Comments, running or ended."""

    def _write_comment(self, request: Request, subject: Subject, process_id: str, task_id: str | None) -> Reply:
        message = read_body(request).get("message")
        if not isinstance(message, str) or not message:
            raise bad_request("Comment text is required.")
        comment_id = self._insert_comment(process_id, task_id, subject.name, message, self.clock())
        return json_reply(comment_json(self.state.row("SELECT * FROM comment WHERE id = ?", comment_id)), 201)

    def _comments(self, request: Request, subject: Subject) -> Reply:
        row = self._live(request.values["process"])
        return hal(request, "comments", [comment_json(item) for item in self._comment_rows(row["id"])], page=False)

    def _add_comment(self, request: Request, subject: Subject) -> Reply:
        return self._write_comment(request, subject, self._live(request.values["process"])["id"], None)

    def _add_task_comment(self, request: Request, subject: Subject) -> Reply:
        task = self._task(request)
        return self._write_comment(request, subject, task["process_id"], task["id"])

    def _historic_comments(self, request: Request, subject: Subject) -> Reply:
        row = self._historic_process(request)
        found = self._comment_rows(row["id"], self.clock() - self.history_lag_seconds)
        return hal(request, "comments", [comment_json(item) for item in found], page=False)

    def _add_historic_comment(self, request: Request, subject: Subject) -> Reply:
        return self._write_comment(request, subject, self._historic_process(request)["id"], None)
