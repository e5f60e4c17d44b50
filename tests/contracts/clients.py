"""Clients that others wrote, unmodified, against the local Confluence and Jira of both flavours.

``make clients`` runs it in an environment of its own, for what these clients need does not fit beside Airflow:
``jira``, ``sphinxcontrib-confluencebuilder`` and ``langchain-community`` with ``atlassian-python-api`` 4.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from include.sandbox.confluence import ConfluenceStandIn, SandboxUser
from include.sandbox.confluence.datacenter import DataCenterStandIn
from include.sandbox.http import App, Server
from include.sandbox.jira import JiraStandIn, JiraUser

WRITER = SandboxUser("acc-writer", "Willa Writer", "willa@labelops.example", "token-of-willa")
PERSON = JiraUser("acc-writer", "Willa Writer", "willa@labelops.example", "token-of-willa")
PANEL = '<ac:structured-macro ac:name="info"><ac:rich-text-body><p>Mind</p></ac:rich-text-body></ac:structured-macro>'
SPHINX = """
extensions = ["sphinxcontrib.confluencebuilder"]
confluence_publish = True
confluence_server_url = "{base}/"
confluence_space_key = "DS"
confluence_server_user = "{user}"
confluence_server_pass = "{secret}"
confluence_api_mode = "{mode}"
confluence_disable_autogen_title = True
confluence_page_hierarchy = True
confluence_cleanup_purge = True
confluence_global_labels = ["guide"]
"""


def check(found: Any, expected: Any) -> None:
    """Stop where a client did not find what it should."""
    if found != expected:
        raise SystemExit(f"found {found!r}, expected {expected!r}")


@contextmanager
def confluence(flavour: str) -> Iterator[tuple[App, str, str]]:
    """Run a local Confluence with the space ``DS``; give its app, its address and the name to sign in with."""
    cloud = flavour == "cloud"
    stand_in = ConfluenceStandIn(None, [WRITER]) if cloud else DataCenterStandIn(None, [WRITER])
    with Server(stand_in.app) as server:
        base = server.url + ("/wiki" if cloud else "/confluence")
        user = WRITER.email if cloud else WRITER.email.partition("@")[0]
        path = "/api/v2/spaces" if cloud else "/rest/api/space"
        send(base + path, user, {"key": "DS", "name": "Data"})
        yield stand_in.app, base, user
    stand_in.close()


def send(address: str, user: str, value: Any) -> Any:
    """Send JSON as the writer and return the reply's."""
    reply = requests.post(address, json=value, auth=(user, WRITER.token), timeout=30)
    reply.raise_for_status()
    return reply.json()


def sphinx(flavour: str) -> None:
    """Publish two documents, again without a change, and again with one."""
    with confluence(flavour) as (app, base, user), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mode = "v2" if flavour == "cloud" else "v1"
        (folder / "conf.py").write_text(SPHINX.format(base=base, user=user, secret=WRITER.token, mode=mode), "utf-8")
        (folder / "index.rst").write_text("Handbook\n========\n\n.. toctree::\n\n   labels\n", "utf-8")
        (folder / "labels.rst").write_text("Labels\n======\n\n* one\n\n.. note:: Mind\n", "utf-8")

        def build(output: str) -> list[str]:
            app.requests.clear()
            command = [sys.executable, "-m", "sphinx", "-q", "-b", "confluence", name, str(folder / output)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                raise SystemExit(done.stdout + done.stderr)
            return [f"{method} {target}" for method, target in app.requests if method in ("POST", "PUT")]

        check(sum("/pages" in one or one.endswith("/content") for one in build("first")) >= 2, True)
        check(build("second"), [])
        with (folder / "labels.rst").open("a", encoding="utf-8") as file:
            file.write("\nOne more.\n")
        check(
            sum(one.startswith("PUT") and "property" not in one and "properties" not in one for one in build("third")),
            1,
        )


def langchain(flavour: str) -> None:
    """Load a page in storage format and as HTML: on Cloud by CQL, for its v1 reads no content any more."""
    from langchain_community.document_loaders.confluence import ConfluenceLoader, ContentFormat

    with confluence(flavour) as (_, base, user):
        if flavour == "cloud":
            space = requests.get(f"{base}/api/v2/spaces", auth=(user, WRITER.token), timeout=30).json()["results"][0]
            body = {"representation": "storage", "value": f"<p>Hello</p>{PANEL}"}
            page = send(f"{base}/api/v2/pages", user, {"spaceId": space["id"], "title": "Guide", "body": body})
        else:
            body = {"storage": {"representation": "storage", "value": f"<p>Hello</p>{PANEL}"}}
            sent = {"type": "page", "title": "Guide", "space": {"key": "DS"}, "body": body}
            page = send(f"{base}/rest/api/content", user, sent)
        send(f"{base}/rest/api/content/{page['id']}/label", user, [{"prefix": "global", "name": "guide"}])
        ways: list[dict[str, Any]] = [{"cql": "label = guide"}]
        if flavour == "datacenter":
            ways += [{"page_ids": [page["id"]]}, {"label": "guide"}, {"space_key": "DS"}]
        for way in ways:
            for format_ in (ContentFormat.STORAGE, ContentFormat.VIEW, ContentFormat.EXPORT_VIEW):
                loader = ConfluenceLoader(
                    url=base,
                    username=user,
                    api_key=WRITER.token,
                    cloud=flavour == "cloud",
                    content_format=format_,
                    include_labels=True,
                    **way,
                )
                found = [one for one in loader.load() if one.metadata["title"] == "Guide"]
                check([(one.page_content, one.metadata["labels"]) for one in found], [("Hello Mind", ["guide"])])


def jira(flavour: str) -> None:
    """Make an issue, change it, comment on it, move it on and find it."""
    from jira import JIRA

    stand_in = JiraStandIn(None, [PERSON], ["LAB"], flavour=flavour)
    with Server(stand_in.app) as server:
        client = JIRA(server.url, basic_auth=(PERSON.login, PERSON.token), max_retries=0)
        check([project.key for project in client.projects()], ["LAB"])
        issue = client.create_issue(project="LAB", summary="One", issuetype={"name": "Task"}, description="why")
        issue.update(summary="Two")
        client.add_comment(issue.key, "Seen.")
        client.transition_issue(issue, client.transitions(issue)[0]["id"])
        found = client.search_issues('project = "LAB"')[0]
        check((found.key, found.fields.summary), ("LAB-1", "Two"))
        check([comment.body for comment in client.comments(issue)], ["Seen."])
    stand_in.close()


CLIENTS: dict[str, Callable[[str], None]] = {
    "sphinxcontrib-confluencebuilder": sphinx,
    "langchain-community": langchain,
    "jira": jira,
}

if __name__ == "__main__":
    for client, play in CLIENTS.items():
        for flavour in ("cloud", "datacenter"):
            play(flavour)
            print(f"{client}: works against the local {flavour}")
