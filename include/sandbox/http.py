"""A small threaded HTTP server for the local stand-ins: routes, JSON, and faults that a test can switch on.

Standard library only, one thread a connection, loopback only. A fault acts on the wire, so a client meets what a
real network does to it: a refused or reset connection, a reply lost after the work was done, half a JSON document.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["App", "Fault", "HttpError", "Part", "Reply", "Request", "Server", "Unreadable", "json_reply"]


@dataclass(frozen=True)
class Part:
    """One part of a multipart body."""

    name: str
    filename: str | None
    content_type: str
    content: bytes


@dataclass(frozen=True)
class Request:
    """One request as it came in. ``path`` is decoded; header names are lower case."""

    method: str
    path: str
    target: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    values: Mapping[str, str] = field(default_factory=dict)

    def one(self, name: str, default: str = "") -> str:
        """Return a query parameter's last value."""
        return self.query.get(name, [default])[-1]

    def many(self, name: str) -> list[str]:
        """Return a list parameter, given by repetition or with commas."""
        return [item for value in self.query.get(name, []) for item in value.split(",") if item]

    def json(self) -> Any:
        """Return the body as JSON.

        :raises Unreadable: it is not.
        """
        try:
            return json.loads(self.body or b"null")
        except (ValueError, RecursionError) as error:
            raise Unreadable(400, {"message": "Bad request", "exception": f"unreadable body: {error}"}) from error

    def form(self) -> dict[str, str]:
        """Return a URL-encoded body's fields."""
        return {key: values[-1] for key, values in parse_qs(self.body.decode("utf-8")).items()}

    def parts(self) -> list[Part]:
        """Return a multipart body's parts."""
        head = b"Content-Type: " + self.headers.get("content-type", "").encode("latin-1") + b"\r\n\r\n"
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + self.body)
        return [
            Part(
                name=str(part.get_param("name", "", header="content-disposition")),
                filename=part.get_filename(),
                content_type=str(part.get("content-type", "")),
                content=bytes(part.get_payload(decode=True) or b""),
            )
            for part in message.iter_parts()
        ]


@dataclass
class Reply:
    """One reply."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class HttpError(Exception):
    """End the request with a status and a JSON body."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.reply = json_reply(body, status, headers)


class Unreadable(HttpError):
    """The body is not JSON."""


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return ``value`` as a JSON reply."""
    body = json.dumps(value, ensure_ascii=False).encode("utf-8")
    return Reply(status, body, {"Content-Type": "application/json;charset=UTF-8", **(headers or {})})


@dataclass
class Fault:
    """Something that goes wrong for the requests that match.

    :param match: whether this request is hit.
    :param kind: ``status`` (answer ``reply`` instead of working), ``reset_before`` and ``reset_after`` (the connection
        is reset before, or after, the work was done), ``truncate`` (half of the reply), ``garbage``, ``delay``
        (``seconds``), ``hold`` (wait before the work until ``release`` is set; ``reached`` is set on arrival),
        ``hold_after`` (the same, after it).
    :param times: how many requests it hits; None is all.
    """

    match: Callable[[Request], bool]
    kind: str
    times: int | None = 1
    reply: Reply | None = None
    seconds: float = 0.0
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    hits: int = 0


Handler = Callable[[Request], Reply]


class App:
    """Routes of one stand-in."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.before: list[Callable[[Request], Reply | None]] = []
        self._lock = threading.Lock()

    def route(self, method: str, template: str) -> Callable[[Handler], Handler]:
        """Serve ``method template``; ``{name}`` in the template matches one path segment."""
        pattern = re.compile(
            "".join(
                f"(?P<{piece[1:-1]}>[^/]+)" if piece.startswith("{") else re.escape(piece)
                for piece in re.split(r"(\{[a-z_]+\})", template)
            )
            + r"\Z"
        )

        def register(handler: Handler) -> Handler:
            self._routes.append((method, pattern, handler))
            return handler

        return register

    def fault(self, kind: str, match: Callable[[Request], bool] | None = None, **options: Any) -> Fault:
        """Switch a fault on and return it (``app.faults.clear()`` ends all)."""
        fault = Fault(match or (lambda request: True), kind, **options)
        self.faults.append(fault)
        return fault

    def handle(self, request: Request) -> Reply:
        """Answer one request, without faults."""
        for gate in self.before:
            early = gate(request)
            if early is not None:
                return early
        other_methods = []
        for method, pattern, handler in self._routes:
            found = pattern.match(request.path)
            if not found:
                continue
            if method != request.method:
                other_methods.append(method)
                continue
            values = {name: unquote(value) for name, value in found.groupdict().items()}
            return handler(
                Request(
                    request.method, request.path, request.target, request.query, request.headers, request.body, values
                )
            )
        if other_methods:
            return Reply(405, b"<html>Method Not Allowed</html>", {"Content-Type": "text/html"})
        return Reply(404, b"<html><title>404</title></html>", {"Content-Type": "text/html"})

    def pick_fault(self, request: Request) -> Fault | None:
        """Return the fault that hits this request, counting it."""
        with self._lock:
            self.requests.append((request.method, request.target))
            for fault in self.faults:
                if (fault.times is None or fault.hits < fault.times) and fault.match(request):
                    fault.hits += 1
                    return fault
        return None


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Threaded

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the stand-in's state tells what happened."""

    def _serve(self) -> None:
        app = self.server.app
        split = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command,
            path=unquote(split.path) if "%2F" not in split.path.upper() else split.path,
            target=self.path,
            query=parse_qs(split.query, keep_blank_values=True),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length) if length else b"",
        )
        fault = app.pick_fault(request)
        kind = fault.kind if fault else ""
        if fault and kind == "reset_before":
            return self._reset()
        if fault and kind == "delay":
            time.sleep(fault.seconds)
        if fault and kind == "hold":
            fault.reached.set()
            fault.release.wait()
        if fault and kind == "status" and fault.reply:
            return self._send(fault.reply)
        try:
            reply = app.handle(request)
        except HttpError as error:
            reply = error.reply
        if fault and kind == "hold_after":
            fault.reached.set()
            fault.release.wait()
        if fault and kind == "reset_after":
            return self._reset()
        if fault and kind == "truncate":
            reply = Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers)
        if fault and kind == "garbage":
            reply = Reply(reply.status, b"\x00<not what was asked for", reply.headers)
        self._send(reply)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _serve

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def handle(self) -> None:
        """Serve the connection; a client that went away is no error."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def finish(self) -> None:
        """Close quietly, also after a reset."""
        try:
            super().finish()
        except (OSError, ValueError):
            return


class _Threaded(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    app: App

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a handler's own error show in the test that caused it."""
        import traceback

        traceback.print_exc()


class Server:
    """An :class:`App` on a loopback port, in a thread of its own.

    :param port: 0 takes a free one.
    """

    def __init__(self, app: App, port: int = 0) -> None:
        self._server = _Threaded(("127.0.0.1", port), _Connection)
        self._server.app = app
        self.app = app
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def start(self) -> Server:
        """Start serving and return self."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()
