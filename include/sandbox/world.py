"""What the local systems hold before anybody works with them: a space with guidelines, source files, process models, people.

Everything is put in over the same interfaces that people use, and only once, so that seeding twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from include.base.errors import LabelopsError
from include.settings import ROOT
from include.systems.opentext.client import OpenTextClient

__all__ = ["GROUPS", "confluence_users", "opentext_users", "seed_confluence", "seed_opentext", "seed_sources"]

TOKEN = "sandbox-token-of-"  # noqa: S105 - a local stand-in's, worth nothing elsewhere
PASSWORD = "sandbox-password-of-"  # noqa: S105 - a local stand-in's, worth nothing elsewhere

PEOPLE = ("anna", "ben", "carla", "quentin", "dana", "rita", "hugo", "olga", "greta", "labelops")
GROUPS = {
    "quentin": ["quality_reviewers"],
    "carla": ["quality_reviewers"],
    "dana": ["data_owners"],
    "rita": ["release_managers"],
    "hugo": ["heads_of_data"],
}

PAGES: list[dict[str, Any]] = [
    {
        "title": "Ticket topics: guideline",
        "author": "olga",
        "state": "Verified",
        "body": """<h2>Purpose</h2><p>We tell which topics a support ticket touches, so that the right team answers first.
Ask <ac:link><ri:user ri:account-id="acc-olga"/></ac:link> when in doubt.</p>
<ac:structured-macro ac:name="info"><ac:parameter ac:name="title">In one sentence</ac:parameter><ac:rich-text-body>
<p>Pick every topic that the customer asks us to <strong>do</strong> something about.</p></ac:rich-text-body></ac:structured-macro>
<p>Status of this page: <ac:structured-macro ac:name="status"><ac:parameter ac:name="colour">Green</ac:parameter>
<ac:parameter ac:name="title">IN USE</ac:parameter></ac:structured-macro></p>
<p><ac:image><ri:attachment ri:filename="topics.png"/></ac:image></p>""",
        "attachment": "topics.png",
    },
    {
        "title": "Ticket topics: labels",
        "parent": "Ticket topics: guideline",
        "author": "olga",
        "state": "Verified",
        "body": """<h2>Labels</h2><table><tbody><tr><th>Label</th><th>When</th><th>Example</th></tr>
<tr><td><code>billing</code></td><td>money, invoices, refunds</td><td>&ldquo;I was charged twice&rdquo;</td></tr>
<tr><td><code>delivery</code></td><td>a parcel, its way, its state</td><td>&ldquo;Where is my parcel?&rdquo;</td></tr>
<tr><td><code>account</code></td><td>login, profile, data</td><td>&ldquo;I cannot log in&rdquo;</td></tr>
<tr><td><code>other</code></td><td>none of the above</td><td>&ldquo;Do you have a shop in Bern?&rdquo;</td></tr></tbody></table>
<p>How an export looks:</p><ac:structured-macro ac:name="code"><ac:parameter ac:name="language">json</ac:parameter>
<ac:plain-text-body><![CDATA[{"text": "I was charged twice", "accept": ["billing"], "note": "a < b & c"}]]></ac:plain-text-body>
</ac:structured-macro>""",
    },
    {
        "title": "Ticket topics: edge cases",
        "parent": "Ticket topics: guideline",
        "author": "olga",
        "state": "Verified",
        "body": """<h2>Edge cases</h2><ac:structured-macro ac:name="expand"><ac:parameter ac:name="title">A refund for a lost parcel
</ac:parameter><ac:rich-text-body><p>Both <code>billing</code> and <code>delivery</code>.</p></ac:rich-text-body></ac:structured-macro>
<ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-status>complete</ac:task-status><ac:task-body>Agree on refunds
</ac:task-body></ac:task></ac:task-list>
<p>See <ac:link><ri:page ri:content-title="Ticket topics: labels"/><ac:link-body>the labels</ac:link-body></ac:link>.</p>
<ac:structured-macro ac:name="jira"><ac:parameter ac:name="key">LAB-7</ac:parameter></ac:structured-macro>""",
    },
    {
        "title": "Product names: guideline",
        "author": "olga",
        "label": "approved",
        "body": """<h2>Purpose</h2><p>We mark products and their makers in reviews, to compare what people say about them.</p>
