"""A fault proxy: stands between a hook and a stand-in, and does to the connection what networks and servers do.

Everything is real on the wire: a refused connection has nobody listening, a reset is an RST, a reply cut short ends
before its ``Content-Length``. Faults are armed to hit the n-th request that matches, so that a schedule repeats itself.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, unquote, urlsplit

from include.sandbox.http import App, HttpError, Reply, Request

__all__ = ["WIRE_FAULTS", "Door", "WireFault"]

WRITES = frozenset({"POST", "PUT", "DELETE", "PATCH"})

WIRE_FAULTS = (
    "latency",
    "refused connection",
    "reset before effect",
    "reset after effect",
    "429",
    "429 with short Retry-After",
    "429 with long Retry-After",
    "500",
    "500 after effect",
    "502",
    "503",
    "504 after effect",
    "reply cut short",
    "half a JSON document",
    "garbage instead of JSON",
    "bad credential",
    "stale read",
)


@dataclass
class WireFault:
    """One thing that goes wrong on the wire.

    :param nth: which matching request is the first to be hit, from 1.
    :param times: how many matching requests in a row are hit; of a refused connection, how many attempts are.
    :param writes: whether only requests that write match.
    :param only: count only requests whose ``METHOD path`` holds this text.
    :param hits: what was hit, as ``METHOD path``.
    """

    kind: str
    nth: int = 1
    times: int = 1
    writes: bool = False
    only: str = ""
    seen: int = 0
    hits: list[str] = field(default_factory=list)

    def takes(self, method: str, path: str) -> bool:
        """Tell whether this request is hit, counting it."""
        if path.endswith("/oauth2/token") and self.kind == "bad credential":
            return False
        if self.only not in f"{method} {path}":
            return False
        if (self.writes and method not in WRITES) or (self.kind == "stale read" and method != "GET"):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class Door:
    """One proxy on a loopback port.

    :param name: what is behind it.
    :param notice: called with a fault when it hits, before it does.
    :ivar app: the stand-in behind it.
    """

    def __init__(self, name: str, notice: Callable[[WireFault], None]) -> None:
        self.name, self.notice = name, notice
        self.app = App()
        self.faults: list[WireFault] = []
        self.credentials: set[str] = set()
        self.refusals = 0
        self._lock = threading.Lock()
        self._old: dict[str, Reply] = {}
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        # Outside the range from which the kernel gives ports away: nobody takes it while it is closed.
        while self._listener is None:
            self.port = random.SystemRandom().randrange(20_000, 30_000)
            self._listener = self._listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """Begin anew: no faults, nothing remembered."""
        with self._lock:
            self.faults.clear()
            self._old.clear()
            self.credentials.clear()
            self.refusals = 0
        if self._listener is None:
            self._reopen()

    def close(self) -> None:
        """Stop listening and cut all connections."""
        self._shut()

    # --- refusing --------------------------------------------------------------------------------------------------

    def attempted(self) -> None:
        """Somebody is about to connect: after as many as the fault says, listen again."""
        with self._lock:
            if self._listener is not None:
                return
            self.refusals -= 1
            over = self.refusals < 0
        if over:
            self._reopen()

    def _listen(self) -> socket.socket | None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self.port))
        except OSError:
            listener.close()
            return None
        listener.listen(64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _reopen(self) -> None:
        for _ in range(200):
            self._listener = self._listen()
            if self._listener is not None:
                return
            time.sleep(0.01)
        raise OSError(f"port {self.port} is not free again")

    def _shut(self, keep: socket.socket | None = None) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            others = [one for one in self._open if one is not keep]
        for one in others:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            _Conversation(self, connection).talk()
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    # --- one request -----------------------------------------------------------------------------------------------

    def pick(self, method: str, path: str) -> WireFault | None:
        with self._lock:
            for fault in self.faults:
                if fault.takes(method, path):
                    return fault
        return None

    def hit(self, fault: WireFault, request: Request) -> None:
        fault.hits.append(f"{request.method} {request.path}")
        self.notice(fault)

    def remember(self, target: str, reply: Reply) -> Reply | None:
        """Keep a read's reply and return the one before."""
        with self._lock:
            before = self._old.get(target)
            self._old[target] = reply
        return before

    def refuse(self, attempts: int, keep: socket.socket) -> None:
        self.refusals = attempts
        self._shut(keep)


