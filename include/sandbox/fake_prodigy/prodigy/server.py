"""The HTTP side: the routes that public clients use, and a plain page to label on."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prodigy.core import Controller

_REPOSITORY = Path(__file__).resolve().parents[4]
if str(_REPOSITORY) not in sys.path:
    # `python -m prodigy` may be started from any folder; the little HTTP server is shared with the other stand-ins.
    sys.path.append(str(_REPOSITORY))

from include.sandbox.http import App, HttpError, Reply, Request, Server, json_reply  # noqa: E402

__all__ = ["build_app", "run"]

LOOPBACK = ("localhost", "127.0.0.1")
PAGE = Path(__file__).with_name("page.html")


def build_app(controller: Controller) -> App:
    """Return the routes over a controller."""
    app = App()
    app.before.append(_refuse_foreign_session(controller))

    @app.route("GET", "/health")
    def health(request: Request) -> Reply:
        return json_reply({"status": "alive"})

    @app.route("GET", "/")
    def page(request: Request) -> Reply:
        return Reply(200, PAGE.read_bytes(), {"Content-Type": "text/html; charset=utf-8"})

    @app.route("GET", "/project")
    def project(request: Request) -> Reply:
        return json_reply(_project(controller, None))

    @app.route("GET", "/project/{session}")
    def project_of(request: Request) -> Reply:
        return json_reply(_project(controller, request.values["session"]))

    @app.route("POST", "/get_session_questions")
    def questions(request: Request) -> Reply:
        name = _body(request).get("session_id")
        tasks = controller.get_questions(name)
        return json_reply(
            {
                "tasks": tasks,
                "total": controller.total_annotated,
                "progress": controller.progress(),
                "progress_kind": None,
                "session_id": controller.session_name(name),
            }
        )

    @app.route("POST", "/validate_answer")
    def validate(request: Request) -> Reply:
        try:
            controller.validate(_body(request)["answer"])
        except Exception as error:
            return json_reply({"error": str(error)}, 400)
        return json_reply({})

    @app.route("POST", "/give_answers")
    def answers(request: Request) -> Reply:
        body = _body(request)
        given = body.get("answers")
        if not isinstance(given, list) or not all(isinstance(answer, dict) for answer in given):
            raise HttpError(422, {"detail": "answers: expected a list of objects"})
        saved = controller.receive_answers(given, body.get("session_id"))
        return json_reply({"progress": controller.progress(), "saved": saved, "total": controller.total_annotated})

    return app


def _refuse_foreign_session(controller: Controller) -> Callable[[Request], Reply | None]:
    """Return a gate that answers 403 to a session that may not be opened."""

    def gate(request: Request) -> Reply | None:
        opens = request.path in ("/project", "/get_session_questions", "/give_answers")
        if not opens and not request.path.startswith("/project/"):
            return None
        name = request.path.removeprefix("/project").lstrip("/") or None
        if request.method == "POST":
            name = _body(request).get("session_id")
        try:
            controller.open_session(name)
        except PermissionError as error:
            return json_reply({"detail": str(error)}, 403)
        return None

    return gate


def _body(request: Request) -> dict[str, Any]:
    value = request.json()
    if not isinstance(value, dict):
        raise HttpError(422, {"detail": "expected a JSON object"})
    return value


def _project(controller: Controller, name: str | None) -> dict[str, Any]:
    """Return what the page needs to know, opening the session as a page load does."""
    session = controller.reload(name)
    keys = ("labels", "relations_span_labels", "choice_style", "batch_size")
    shown = {key: controller.config[key] for key in keys if key in controller.config}
    instructions = controller.config.get("instructions")
    return {
        "dataset": controller.dataset,
        "view_id": controller.view_id,
        "session_id": session.name,
        "config": shown,
        "instructions": Path(instructions).read_text("utf-8") if instructions else "",
    }


def run(controller: Controller) -> None:
    """Serve until the process is asked to end.

    :raises ValueError: for a host that is not this machine: the stand-in is loopback only.
    :raises OSError: when the port is taken.
    """
    if controller.config["host"] not in LOOPBACK:
        raise ValueError(f"host {controller.config['host']!r}: the stand-in serves {' or '.join(LOOPBACK)} only")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Server(build_app(controller), int(controller.config["port"])) as server:
        print(f"Starting the web server at {server.url}", flush=True)
        print(json.dumps({"dataset": controller.dataset, "session": controller.start_session}), flush=True)
        ended.wait()
    if controller.on_exit:
        controller.on_exit(controller)
    controller.db.close()
