"""The whole way with Confluence Data Center in the place of Cloud: same pages, other API, no content states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from include.base.errors import Unsupported
from include.sandbox import world
from include.sandbox.confluence import DataCenterStandIn, SandboxUser
from include.sandbox.http import Server
from tests.house import House, opened
from tests.integration.airflow_house import PROJECT, environment

CONTEXT = "/confluence"
ROW = (
    '<ac:structured-macro ac:name="details"><ac:rich-text-body><table><tbody><tr><th>Status</th><td>{0}</td></tr>'
    "</tbody></table></ac:rich-text-body></ac:structured-macro>"
)
PAGES = ("Ticket topics: guideline", "Ticket topics: labels", "Ticket topics: edge cases")


class DataCenterHouse(House):
    """A house whose Confluence is a Data Center, on the pages that were seeded into the local Cloud."""

    def seed(self) -> None:
        super().seed()
        self._servers[0].stop()
        self.confluence.close()
        users = [SandboxUser(**user) for user in world.confluence_users()]
        self.confluence = DataCenterStandIn(self.home / "confluence", users, context=CONTEXT)
        self._servers[0] = Server(self.confluence.app).start()
        self.confluence_url = self._servers[0].url

    def connections(self) -> dict[str, dict[str, Any]]:
        found = super().connections()
        extra = {"flavour": "datacenter", "path": CONTEXT, "timeout": 120}
        found["confluence_default"] |= {"login": "labelops", "extra": extra}
        return found

    def send(self, person: str, method: str, path: str, **parts: Any) -> Any:
        reply = requests.request(
            method,
            f"{self.confluence_url}{CONTEXT}/rest/api{path}",
            auth=(person, f"{world.TOKEN}{person}"),
            timeout=30,
            **parts,
        )
        assert reply.ok, reply.text
        return reply.json()

    def id_of(self, title: str) -> str:
        found = self.send("olga", "GET", "/content", params={"spaceKey": "LAB", "title": title})
        return str(found["results"][0]["id"])

    def edit(self, person: str, title: str, change: Any) -> str:
        """Let somebody edit a page."""
        page = self.send("olga", "GET", f"/content/{self.id_of(title)}", params={"expand": "body.storage,version"})
        sent = {
            "type": "page",
            "title": title,
            "version": {"number": page["version"]["number"] + 1},
            "body": {"storage": {"representation": "storage", "value": change(page["body"]["storage"]["value"])}},
        }
        self.send(person, "PUT", f"/content/{page['id']}", json=sent)
        return str(page["id"])

    def label(self, title: str, name: str) -> None:
        """Let greta put a label on a page."""
        path = f"/content/{self.id_of(title)}/label"
        self.send("greta", "POST", path, json=[{"prefix": "global", "name": name}])

    def approve_by(self, **mark: str) -> None:
        """Say in the project what approves a page."""
        guideline = {**self.project.confluence.guideline.model_dump(mode="json"), "approved": mark}
        self.change_project(confluence={"guideline": guideline})

    def published(self) -> str:
        """Return the text that annotators see."""
        guidelines = self.home / "store" / "publications" / PROJECT / "guidelines"
        pointer = json.loads((guidelines / "current.json").read_bytes())
        return (guidelines / pointer["release"] / "guidelines.html").read_text("utf-8")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[DataCenterHouse]:
    made = DataCenterHouse(tmp_path / "house")
    with opened(made):
        made.seed()
        # The connections name the server, which is another one since the seeding.
        with environment(made.environment()):
            yield made


def test_approval_by_state_names_the_setting(house: DataCenterHouse) -> None:
    with pytest.raises(Unsupported, match=r"confluence\.guideline\.approved.*by: label and by: property"):
        house.sync_guidelines()
    assert house.events("guideline.published") == []


def test_from_a_labelled_guideline_to_a_report_and_nothing_the_second_time(house: DataCenterHouse) -> None:
    house.approve_by(by="label", value="approved")
    for title in PAGES:
        house.label(title, "approved")
    house.labelled()
    assert "Both" in house.published()
    house.approve_run()
    house.approve()
    house.release()
    house.report()
    client = house.confluence_client()
    [published] = house.events("report.published")
    page = client.page(published.body["page"])
    assert page.parent_id is not None
    assert client.page(page.parent_id).title == "Labelling reports"
    assert list(client.attachments(page.id))
    properties = {item.key: item.version for item in client.properties(page.id)}
    assert properties == {"labelops": 1, "labelops_checkpoint": 1}
    before = house.snapshot()
    assert house.sync_guidelines() is None
    assert house.ingest() is None
    house.report()
    after = house.snapshot()
    assert after["confluence"] == before["confluence"]
    assert after["files"] == before["files"]


def test_a_label_that_names_its_version(house: DataCenterHouse) -> None:
    house.approve_by(by="label", value="approved-v{version}")
    for title in PAGES:
        page = house.confluence_client().page(house.id_of(title))
        house.label(title, f"approved-v{page.version.number}")
    assert house.sync_guidelines()["detail"]["number"] == 1
    page_id = house.edit("olga", PAGES[1], lambda body: body + "<p>Vouchers are billing.</p>")
    assert house.sync_guidelines() is None
    assert "Vouchers" not in house.published()
    house.label(PAGES[1], f"approved-v{house.confluence_client().page(page_id).version.number}")
    assert house.sync_guidelines()["detail"]["number"] == 2
    assert "Vouchers are billing" in house.published()


def test_approval_by_a_row_of_the_page_properties(house: DataCenterHouse) -> None:
    house.approve_by(by="property", value="Approved")
    for title in PAGES:
        house.edit("greta", title, lambda body: ROW.format("Approved") + body)
    assert house.sync_guidelines()["detail"]["number"] == 1
    [event] = house.events("guideline.published")
    assert {page["account"] for page in event.body["pages"]} == {"acc-greta"}
    house.edit("olga", PAGES[1], lambda body: body.replace(">Approved<", ">Draft<") + "<p>Vouchers are billing.</p>")
    assert house.sync_guidelines() is None
    assert "Vouchers" not in house.published()
    house.edit("greta", PAGES[1], lambda body: body.replace(">Draft<", ">Approved<"))
    assert house.sync_guidelines()["detail"]["number"] == 2
    assert "Vouchers are billing" in house.published()
