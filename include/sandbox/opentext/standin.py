"""OpenText Workflow Service on loopback: tokens, processes, variables, comments, tasks, models and history over HTTP.

Paths, statuses and shapes follow what is known of the service; where only Flowable is known, Flowable. Models run
through gateways, timers and called processes. Left out, and refused where a model needs it: scripts, service tasks,
messages, signals, escalations, errors, sub-processes, repeated tasks. Not known of the real service, so switches here:
whether a service token may claim and complete (no), whether the list of waiting tasks tells their ids in the model
(no), whether a historic task names its completer (no), whether history has comments (yes), which outcomes are refused
(none; a gateway that fits no outcome refuses).
"""

from __future__ import annotations

from include.sandbox.http import json_reply
from include.sandbox.opentext import pages
from include.sandbox.opentext.attachments import Attachments
from include.sandbox.opentext.comments import Comments
from include.sandbox.opentext.models import Models
from include.sandbox.opentext.processes import Processes
from include.sandbox.opentext.service import Subject
from include.sandbox.opentext.wire import HISTORY, RUN, TENANT

__all__ = ["OpenTextStandIn", "Subject"]


class OpenTextStandIn(Processes, Attachments, Comments, Models):
    """The service, all parts of it; for the parameters see :class:`Service`."""

    def _routes(self) -> None:
        self.app.route("POST", TENANT)(self._inside(self._token))
        self.app.route("GET", "/_sandbox/snapshot")(lambda request: json_reply(self.state.counts()))
        self.app.route("GET", "/")(lambda request: pages.process_list(self.state))
        self.app.route("GET", "/processes/{process}")(lambda request: pages.process_page(self.state, request))
        for method, path, handler in (
            ("POST", f"{RUN}/process-instances", self._start),
            ("GET", f"{RUN}/process-instances", self._running),
            ("GET", f"{RUN}/process-instances/{{process}}", self._one_running),
            ("DELETE", f"{RUN}/process-instances/{{process}}", self._terminate),
            ("POST", f"{RUN}/process-instances/{{process}}/variables", self._create_variables),
            ("PUT", f"{RUN}/process-instances/{{process}}/variables/{{name}}", self._update_variable),
            ("GET", f"{RUN}/process-instances/{{process}}/comments", self._comments),
            ("POST", f"{RUN}/process-instances/{{process}}/comments", self._add_comment),
            ("GET", f"{RUN}/tasks", self._tasks),
            ("GET", f"{RUN}/tasks/{{task}}", self._one_task),
            ("POST", f"{RUN}/tasks/{{task}}", self._act),
            ("PUT", f"{RUN}/tasks/{{task}}", self._update_task),
            ("GET", f"{RUN}/tasks/{{task}}/attachments", self._attachments),
            ("POST", f"{RUN}/tasks/{{task}}/attachments", self._add_attachment),
            ("GET", f"{RUN}/tasks/{{task}}/attachments/{{attachment}}/content", self._attachment_content),
            ("POST", f"{RUN}/tasks/{{task}}/comments", self._add_task_comment),
            ("GET", f"{RUN}/runtime/models", self._models),
            ("POST", f"{RUN}/runtime/models", self._deploy),
            ("GET", f"{RUN}/runtime/models/{{model}}", self._one_model),
            ("GET", f"{HISTORY}/historic-process-instances", self._ended_or_not),
            ("GET", f"{HISTORY}/historic-process-instances/{{process}}", self._one_historic),
            ("GET", f"{HISTORY}/historic-process-instances/{{process}}/comments", self._historic_comments),
            ("POST", f"{HISTORY}/historic-process-instances/{{process}}/comments", self._add_historic_comment),
            ("GET", f"{HISTORY}/historic-task-instances", self._historic_tasks),
        ):
            self.app.route(method, path)(self._signed_in(handler))
