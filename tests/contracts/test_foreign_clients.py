"""Clients that others wrote, unmodified, against the local Confluence: what they take for the service must be one.

``atlassian-python-api`` with its calls of the v2 API that follow Atlassian's contract, and ``markdown-to-confluence``,
which publishes a folder of Markdown.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from include.sandbox.confluence import ConfluenceStandIn, SandboxUser
from include.sandbox.http import Server

WRITER = SandboxUser("acc-writer", "Willa Writer", "willa@labelops.example", "token-of-willa")
TASK = (
    "<ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-status>incomplete</ac:task-status>"
    '<ac:task-body>Check: <ac:link><ri:user ri:account-id="acc-writer"/></ac:link></ac:task-body></ac:task>'
    "</ac:task-list>"
)


class Site:
    """A running local Confluence with two spaces."""

    def __init__(self, stand_in: ConfluenceStandIn, url: str) -> None:
        self.stand_in, self.url = stand_in, url

    def send(self, method: str, path: str, **parts: Any) -> requests.Response:
        return requests.request(method, self.url + path, auth=(WRITER.email, WRITER.token), timeout=10, **parts)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stand_in = ConfluenceStandIn(None, [WRITER])
    with Server(stand_in.app) as server:
        site = Site(stand_in, server.url)
        for key in ("MD", "OTHER"):
            assert site.send("POST", "/wiki/api/v2/spaces", json={"key": key, "name": key.title()}).ok
        yield site
    stand_in.close()


# --- atlassian-python-api ------------------------------------------------------------------------------------------


@pytest.fixture
def client(site: Site) -> Any:
    from atlassian import ConfluenceV2

    with pytest.warns(DeprecationWarning, match="deprecated"):
        return ConfluenceV2(url=f"{site.url}/wiki", username=WRITER.email, password=WRITER.token)


def test_atlassian_client_writes_and_reads_pages(client: Any) -> None:
    [space] = client.get_spaces(keys=["MD"])
    assert (space["key"], len(client.get_spaces(limit=1))) == ("MD", 2)
    made = client.create_page(space["id"], "Guide", "<p>One</p>", representation="storage")
    assert (made["version"]["number"], made["spaceId"], made["parentId"]) == (1, space["id"], space["homepageId"])
    changed = client.update_page(
        made["id"], title="Guide", body="<p>Two</p>", status="current", version=1, representation="storage"
    )
    assert changed["version"]["number"] == 2
    read = client.get_page_by_id(made["id"], body_format="storage")
    assert read["body"]["storage"]["value"] == "<p>Two</p>"
    found = client.get_page_by_title("MD", "Guide")
    assert [row["id"] for row in found["results"]] == [made["id"]]
    listed = client.get_pages(space_id=space["id"], body_format="storage", limit=250)
    assert made["id"] in [row["id"] for row in (listed["results"] if isinstance(listed, dict) else listed)]
    assert [row["number"] for row in client.get_page_versions(made["id"])["results"]] == [2, 1]
    assert [row["number"] for row in client.iter_page_versions(made["id"], limit=1)] == [2, 1]
    assert client.delete_page(made["id"]) is True
    assert client.get_page_by_title("MD", "Guide") == {"results": []}


def test_atlassian_client_is_refused_a_stale_version(client: Any) -> None:
    [space] = client.get_spaces(keys=["MD"])
    made = client.create_page(space["id"], "Guide", "<p>One</p>", representation="storage")
    wanted: dict[str, Any] = {"title": "Guide", "status": "current", "version": 1, "representation": "storage"}
    client.update_page(made["id"], body="<p>Two</p>", **wanted)
    with pytest.raises(requests.HTTPError) as caught:
        client.update_page(made["id"], body="<p>Three</p>", **wanted)
    assert caught.value.response.status_code == 409


def test_atlassian_client_handles_properties(client: Any) -> None:
    [space] = client.get_spaces(keys=["MD"])
    page = client.create_page(space["id"], "Guide", "<p />", representation="storage")["id"]
    made = client.create_v2_content_property("page", page, {"key": "origin", "value": {"run": 1}})
    assert client.get_v2_content_property("page", page, made["id"])["value"] == {"run": 1}
    changed = {"key": "origin", "value": {"run": 2}, "version": {"number": 2}}
    client.update_v2_content_property("page", page, made["id"], changed)
    rows = client.get_page_properties(page)
    rows = rows["results"] if isinstance(rows, dict) else rows
    assert [(row["key"], row["value"], row["version"]["number"]) for row in rows] == [("origin", {"run": 2}, 2)]
    client.delete_v2_content_property("page", page, made["id"])
    with pytest.raises(requests.HTTPError):
        client.get_v2_content_property("page", page, made["id"])


def test_atlassian_client_reads_labels_and_comments(client: Any, site: Site) -> None:
    [space] = client.get_spaces(keys=["MD"])
    page = client.create_page(space["id"], "Guide", "<p />", representation="storage")["id"]
    site.send("POST", f"/wiki/rest/api/content/{page}/label", json=[{"prefix": "global", "name": "guide"}])
    body = {"pageId": page, "body": {"representation": "storage", "value": "<p>Well</p>"}}
    site.send("POST", "/wiki/api/v2/footer-comments", json=body)
    assert [row["name"] for row in client.get_page_labels(page)] == ["guide"]
    [comment] = client.get_page_footer_comments(page, body_format="storage")
    assert comment["body"]["storage"]["value"] == "<p>Well</p>"


def test_atlassian_client_reads_inline_comments(client: Any, site: Site) -> None:
    [space] = client.get_spaces(keys=["MD"])
    page = client.create_page(space["id"], "Guide", "<p>One word</p>", representation="storage")["id"]
    marked = {"textSelection": "word", "textSelectionMatchCount": 1, "textSelectionMatchIndex": 0}
    body = {"representation": "storage", "value": "<p>Which?</p>"}
    sent = {"pageId": page, "body": body, "inlineCommentProperties": marked}
    assert site.send("POST", "/wiki/api/v2/inline-comments", json=sent).status_code == 201
    [comment] = client.get_page_inline_comments(page, body_format="storage")
    assert (comment["resolutionStatus"], comment["properties"]["inlineOriginalSelection"]) == ("open", "word")


def test_atlassian_client_ticks_a_task(client: Any) -> None:
    [space] = client.get_spaces(keys=["MD"])
    page = client.create_page(space["id"], "Guide", TASK, representation="storage")["id"]
    rows = client.get_tasks(page_ids=[int(page)])
    [task] = rows["results"] if isinstance(rows, dict) else rows
    assert (task["assignedTo"], task["status"]) == (WRITER.account_id, "incomplete")
    client.update_task(int(task["id"]), "complete")
    assert client.get_task(int(task["id"]))["completedBy"] == WRITER.account_id


# --- markdown-to-confluence ----------------------------------------------------------------------------------------


def png() -> bytes:
    """Return a picture of one black dot."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


