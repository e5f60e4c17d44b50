"""What Confluence refuses, the stand-ins refuse: with the status and words of the service, and with nothing changed.

The bodies of the refusals are held to the contract by ``tests/contracts/plugin.py``. Every call that the stand-in for
Cloud answers is refused without a credential and without the scope that the contract names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from include.sandbox.confluence import ConfluenceStandIn, DataCenterStandIn, SandboxUser
from include.sandbox.confluence.gateway import Token
from include.sandbox.http import Server
from tests.contracts import confluence
from tests.contracts.contract import ABSENT, SPECS

ANNA = SandboxUser("acc-anna", "Anna", "anna@labelops.example", "token-of-anna")
BEN = SandboxUser("acc-ben", "Ben", "ben@labelops.example", "token-of-ben")
V2, V1, REST = "/wiki/api/v2", "/wiki/rest/api", "/rest/api"
LARGE = "<p>" + "x" * (5 * 1024 * 1024) + "</p>"
NOCHECK = {"X-Atlassian-Token": "no-check"}
FILES = {"file": ("a.txt", b"x", "text/plain"), "minorEdit": (None, b"true", "text/plain; charset=utf-8")}
NOWHERE = "999999"


class Site:
    """A site of one flavour with two pages, each known by a name in braces."""

    def __init__(self, stand_in: ConfluenceStandIn, url: str) -> None:
        self.stand_in, self.url = stand_in, url
        self.cloud = not isinstance(stand_in, DataCenterStandIn)
        self.names: dict[str, str] = {"nowhere": NOWHERE}

    def send(self, method: str, path: str, user: SandboxUser = ANNA, **parts: Any) -> requests.Response:
        login = user.email if self.cloud else user.email.partition("@")[0]
        return requests.request(method, self.url + path, auth=(login, user.token), timeout=20, **parts)

    def made(self, method: str, path: str, **parts: Any) -> Any:
        reply = self.send(method, path, **parts)
        assert reply.ok, reply.text
        return reply.json()

    def filled(self, value: Any) -> Any:
        """Return a request with its names replaced."""
        if isinstance(value, str):
            return re.sub(r"\{(\w+)\}", lambda found: self.names[found[1]], value)
        if isinstance(value, dict):
            return {name: self.filled(item) for name, item in value.items()}
        return [self.filled(item) for item in value] if isinstance(value, list) else value

    def state(self) -> str:
        """Return all that is there."""
        database = self.stand_in.database
        tables = [row["name"] for row in database.rows("select name from sqlite_master where type = 'table'")]
        rows = {
            name: sorted(repr(tuple(row)) for row in database.rows(f"select * from {name}"))
            for name in tables
            if name != "sequence"
        }
        return repr(rows)


def storage(body: str) -> dict[str, Any]:
    return {"representation": "storage", "value": body}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stand_in = ConfluenceStandIn(None, [ANNA, BEN])
    with Server(stand_in.app) as server:
        site = Site(stand_in, server.url)
        space = site.made("POST", f"{V2}/spaces", json={"key": "DS", "name": "Data"})
        site.names |= {"space": space["id"], "home": space["homepageId"]}
        for name in ("one", "two"):
            sent = {"spaceId": space["id"], "status": "current", "title": name.title(), "body": storage("<p />")}
            site.names[name] = site.made("POST", f"{V2}/pages", json=sent)["id"]
        kept = site.made("POST", f"{V2}/pages/{site.names['one']}/properties", json={"key": "kept", "value": 1})
        site.names["property"] = kept["id"]
        path = f"{V1}/content/{site.names['one']}/child/attachment"
        site.names["file"] = site.made("POST", path, files=FILES, headers=NOCHECK)["results"][0]["id"]
        yield site
    stand_in.close()


@pytest.fixture
def datacenter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stand_in = DataCenterStandIn(None, [ANNA, BEN], context="")
    with Server(stand_in.app) as server:
        site = Site(stand_in, server.url)
        site.made("POST", f"{REST}/space", json={"key": "DS", "name": "Data"})
        for name in ("one", "two"):
            sent = {
                "type": "page",
                "title": name.title(),
                "space": {"key": "DS"},
                "body": {"storage": storage("<p />")},
            }
            site.names[name] = site.made("POST", f"{REST}/content", json=sent)["id"]
        site.made("POST", f"{REST}/content/{site.names['one']}/property", json={"key": "kept", "value": {"run": 1}})
        path = f"{REST}/content/{site.names['one']}/child/attachment"
        site.names["file"] = site.made("POST", path, files=FILES, headers=NOCHECK)["results"][0]["id"]
        yield site
    stand_in.close()


def new(title: str = "New", body: str = "<p />", space: str = "{space}", **more: Any) -> dict[str, Any]:
    return {"spaceId": space, "status": "current", "title": title, "body": storage(body), **more}


def changed(number: int = 2, title: str = "One", body: str = "<p />", **more: Any) -> dict[str, Any]:
    sent = {"id": "{one}", "status": "current", "title": title, "body": storage(body), "version": {"number": number}}
    return {**sent, **more}


def comment(body: str, page: str = "{one}") -> dict[str, Any]:
    return {"pageId": page, "body": storage(body)}


INLINE = {"textSelection": "x", "textSelectionMatchCount": 1, "textSelectionMatchIndex": 0}
ONLY_BEN = [{"operation": "read", "restrictions": {"user": [{"type": "known", "accountId": BEN.account_id}]}}]

CLOUD: list[tuple[str, str, Any, int, str]] = [
    # malformed storage
    *(
        ("POST", f"{V2}/pages", new(body=body), 400, "parsing")
        for body in ("<p>open", "<p>&no;</p>", "<p>a & b</p>", "<a:b />")
    ),
    ("PUT", f"{V2}/pages/{{one}}", changed(body="<p>open"), 400, "parsing"),
    ("POST", f"{V2}/footer-comments", comment("<p>open"), 400, "parsing"),
    ("POST", f"{V2}/inline-comments", {**comment("<p>open"), "inlineCommentProperties": INLINE}, 400, ""),
    # wrong version
    ("PUT", f"{V2}/pages/{{one}}", changed(1), 409, "Version must be incremented"),
    ("PUT", f"{V2}/pages/{{one}}", changed(3), 409, "Version must be incremented"),
    (
        "PUT",
        f"{V2}/pages/{{one}}/properties/{{property}}",
        {"key": "kept", "value": 2, "version": {"number": 1}},
        409,
        "",
    ),
    (
        "PUT",
        f"{V2}/pages/{{one}}/properties/{{property}}",
        {"key": "kept", "value": 2, "version": {"number": 3}},
        409,
        "",
    ),
    (
        "PUT",
        f"{V1}/content/{{one}}/child/attachment/{{file}}",
        {"id": "{file}", "type": "attachment", "version": {"number": 7}},
        409,
        "",
    ),
    # what is there already
    ("POST", f"{V2}/pages", new("One"), 400, "already exists"),
    ("POST", f"{V2}/pages", new("oNE"), 400, "already exists"),
    ("PUT", f"{V2}/pages/{{one}}", changed(title="Two"), 400, "already exists"),
    ("POST", f"{V2}/pages/{{one}}/properties", {"key": "kept", "value": 2}, 409, ""),
    ("POST", f"{V2}/spaces", {"key": "DS", "name": "Again"}, 400, "already exists"),
    ("POST", f"{V1}/content/{{one}}/child/attachment", FILES, 400, "same file name as an existing attachment"),
    # unknown ids
    ("GET", f"{V2}/pages/{{nowhere}}", None, 404, f"[{NOWHERE}]"),
    ("GET", f"{V2}/pages/{{one}}?version=9", None, 404, "[9]"),
    ("PUT", f"{V2}/pages/{{nowhere}}", changed(id="{nowhere}"), 404, f"[{NOWHERE}]"),
    ("DELETE", f"{V2}/pages/{{nowhere}}", None, 404, f"[{NOWHERE}]"),
    *(
        ("GET", f"{V2}/pages/{{nowhere}}/{part}", None, 404, f"[{NOWHERE}]")
        for part in (
            "versions",
            "labels",
            "attachments",
            "properties",
            "footer-comments",
            "inline-comments",
            "descendants",
            "ancestors",
        )
    ),
    ("GET", f"{V2}/spaces/{{nowhere}}", None, 404, f"[{NOWHERE}]"),
    ("GET", f"{V2}/spaces/{{nowhere}}/pages", None, 404, f"[{NOWHERE}]"),
    ("GET", f"{V2}/tasks/{{nowhere}}", None, 404, f"[{NOWHERE}]"),
    ("PUT", f"{V2}/tasks/{{nowhere}}", {"status": "complete"}, 404, f"[{NOWHERE}]"),
    (
        "PUT",
        f"{V2}/pages/{{one}}/properties/{{nowhere}}",
        {"key": "kept", "value": 2, "version": {"number": 2}},
        404,
        f"[{NOWHERE}]",
    ),
    ("POST", f"{V2}/pages", new(space="{nowhere}"), 404, f"[{NOWHERE}]"),
    ("POST", f"{V2}/pages", new(parentId="{nowhere}"), 404, NOWHERE),
    ("POST", f"{V2}/footer-comments", comment("<p />", "{nowhere}"), 404, f"[{NOWHERE}]"),
    ("POST", f"{V1}/content/{{nowhere}}/label", [{"prefix": "global", "name": "x"}], 404, NOWHERE),
    ("DELETE", f"{V1}/content/{{one}}/label?name=none", None, 404, ""),
    ("GET", f"{V1}/content/{{nowhere}}/state?status=current", None, 404, NOWHERE),
    ("GET", f"{V1}/content/{{nowhere}}/restriction", None, 404, NOWHERE),
    ("PUT", f"{V1}/content/{{nowhere}}/restriction", [], 404, NOWHERE),
    ("POST", f"{V1}/content/{{nowhere}}/child/attachment", FILES, 404, NOWHERE),
    ("GET", f"{V1}/content/{{one}}/child/attachment/att{{nowhere}}/download", None, 404, NOWHERE),
    # too large
    ("POST", f"{V2}/pages", new(body=LARGE), 413, "5 MB"),
    ("PUT", f"{V2}/pages/{{one}}", changed(body=LARGE), 413, "5 MB"),
    ("POST", f"{V2}/pages/{{one}}/properties", {"key": "big", "value": "x" * 40_000}, 400, "32 KB"),
    # what makes no sense
    ("PUT", f"{V2}/pages/{{one}}", changed(spaceId="{nowhere}"), 400, ""),
    ("PUT", f"{V2}/pages/{{two}}", changed(), 400, "id"),
    ("DELETE", f"{V2}/pages/{{one}}?purge=true", None, 400, ""),
    ("PUT", f"{V1}/content/{{one}}/restriction", ONLY_BEN, 400, ""),
    ("POST", f"{V1}/content/{{one}}/label", [{"prefix": "global", "name": "two words"}], 400, ""),
    ("PUT", f"{V1}/content/{{one}}/state?status=current", {"name": "x" * 21, "color": "#000000"}, 400, ""),
    ("GET", f"{V1}/content/search?cql=label+%3D", None, 400, "parse"),
    ("GET", f"{V2}/pages?cursor=nonsense", None, 400, "cursor"),
]


def page(number: int = 2, title: str = "One", body: str = "<p />", **more: Any) -> dict[str, Any]:
    sent = {"type": "page", "title": title, "version": {"number": number}, "body": {"storage": storage(body)}}
    return {"id": "{one}", **sent, **more}


def made(title: str = "New", body: str = "<p />", space: str = "DS", **more: Any) -> dict[str, Any]:
    return {"type": "page", "title": title, "space": {"key": space}, "body": {"storage": storage(body)}, **more}


ONLY_BEN_DC = [{"operation": "read", "restrictions": {"user": [{"type": "known", "username": "ben"}], "group": []}}]

DATACENTER: list[tuple[str, str, Any, int, str]] = [
    *(
        ("POST", f"{REST}/content", made(body=body), 400, "parsing")
        for body in ("<p>open", "<p>&no;</p>", "<p>a & b</p>")
    ),
    ("PUT", f"{REST}/content/{{one}}", page(body="<p>open"), 400, "parsing"),
    ("PUT", f"{REST}/content/{{one}}", page(1), 409, "ersion"),
    ("PUT", f"{REST}/content/{{one}}", page(3), 409, "ersion"),
    ("PUT", f"{REST}/content/{{one}}/property/kept", {"key": "kept", "value": {}, "version": {"number": 7}}, 409, ""),
    ("POST", f"{REST}/content", made("One"), 400, "already exists"),
    ("PUT", f"{REST}/content/{{one}}", page(title="Two"), 400, "already exists"),
    ("POST", f"{REST}/content/{{one}}/property", {"key": "kept", "value": {}}, 400, ""),
    ("POST", f"{REST}/content/{{one}}/child/attachment", FILES, 400, "same file name as an existing attachment"),
    ("GET", f"{REST}/content/{{nowhere}}", None, 404, NOWHERE),
    ("PUT", f"{REST}/content/{{nowhere}}", page(id="{nowhere}"), 404, NOWHERE),
    ("DELETE", f"{REST}/content/{{nowhere}}", None, 404, NOWHERE),
    ("POST", f"{REST}/content", made(space="NONE"), 404, ""),
    ("GET", f"{REST}/space/NONE", None, 404, ""),
    ("GET", f"{REST}/user?key=nobody", None, 404, ""),
    ("GET", f"{REST}/content/{{nowhere}}/restriction/byOperation/read", None, 404, NOWHERE),
    ("POST", f"{REST}/content/{{nowhere}}/child/attachment", FILES, 404, NOWHERE),
    ("POST", f"{REST}/content", made(body=LARGE), 413, ""),
    ("PUT", f"{REST}/content/{{one}}", page(body=LARGE), 413, ""),
    ("PUT", f"{REST}/content/{{one}}/restriction", ONLY_BEN_DC, 400, ""),
    ("GET", f"{REST}/content/search?cql=label+%3D", None, 400, ""),
    ("GET", f"{REST}/pages", None, 404, ""),
]


def refused(site: Site, method: str, path: str, sent: Any, headers: dict[str, str] | None) -> requests.Response:
    """Send something that must be refused, and see that nothing changed."""
    before = site.state()
    body = {"files": sent, "headers": headers} if sent is FILES else {} if sent is None else {"json": site.filled(sent)}
    reply = site.send(method, site.filled(path), **body)
    assert site.state() == before
    return reply


def title_of(case: tuple[str, str, Any, int, str]) -> str:
    return f"{case[0]} {case[1]} {case[3]}"


@pytest.mark.parametrize(("method", "path", "sent", "status", "says"), CLOUD, ids=[title_of(case) for case in CLOUD])
def test_cloud_refuses(cloud: Site, method: str, path: str, sent: Any, status: int, says: str) -> None:
    reply = refused(cloud, method, path, sent, NOCHECK)
    assert reply.status_code == status, reply.text
    assert says in reply.text


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "says"), DATACENTER, ids=[title_of(case) for case in DATACENTER]
)
def test_data_center_refuses(datacenter: Site, method: str, path: str, sent: Any, status: int, says: str) -> None:
    reply = refused(datacenter, method, path, sent, NOCHECK)
    assert reply.status_code == status, reply.text
    assert says in reply.text


@pytest.mark.parametrize("flavour", confluence.FLAVOURS)
@pytest.mark.parametrize("rest", ["", "/{file}/data"])
def test_a_file_without_the_token_header_is_refused(request: pytest.FixtureRequest, flavour: str, rest: str) -> None:
    site = request.getfixturevalue(flavour)
    path = f"{V1 if site.cloud else REST}/content/{{one}}/child/attachment{rest}"
    assert refused(site, "POST", path, FILES, None).status_code == 403
    assert refused(site, "POST", path, FILES, {"X-Atlassian-Token": "check"}).status_code == 403


def every_call() -> list[Any]:
    """Return method and path of every call of the contracts that the local Cloud answers."""
    if not SPECS.is_dir():
        return []
    app = ConfluenceStandIn(None, []).app
    played = [one for name in ("v2", "v1") for one in confluence.played(app, confluence.contract(name))]
    return [pytest.param(one.method, re.sub(r"\{[^}]+\}", "1", one.template), id=str(one)) for one in played]


@pytest.mark.skipif(not SPECS.is_dir(), reason=ABSENT)
@pytest.mark.parametrize(("method", "path"), every_call())
def test_every_call_wants_a_credential_and_its_scope(cloud: Site, method: str, path: str) -> None:
    before = cloud.state()
    wrong = cloud.send(method, path, SandboxUser("", "", ANNA.email, "wrong"))
    assert wrong.status_code == (404 if path.startswith(V2) else 403)
    assert not path.startswith(V2) or wrong.json()["errors"][0]["title"] == "Not Found"
    assert requests.request(method, cloud.url + path, timeout=5).status_code == wrong.status_code

    gateway = cloud.stand_in.gateway
    gateway.add("scoped", Token(ANNA.account_id, frozenset({"read:nothing"})))
    through = f"/ex/confluence/{gateway.cloud_id}{path}"
    reply = cloud.send(method, through, SandboxUser("", "", ANNA.email, "scoped"))
    assert (reply.status_code, reply.json()["message"]) == (401, "Unauthorized; scope does not match")
    past = cloud.send(method, path, SandboxUser("", "", ANNA.email, "scoped"))
    assert (past.status_code, past.headers["Content-Type"].partition(";")[0]) == (401, "text/html")
    assert cloud.state() == before
