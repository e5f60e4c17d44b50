"""Atlassian's gateway in front of the local Confluence: tokens that hold scopes, or end, and what each call needs.

A request to ``/ex/confluence/<cloud id>/...`` reaches the site without that prefix, as its holder's, when its token has
the scope of the call. Scopes are those that the published descriptions name as current: granular ones for v2, classic
ones for v1.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace

from include.sandbox.http import HttpError, Reply, Request, json_reply

__all__ = ["SCOPES", "Gateway", "Token", "scopes_needed"]

PREFIX = "/ex/confluence/"
V2, V1 = "/wiki/api/v2", "/wiki/rest/api"

SCOPES: tuple[tuple[str, str, tuple[str, ...]], ...] = tuple(
    (methods, prefix + pattern, tuple(scopes.split()))
    for methods, prefix, pattern, scopes in (
        ("GET", V2, "/spaces", "read:space:confluence"),
        ("POST", V2, "/spaces", "write:space:confluence"),
        ("GET", V2, "/spaces/*", "read:space:confluence"),
        ("GET", V2, "/spaces/*/pages", "read:page:confluence"),
        ("GET", V2, "/pages", "read:page:confluence"),
        ("POST", V2, "/pages", "write:page:confluence"),
        ("GET", V2, "/pages/*", "read:page:confluence"),
        ("PUT", V2, "/pages/*", "write:page:confluence"),
        ("DELETE", V2, "/pages/*", "delete:page:confluence"),
        ("GET", V2, "/pages/*/versions", "read:page:confluence"),
        ("GET", V2, "/*/*/descendants", "read:hierarchical-content:confluence"),
        ("GET", V2, "/*/*/ancestors", "read:content.metadata:confluence"),
        ("POST", V2, "/folders", "write:folder:confluence"),
        ("GET", V2, "/pages/*/labels", "read:page:confluence"),
        ("GET", V2, "/pages/*/attachments", "read:attachment:confluence"),
        ("GET", V2, "/pages/*/properties", "read:page:confluence"),
        ("POST", V2, "/pages/*/properties", "read:page:confluence write:page:confluence"),
        ("GET", V2, "/pages/*/properties/*", "read:page:confluence"),
        ("PUT DELETE", V2, "/pages/*/properties/*", "read:page:confluence write:page:confluence"),
        ("GET", V2, "/attachments/*/properties", "read:attachment:confluence"),
        ("POST", V2, "/attachments/*/properties", "read:attachment:confluence write:attachment:confluence"),
        ("GET", V2, "/attachments/*/properties/*", "read:attachment:confluence"),
        ("PUT DELETE", V2, "/attachments/*/properties/*", "read:attachment:confluence write:attachment:confluence"),
        ("GET", V2, "/pages/*/footer-comments", "read:comment:confluence"),
        ("GET", V2, "/pages/*/inline-comments", "read:comment:confluence"),
        ("POST", V2, "/footer-comments", "write:comment:confluence"),
        ("POST", V2, "/inline-comments", "write:comment:confluence"),
        ("PUT", V2, "/inline-comments/*", "write:comment:confluence"),
        ("GET", V2, "/tasks", "read:task:confluence"),
        ("GET", V2, "/tasks/*", "read:task:confluence"),
        ("PUT", V2, "/tasks/*", "write:task:confluence"),
        ("GET", V1, "/user/current", "read:confluence-user"),
        ("GET", V1, "/group/picker", "read:confluence-groups"),
        ("GET", V1, "/user/watch/content/*", "read:confluence-content.summary"),
        ("POST DELETE", V1, "/user/watch/content/*", "write:confluence-content"),
        ("GET", V1, "/content/search", "search:confluence"),
        ("POST DELETE", V1, "/content/*/label", "write:confluence-content"),
        ("GET", V1, "/content/*/state", "read:confluence-content.summary"),
        ("PUT", V1, "/content/*/state", "write:confluence-content"),
        ("POST", V1, "/content/*/child/attachment", "write:confluence-file"),
        ("PUT", V1, "/content/*/child/attachment/*", "write:confluence-file write:confluence-props"),
        ("POST", V1, "/content/*/child/attachment/*/data", "write:confluence-file"),
        ("GET", V1, "/content/*/child/attachment/*/download", "readonly:content.attachment:confluence"),
        ("GET", V1, "/content/*/restriction", "read:confluence-content.all"),
        ("GET", V1, "/content/*/restriction/byOperation", "read:confluence-content.all"),
        ("PUT DELETE", V1, "/content/*/restriction", "write:confluence-content"),
    )
)


@dataclass(frozen=True)
class Token:
    """A token that the gateway knows.

    :param scopes: what it may be used for; None for everything its holder may do.
    :param oauth: an OAuth 2 access token, sent as a bearer; else a scoped API token, sent with the holder's e-mail.
    """

    account_id: str
    scopes: frozenset[str] | None = None
    oauth: bool = False


def scopes_needed(method: str, path: str) -> tuple[str, ...] | None:
    """Return the scopes that a call of the site needs, or None for a path that is not in the table."""
    for methods, pattern, scopes in SCOPES:
        if method in methods.split() and re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]+"), path):
            return scopes
    return None


class Gateway:
    """The gateway's tokens, by their text. They are kept in memory, and end with :meth:`expire`."""

    def __init__(self, cloud_id: str = "local-cloud-id") -> None:
        self.cloud_id = cloud_id
        self._tokens: dict[str, Token] = {}

    def add(self, text: str, token: Token) -> None:
        """Make a token known."""
        self._tokens[text] = token

    def expire(self, text: str) -> None:
        """Let a token end."""
        self._tokens.pop(text, None)

    def tenant_info(self, request: Request) -> Reply:
        """Tell the site's id at the gateway, which anybody may ask for."""
        return json_reply({"cloudId": self.cloud_id})

    def account(self, request: Request) -> str | None:
        """Return whose request came through the gateway, or None for one that went to the site itself."""
        return request.values.get("_account")

    def pass_on(self, request: Request) -> Request:
        """Return the request as the site gets it.

        :raises HttpError: the gateway refuses it; or it went past the gateway with a token that only the gateway takes,
            which the container in front of the site answers in HTML.
        """
        scheme, text, email = _credential(request)
        token = self._tokens.get(text)
        if not request.path.startswith(PREFIX):
            if token is not None and request.path.startswith((V1, V2)):
                raise _Html(401, "HTTP Status 401 - Unauthorized")
            return request
        cloud_id, _, rest = request.path.removeprefix(PREFIX).partition("/")
        if cloud_id != self.cloud_id:
            raise HttpError(404, {"code": 404, "message": "No cloud site of this id"})
        passed = replace(request, path="/" + rest)
        if token is None:
            if scheme == "basic" and email:
                return passed
            raise HttpError(401, {"code": 401, "message": "Unauthorized"})
        if token.oauth != (scheme == "bearer"):
            raise HttpError(401, {"code": 401, "message": "Unauthorized"})
        needed = scopes_needed(request.method, passed.path)
        if token.scopes is not None and needed is not None and not set(needed) <= token.scopes:
            raise HttpError(401, {"code": 401, "message": "Unauthorized; scope does not match"})
        return replace(passed, values={"_account": token.account_id})


class _Html(HttpError):
    def __init__(self, status: int, title: str) -> None:
        super().__init__(status, None)
        page = f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
        self.reply = Reply(status, page.encode(), {"Content-Type": "text/html;charset=utf-8"})


def _credential(request: Request) -> tuple[str, str, str]:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return "bearer", value, ""
    try:
        email, _, text = base64.b64decode(value).decode("utf-8").partition(":")
    except ValueError:
        return "", "", ""
    return "basic", text, email