FILES = {
    "index.md": "# Handbook\n\nSee [the scheme](labels.md).\n\n- [ ] to do\n- [x] done\n\n> [!NOTE]\n> “Note” & more\n",
    "labels.md": (
        "# Labels\n\n![Scheme](scheme.png)\n\n* one\n* two\n\nBack to [the handbook](index.md).\n\n"
        "```python\nx = 1 < 2\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "scheme.png").write_bytes(png())
    return tmp_path


def publish(site: Site, folder: Path) -> list[tuple[str, str]]:
    """Publish a folder, and return the requests that this took."""
    before = len(site.stand_in.app.requests)
    command = [sys.executable, "-m", "md2conf", str(folder), "--api-url", f"{site.url}/wiki/", "--space", "MD"]
    command += ["--username", WRITER.email, "--api-key", WRITER.token, "--skip-update", "--no-generated-by"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stderr
    return site.stand_in.app.requests[before:]


def versions(site: Site) -> dict[str, int]:
    return {row["title"]: row["version"]["number"] for row in site.send("GET", "/wiki/api/v2/pages").json()["results"]}


def writes(requests_made: list[tuple[str, str]]) -> list[str]:
    return [f"{method} {target}" for method, target in requests_made if method != "GET"]


def check_links_and_picture(site: Site) -> None:
    """The pages link to each other by their ids, and the picture is whole."""
    rows = site.send("GET", "/wiki/api/v2/pages?body-format=storage").json()["results"]
    pages = {row["title"]: row for row in rows}
    assert pages["Labels"]["parentId"] == pages["Handbook"]["id"]
    assert f"/pages/{pages['Labels']['id']}/" in pages["Handbook"]["body"]["storage"]["value"]
    assert 'ri:filename="scheme.png"' in pages["Labels"]["body"]["storage"]["value"]
    [file] = site.send("GET", f"/wiki/api/v2/pages/{pages['Labels']['id']}/attachments").json()["results"]
    assert site.send("GET", f"/wiki{file['downloadLink']}").content == png()


def test_publishing_twice_makes_no_new_version(site: Site, folder: Path) -> None:
    assert writes(publish(site, folder))
    first = site.stand_in.snapshot()
    assert versions(site) == {"Md": 1, "Other": 1, "Handbook": 2, "Labels": 2}
    assert len(first["attachments"]) == 1
    assert sorted(first["tasks"].values()) == ["complete", "incomplete"]
    check_links_and_picture(site)

    assert writes(publish(site, folder)) == []
    assert site.stand_in.snapshot() == first

    (folder / "index.md").write_text(FILES["index.md"] + "\nOne more line.\n", "utf-8")
    publish(site, folder)
    assert versions(site) == {"Md": 1, "Other": 1, "Handbook": 3, "Labels": 2}


def test_what_is_stored_equals_what_was_sent_for_the_publisher(site: Site, folder: Path) -> None:
    """Without its own mark it compares the stored text with its own, as far as the service rewrites text."""
    publish(site, folder)
    first = versions(site)
    for row in site.send("GET", "/wiki/api/v2/pages").json()["results"]:
        for found in site.send("GET", f"/wiki/api/v2/pages/{row['id']}/properties").json()["results"]:
            assert site.send("DELETE", f"/wiki/api/v2/pages/{row['id']}/properties/{found['id']}").status_code == 204
    publish(site, folder)
    assert versions(site) == first
