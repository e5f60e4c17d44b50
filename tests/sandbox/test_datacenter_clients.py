"""A client that others wrote, unmodified, against the local Data Center: the server class of ``atlassian-python-api``.

Left out are its calls that the contract does not have, such as pages by label (``content?label=``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.exceptions import HTTPError

from include.sandbox.confluence import DataCenterStandIn, SandboxUser
from include.sandbox.http import Server

WRITER = SandboxUser("key-writer", "Willa Writer", "willa@labelops.example", "token-of-willa")


@pytest.fixture(params=["password", "token"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from atlassian import ConfluenceServer

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stand_in = DataCenterStandIn(None, [WRITER])
    with Server(stand_in.app) as server:
        url = f"{server.url}/confluence"
        sent = {"key": "DS", "name": "Data"}
        assert requests.post(f"{url}/rest/api/space", json=sent, auth=("willa", WRITER.token), timeout=10).ok
        credential = {"username": "willa", "password": WRITER.token}
        yield ConfluenceServer(url=url, **(credential if request.param == "password" else {"token": WRITER.token}))
    stand_in.close()


def test_it_writes_and_reads_pages(client: Any) -> None:
    home = client.get_space("DS", expand="homepage")["homepage"]["id"]
    made = client.create_page("DS", "Guide", "<p>One</p>", parent_id=home)
    assert client.page_exists("DS", "Guide")
    assert client.get_page_id("DS", "Guide") == made["id"]
    changed = client.update_page(made["id"], "Guide", "<p>Two</p>")
    assert changed["version"]["number"] == 2
    read = client.get_page_by_id(made["id"], expand="body.storage,version,ancestors")
    assert (read["body"]["storage"]["value"], read["version"]["number"]) == ("<p>Two</p>", 2)
    [titled] = client.get_page_by_title("DS", "Guide", expand="version")["results"]
    assert titled["id"] == made["id"]
    assert [page["id"] for page in client.get_all_pages_from_space("DS", limit=10)] == [home, made["id"]]
    assert [page["title"] for page in client.get_child_pages(home)] == ["Guide"]
    assert [page["id"] for page in client.get_page_ancestors(made["id"])] == [home]
    with pytest.raises(HTTPError):
        client.create_page("DS", "Guide", "<p>Again</p>")


def test_it_reads_and_writes_what_hangs_on_pages(client: Any, tmp_path: Path) -> None:
    page = client.create_page("DS", "Guide", "<p>One</p>")["id"]
    client.set_page_label(page, "approved")
    assert [label["name"] for label in client.get_page_labels(page)["results"]] == ["approved"]
    client.remove_page_label(page, "approved")
    assert client.get_page_labels(page)["results"] == []
    client.set_page_property(page, {"key": "labelops", "value": {"digest": "a"}})
    number = client.get_page_property(page, "labelops")["version"]["number"]
    client.update_page_property(page, {"key": "labelops", "value": {"digest": "b"}, "version": {"number": number + 1}})
    assert client.get_page_property(page, "labelops")["value"] == {"digest": "b"}
    file = tmp_path / "chart.csv"
    file.write_bytes(b"a,b\n")
    client.attach_file(str(file), page_id=page, content_type="text/csv")
    [listed] = client.get_attachments_from_content(page)["results"]
    assert (listed["title"], listed["extensions"]["fileSize"]) == ("chart.csv", 4)
    client.add_comment(page, "<p>Approved</p>")
    assert client.get_page_comments(page, expand="body.storage")["results"][0]["body"]["storage"]["value"]
    assert client.get_user_details_by_userkey("key-writer")["username"] == "willa"