<h2>Labels</h2><ul><li><code>PRODUCT</code>: the name of one product, with its model number</li>
<li><code>MAKER</code>: the company that makes it</li></ul>""",
    },
    {"title": "Labelling reports", "author": "olga", "body": "<p>The reports below are written by Labelops.</p>"},
]

TICKETS = [
    ("t-01", "I was charged twice for one order, please refund the second payment."),
    ("t-02", "Where is my parcel? The tracking page has not moved for a week."),
    ("t-03", "I cannot log in since I changed my phone."),
    ("t-04", "My parcel arrived damaged and I want a refund."),
    ("t-05", "Please delete my account and all my data."),
    ("t-06", "Do you have a shop in Bern?"),
    ("t-07", "The invoice shows the wrong address, and my profile shows the old one too."),
    ("t-08", "The courier left the parcel in the rain."),
    ("t-09", "Why was my card charged before the delivery?"),
    ("t-10", "Can I pay by invoice?"),
]
MORE_TICKETS = [
    ("c-1", "I forgot my password and the login page is broken."),
    ("c-2", "Where is my parcel? The tracking page has not moved for a week."),
    ("c-3", "Refund me for the lost parcel."),
]
REVIEWS = [
    ("r-1", "The Lumora X200 lamp is brighter than I expected."),
    ("r-2", "My Kestrel dealer says the Nova3 is sold out."),
    ("r-3", "This Brisk B300 kettle boils fast, well done Altiva."),
    ("r-4", "A kettle is a kettle."),
    ("r-5", "Altiva should stop making the Brisk B100."),
]


def confluence_users() -> list[dict[str, str]]:
    """Return the accounts of the local Confluence."""
    return [
        {
            "account_id": f"acc-{name}",
            "name": name.capitalize(),
            "email": f"{name}@people.example",
            "token": f"{TOKEN}{name}",
        }
        for name in PEOPLE
    ]


def opentext_users() -> list[dict[str, Any]]:
    """Return the people of the local OpenText tenant."""
    return [
        {
            "email": f"{name}@people.example",
            "name": name.capitalize(),
            "password": f"{PASSWORD}{name}",
            "groups": GROUPS.get(name, []),
        }
        for name in PEOPLE
        if name != "labelops"
    ]


class _Confluence:
    """Confluence as one person's browser would use it, for seeding."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, person: str, method: str, path: str, **parts: Any) -> Any:
        reply = requests.request(
            method,
            f"{self._url}/wiki{path}",
            auth=(f"{person}@people.example", f"{TOKEN}{person}"),
            timeout=30,
            **parts,
        )
        if not reply.ok:
            raise LabelopsError(f"seeding Confluence: {method} {path}: {reply.status_code} {reply.text[:300]}")
        return reply.json() if reply.content else None


def seed_confluence(url: str, space: str = "LAB") -> None:
    """Write the guideline pages as their author, and approve them as their approver; pages that exist are left alone."""
    confluence = _Confluence(url)
    spaces = confluence.call("olga", "GET", "/api/v2/spaces", params={"keys": space})["results"]
    found = (
        spaces[0]
        if spaces
        else confluence.call("olga", "POST", "/api/v2/spaces", json={"key": space, "name": "Labelling"})
    )
    ids: dict[str, str] = {}
    for page in PAGES:
        listed = confluence.call("olga", "GET", f"/api/v2/spaces/{found['id']}/pages", params={"title": page["title"]})[
            "results"
        ]
        if listed:
            ids[page["title"]] = listed[0]["id"]
            continue
        body = {
            "spaceId": found["id"],
            "status": "current",
            "title": page["title"],
            "body": {"representation": "storage", "value": page["body"]},
        }
        if "parent" in page:
            body["parentId"] = ids[page["parent"]]
        page_id = confluence.call(page["author"], "POST", "/api/v2/pages", json=body)["id"]
        ids[page["title"]] = page_id
        if "attachment" in page:
            confluence.call(
                page["author"],
                "POST",
                f"/rest/api/content/{page_id}/child/attachment",
                headers={"X-Atlassian-Token": "no-check"},
                files={
                    "file": (page["attachment"], _picture(), "image/png"),
                    "minorEdit": (None, b"true", "text/plain; charset=utf-8"),
                },
            )
        if "state" in page:
            confluence.call(
                "greta",
                "PUT",
                f"/rest/api/content/{page_id}/state",
                params={"status": "current"},
                json={"name": page["state"], "color": "#57d9a3"},
            )
        if "label" in page:
            confluence.call(
                "greta",
                "POST",
                f"/rest/api/content/{page_id}/label",
                json=[{"prefix": "global", "name": page["label"]}],
            )


def seed_opentext(client: OpenTextClient) -> None:
    """Deploy our process models, as only the sandbox does: a customer's modeller deploys elsewhere."""
    for key in ("labeling_approval", "dataset_release"):
        client.deploy(key, (ROOT / "include" / "bpmn" / f"{key}.bpmn").read_text("utf-8"))


def seed_sources(folder: Path) -> None:
    """Put the raw files where the two sample projects look, one broken record and one broken file among them."""
    tickets, reviews = folder / "ticket_topics", folder / "product_names"
    files: Mapping[Path, str] = {
        tickets / "2026-11-tickets.jsonl": "".join(
            json.dumps({"ticket": ticket, "text": text, "channel": "mail"}) + "\n" for ticket, text in TICKETS
        )
        + '{"ticket": "t-11", "text": \n',
        tickets / "chat.csv": "id,message\n" + "".join(f'{key},"{text}"\n' for key, text in MORE_TICKETS),
        tickets / "walk-in.txt": "How do I change my delivery address?\n",
        reviews / "reviews.jsonl": "".join(
            json.dumps({"review_id": key, "review": text}) + "\n" for key, text in REVIEWS
        ),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(content, "utf-8")


def _picture() -> bytes:
    """Return a small picture of the four topics."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 1.2), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for place, (name, colour) in enumerate(
        (("billing", "#1f6feb"), ("delivery", "#b35900"), ("account", "#1a7f37"), ("other", "#6e7781"))
    ):
        axes.text(
            0.125 + place * 0.25, 0.5, name, ha="center", va="center", color="white", fontsize=13,
            bbox={"boxstyle": "round,pad=0.6", "facecolor": colour, "edgecolor": "none"},
        )  # fmt: skip
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