_STATUS = {"500": 500, "500 after effect": 500, "502": 502, "503": 503, "504 after effect": 504}
_AFTER = ("reset after effect", "500 after effect", "504 after effect")
_REASONS = {200: b"OK", 201: b"Created", 204: b"No Content"}
_JSON = {"Content-Type": "application/json"}
_HTML = Reply(0, b"<html>sorry</html>", {"Content-Type": "text/html"})


class _Conversation:
    """One connection: requests in, replies out, until somebody ends it."""

    def __init__(self, door: Door, connection: socket.socket) -> None:
        self.door, self.connection = door, connection
        self.stream = connection.makefile("rb")

    def talk(self) -> None:
        try:
            while (request := self._read()) is not None and self._relay(request):
                pass
        finally:
            self.stream.close()

    def _read(self) -> Request | None:
        line = self.stream.readline()
        if not line:
            return None
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = {}
        while (line := self.stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = self.stream.read(int(headers.get("content-length", 0)))
        split = urlsplit(target)
        path = unquote(split.path) if "%2F" not in split.path.upper() else split.path
        return Request(method, path, target, parse_qs(split.query, keep_blank_values=True), headers, body)

    def _relay(self, request: Request) -> bool:
        """Answer one request; return whether the connection goes on."""
        door = self.door
        credential = request.headers.get("authorization", "").partition(" ")[2]
        if credential:
            door.credentials.add(credential)
        fault = door.pick(request.method, request.path)
        kind = fault.kind if fault else ""
        if fault is None or kind == "stale read":
            reply = self._forward(request)
            if request.method == "GET":
                before = door.remember(request.target, reply)
                # What runs is read from the engine's own tables, and never stale; its history lags behind.
                lags = door.name != "opentext" or "history" in request.path
                if fault and before and before.body != reply.body and lags:
                    door.hit(fault, request)
                    reply = before
            return self._answer(request, reply)
        door.hit(fault, request)
        if kind == "refused connection":
            door.refuse(fault.times, self.connection)
            return self._reset()
        if kind == "reset before effect":
            return self._reset()
        if kind.startswith("429"):
            wait = "2" if "short" in kind else "120" if "long" in kind else ""
            more = {"Retry-After": wait} if wait else {}
            return self._answer(request, Reply(429, b'{"message":"slow down"}', {**_JSON, **more}))
        if kind in _STATUS and kind not in _AFTER:
            return self._answer(request, replace(_HTML, status=_STATUS[kind]))
        if kind == "latency":
            time.sleep(0.02)
        if kind == "bad credential":
            bad = "Bearer expired" if "Bearer" in request.headers.get("authorization", "") else "Basic bm86bm8="
            request = replace(request, headers={**request.headers, "authorization": bad})
        reply = self._forward(request)
        if kind == "reset after effect":
            return self._reset()
        if kind in _STATUS:
            return self._answer(request, replace(_HTML, status=_STATUS[kind]))
        if kind == "reply cut short":
            self._answer(request, reply, only=len(reply.body) // 2)
            return False
        if kind == "half a JSON document":
            reply = replace(reply, body=reply.body[: len(reply.body) // 2])
        if kind == "garbage instead of JSON":
            reply = replace(reply, body=b"\x00<html>not what was asked for")
        return self._answer(request, reply)

    def _forward(self, request: Request) -> Reply:
        try:
            return self.door.app.handle(request)
        except HttpError as error:
            return error.reply

    def _answer(self, request: Request, reply: Reply, only: int | None = None) -> bool:
        reason = _REASONS.get(reply.status, b"Other")
        head = [b"HTTP/1.1 %d %s" % (reply.status, reason), b"Content-Length: %d" % len(reply.body)]
        head += [f"{name}: {value}".encode("latin-1") for name, value in reply.headers.items()]
        body = b"" if request.method == "HEAD" else reply.body[:only]
        self.connection.sendall(b"\r\n".join(head) + b"\r\n\r\n" + body)
        return True

    def _reset(self) -> bool:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
