"""Every public method of the HTTP clients, answered with what a stand-in answered it, and something wrong in that."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from random import Random
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from include.base.errors import LabelopsError, Unsupported
from include.bpmn.mapping import MAPPINGS, load_mapping, start_variables
from include.sandbox.confluence import ConfluenceStandIn, DataCenterStandIn, SandboxUser
from include.sandbox.http import App, HttpError, Reply, Request, json_reply
from include.sandbox.jira import JiraStandIn, JiraUser
from include.sandbox.opentext import OpenTextStandIn
from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.settings import Settings as ConfluenceSettings
from include.systems.confluence.values import Restriction
from include.systems.http import RetryPolicy
from include.systems.jira.client import JiraClient
from include.systems.jira.settings import Settings as JiraSettings
from include.systems.opentext import transport as opentext_transport
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.settings import read_settings
from tests.fuzz._mutate import mutated, written

__all__ = ["CALLS", "SILENT", "TARGETS"]

HOST = "http://stand-in.example"
POLICY = RetryPolicy(tries=2, sleep=lambda seconds: None, jitter=lambda: 1.0)
STATUSES = (200, 201, 204, 302, 400, 401, 403, 404, 405, 409, 418, 429, 500, 503)
HEADERS = {
    "Location": ("http://[", "//", "", "http://stand-in.example/x", "ftp://x"),
    "Retry-After": ("0", "nan", "1e400", "-1", "Fri, 99 Foo 0000", "²", "inf"),
    "Link": ('<http://[>; rel="next"', '</x?cursor=1>; rel="next"', "<>", ";;,,"),
    "Content-Type": ("text/html", "application/json; charset=utf-16", "application/json; charset=no-such"),
    "X-RateLimit-Reset": ("x", "9999-12-31T23:59:59-14:00"),
    "X-AUSERNAME": ("anonymous", ""),
}
Answer = Callable[[Request], Reply]
Call = Callable[[Any, SimpleNamespace], Any]


class Wire(HTTPAdapter):
    """Answers the requests of a session without a network."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer

    def send(self, request: requests.PreparedRequest, *more: Any, **options: Any) -> requests.Response:
        parts, body = urlsplit(str(request.url)), request.body or b""
        if isinstance(body, str):
            body = body.encode()
        asked = Request(
            str(request.method),
            unquote(parts.path) if "%2F" not in parts.path.upper() else parts.path,
            parts.path,
            parse_qs(parts.query, keep_blank_values=True),
            {name.lower(): str(value) for name, value in request.headers.items()},
            body,
        )
        reply = self.answer(asked)
        raw = HTTPResponse(io.BytesIO(reply.body), reply.headers, reply.status, preload_content=False)
        return self.build_response(request, raw)


def played(app: App, asked: Request) -> Reply:
    """Return what a stand-in answers."""
    try:
        return app.handle(asked)
    except HttpError as refused:
        return refused.reply


@dataclass(frozen=True)
class Recorded:
    """What the stand-in answered to one call, by request, in order; ``known`` are the ids that calls need."""

    client: Callable[[Answer], Any]
    known: SimpleNamespace
    replies: Mapping[tuple[str, str], list[Reply]]


def recorded(app: App, client: Callable[[Answer], Any], known: SimpleNamespace, call: Call) -> Recorded:
    """Make one call to a stand-in and keep what it answered."""
    replies: dict[tuple[str, str], list[Reply]] = {}

    def answer(asked: Request) -> Reply:
        reply = played(app, asked)
        replies.setdefault((asked.method, asked.path), []).append(reply)
        return reply

    read(call(client(answer), known))
    return Recorded(client, known, replies)


def read(found: Any) -> None:
    """Read what a call gives, lists to their end."""
    if isinstance(found, Iterator):
        for _ in found:
            pass
        state = getattr(found, "state", None)
        assert state is None or isinstance(state, str)


def again(random: Random, tape: Recorded, call: Call) -> None:
    """Make the call again, answered as before but for one reply, or for all."""
    left = {key: list(replies) for key, replies in tape.replies.items()}
    total = sum(map(len, left.values()))
    wrong = {random.randrange(total)} if random.random() < 0.7 else set(range(total))
    count = 0

    def answer(asked: Request) -> Reply:
        nonlocal count
        replies = left.get((asked.method, asked.path))
        if not replies:
            return json_reply({"message": "not there", "exception": "not there"}, 404)
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        count += 1
        return changed(random, reply) if count - 1 in wrong else reply

    read(call(tape.client(answer), tape.known))


def changed(random: Random, reply: Reply) -> Reply:
    """Return a reply with something wrong in its body, its status or a header."""
    kind = random.randrange(12)
    if kind == 0:
        return Reply(random.choice(STATUSES), reply.body, reply.headers)
    if kind == 1:
        name = random.choice(sorted(HEADERS))
        return Reply(reply.status, reply.body, {**reply.headers, name: random.choice(HEADERS[name])})
    if kind == 2:
        name = random.choice(sorted(HEADERS))
        headers = {**reply.headers, name: random.choice(HEADERS[name])}
        return Reply(random.choice(STATUSES), written(random, mutated(random, {"errors": [{"title": "x"}]})), headers)
    if kind == 3:
        return Reply(reply.status, reply.body[: random.randrange(len(reply.body) + 1)], reply.headers)
    try:
        body = json.loads(reply.body)
    except ValueError:
        return Reply(reply.status, bytes(random.randrange(256) for _ in range(20)), reply.headers)
    return Reply(reply.status, written(random, mutated(random, body, random.choice((1, 1, 2, 5)))), reply.headers)


# --- the stand-ins, each with one of everything ----------------------------------------------------------------------

SERVICE = SandboxUser("acc-service", "Labelops service", "service@labelops.example", "service-token-4711")
OWNER = {"id": "labelops-service", "secret": "an-invented-secret"}
ASKER = JiraUser("acc-service", "Labelops service", "service@labelops.example", "service-token-4711")
EFFECT = "ab" * 32
SINCE = datetime(2020, 1, 1, tzinfo=UTC)
TASKS = (
    "<p>A word.</p><ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-status>incomplete</ac:task-status>"
    '<ac:task-body>Sign: <ac:link><ri:user ri:account-id="acc-service"/></ac:link></ac:task-body></ac:task>'
    "</ac:task-list>"
)


def confluence_client(flavour: str, answer: Answer) -> ConfluenceClient:
    login = SERVICE.email if flavour == "cloud" else SERVICE.email.partition("@")[0]
    connection = SimpleNamespace(host=HOST, schema=None, port=None, login=login, password=SERVICE.token)
    connection.extra_dejson = {"flavour": flavour, "requests_per_second": 0}
    client = ConfluenceClient(ConfluenceSettings.read(connection), POLICY)
    client._transport.session().session.mount(HOST, Wire(answer))
    return client


def confluence(flavour: str) -> tuple[App, Callable[[Answer], Any], SimpleNamespace]:
    site = ConfluenceStandIn(None, [SERVICE]) if flavour == "cloud" else DataCenterStandIn(None, [SERVICE], context="")
    site.add_group("reviewers", [SERVICE.account_id])
    make = partial(confluence_client, flavour)
    client = make(partial(played, site.app))
    path = "/wiki/api/v2/spaces" if flavour == "cloud" else "/rest/api/space"
    client._transport.json("POST", path, json={"key": "DS", "name": "Data"})
    known = SimpleNamespace(space=client.space("DS").id)
    top = client.create_page(known.space, "Top", "<p>Top</p>")
    page = client.create_page(known.space, "Page", TASKS, parent_id=top.id)
    page = client.update_page(page, body=TASKS + "<p>More</p>")
    client.add_label(page.id, "kept")
    client.set_property(page.id, "kept", {"run": 1}, None)
    client.add_footer_comment(page.id, "<p>Seen</p>")
    known.top, known.page = top, page
    known.file, _ = client.upload(page.id, "a.txt", b"text", "text/plain")
    client.set_restrictions(page.id, [Restriction("read", (SERVICE.account_id,), ("reviewers",))])
    with site.database.transaction():
        site.database.write("update pages set state_id = 3, state_changed = 1795168800000")
        number = site.database.next_id()
        names = "id, page_id, body, version, author_id, created, location, resolution, marker_ref, selection"
        values = (number, int(page.id), "<p>?</p>", 1, SERVICE.account_id, site.database.now())
        statement = f"insert into comments ({names}) values (?, ?, ?, ?, ?, ?, 'inline', 'open', 'ref-1', 'word')"
        site.database.write(statement, values)
    return site.app, make, known


def opentext_client(answer: Answer) -> OpenTextClient:
    connection = SimpleNamespace(host=HOST, schema=None, port=None, login=OWNER["id"], password=OWNER["secret"])
    connection.conn_id = "opentext_default"
    connection.extra_dejson = {"tenant_id": "tenant-1", "history_grace_seconds": 0}
    opentext_transport._TOKENS._tokens.clear()
    client = OpenTextClient(read_settings(connection), POLICY)
    client._http._session.mount(HOST, Wire(answer))
    return client


def opentext() -> tuple[App, Callable[[Answer], Any], SimpleNamespace]:
    dana = {"email": "dana@people.example", "name": "Dana", "password": "pw", "groups": ["data_owners"]}
    service = OpenTextStandIn(None, users=[dana], clients=[OWNER])
    service.service_may_complete = True
    client = opentext_client(partial(played, service.app))
    xml = (MAPPINGS.parent / "labeling_approval.bpmn").read_text("utf-8")
    mapping = load_mapping("default").labeling_approval
    variables = {**start_variables(mapping, ["data_owner"]), mapping.digest_variable: EFFECT}
    client.deploy("labeling_approval", xml)
    known = SimpleNamespace(xml=xml, key=mapping.process_key, variables=variables)
    known.started = partial(client.start_process, known.key, name="V", variables=variables)
    known.process, known.ended = (known.started(business_key=key)[0] for key in ("k1", "k2"))
    client.terminate(known.ended, "not needed")
    client.add_comment(known.process, "once")
    known.task = next(client.tasks(process_id=known.process)).id
    known.attachment = client.add_attachment(known.task, "a.txt", content=b"text").id
    known.third = known.started(business_key="k4")[0]
    known.other = next(client.tasks(process_id=known.started(business_key="k3")[0])).id
    known.model = next(client.models()).id
    return service.app, opentext_client, known


def jira_client(flavour: str, answer: Answer) -> JiraClient:
    settings = JiraSettings(HOST, ASKER.token, ASKER.login, flavour == "cloud", index_seconds=0)
    client = JiraClient(settings, POLICY)
    client._site.session.mount(HOST, Wire(answer))
    return client


def jira(flavour: str) -> tuple[App, Callable[[Answer], Any], SimpleNamespace]:
    site = JiraStandIn(None, [ASKER], ["LAB"], flavour=flavour)
    make = partial(jira_client, flavour)
    client = make(partial(played, site.app))
    issue, _ = client.create_issue("LAB", "Task", "Label", "200 wait.", effect=EFFECT)
    client.add_comment(issue.key, "Once.")
    return site.app, make, SimpleNamespace(key=issue.key)


# --- what is called -------------------------------------------------------------------------------------------------

ONLY = (Restriction("read", (SERVICE.account_id,)),)

CALLS: dict[type, dict[str, Call]] = {
    ConfluenceClient: {
        "add_footer_comment": lambda client, known: client.add_footer_comment(known.page.id, "<p>Again</p>"),
        "add_label": lambda client, known: client.add_label(known.page.id, "more"),
        "attachments": lambda client, known: client.attachments(known.page.id),
        "changed_pages": lambda client, known: client.changed_pages(known.space),
        "check": lambda client, known: client.check(),
        "content_state": lambda client, known: client.content_state(known.page.id),
        "create_page": lambda client, known: client.create_page(
            known.space, "New", "<p>One</p>", parent_id=known.top.id
        ),
        "create_restricted_page": lambda client, known: client.create_restricted_page(
            known.space, "S", "<p>1</p>", ONLY
        ),
        "current_user": lambda client, known: client.current_user(),
        "descendants": lambda client, known: client.descendants(known.top.id),
        "download": lambda client, known: client.download(known.file),
        "find_page": lambda client, known: client.find_page(known.space, "Page"),
        "footer_comments": lambda client, known: client.footer_comments(known.page.id),
        "inline_comments": lambda client, known: client.inline_comments(known.page.id),
        "inline_tasks": lambda client, known: client.inline_tasks([known.page.id]),
        "labels": lambda client, known: client.labels(known.page.id),
        "page": lambda client, known: client.page(known.page.id, version=1),
        "page_url": lambda client, known: client.page_url(client.page(known.page.id)),
        "pages": lambda client, known: client.pages([known.page.id, known.top.id, "999999"]),
        "pages_above": lambda client, known: client.pages_above(known.page.id),
        "pages_in_space": lambda client, known: client.pages_in_space(known.space),
        "pages_with_label": lambda client, known: client.pages_with_label("DS", "kept"),
        "properties": lambda client, known: client.properties(known.page.id),
        "property": lambda client, known: client.property(known.page.id, "kept"),
        "remove_label": lambda client, known: client.remove_label(known.page.id, "kept"),
        "restrictions": lambda client, known: client.restrictions(known.page.id),
        "set_property": lambda client, known: client.set_property(known.page.id, "new", [1, None], None),
        "set_restrictions": lambda client, known: client.set_restrictions(known.top.id, ONLY),
        "space": lambda client, known: client.space("DS"),
        "update_page": lambda client, known: client.update_page(client.page(known.page.id), body="<p>Two</p>"),
        "upload": lambda client, known: client.upload(known.page.id, "b.txt", b"more", "text/plain"),
        "versions": lambda client, known: client.versions(known.page.id),
    },
    JiraClient: {
        "add_comment": lambda client, known: client.add_comment(known.key, "Twice."),
        "changed_issues": lambda client, known: client.changed_issues("LAB"),
        "check": lambda client, known: client.check(),
        "comments": lambda client, known: client.comments(known.key),
        "create_issue": lambda client, known: client.create_issue("LAB", "Task", "New", "Text.", effect="cd" * 32),
        "current_user": lambda client, known: client.current_user(),
        "find_issue": lambda client, known: client.find_issue("LAB", EFFECT),
        "issue": lambda client, known: client.issue(known.key),
        "search": lambda client, known: client.search("project = LAB"),
        "transition": lambda client, known: client.transition(known.key, "Done"),
    },
    OpenTextClient: {
        "add_attachment": lambda client, known: client.add_attachment(known.task, "b", url="https://example.org/b"),
        "add_comment": lambda client, known: client.add_comment(known.process, "twice"),
        "attachment_content": lambda client, known: client.attachment_content(known.task, known.attachment),
        "attachments": lambda client, known: client.attachments(known.task),
        "check": lambda client, known: client.check(),
        "claim": lambda client, known: client.claim(known.task, "dana@people.example"),
        "comments": lambda client, known: client.comments(known.process),
        "complete": lambda client, known: client.complete(known.other, variables={"owner_decision": "approved"}),
        "deploy": lambda client, known: client.deploy("labeling_approval", known.xml),
        "ended_since": lambda client, known: client.ended_since(SINCE),
        "find_process": lambda client, known: client.find_process("k1"),
        "historic_task": lambda client, known: client.historic_task(known.task),
        "historic_tasks": lambda client, known: client.historic_tasks(known.process),
        "history": lambda client, known: client.history(known.ended),
        "model": lambda client, known: client.model(known.model),
        "models": lambda client, known: client.models(),
        "process": lambda client, known: client.process(known.process),
        "process_url": lambda client, known: client.process_url(client.find_process("k2") or ""),
        "processes": lambda client, known: client.processes(),
        "running": lambda client, known: client.running(),
        "set_variable": lambda client, known: client.set_variable(known.process, "new", [1]),
        "start_process": lambda client, known: client.start_process(
            known.key, name="V", business_key="k9", variables=known.variables
        ),
        "task": lambda client, known: client.task(known.task),
        "tasks": lambda client, known: client.tasks(),
        "terminate": lambda client, known: client.terminate(known.third, "enough"),
        "update_task": lambda client, known: client.update_task(known.task, priority=60),
    },
}
"""A call of each public method that sends something. A method that is not here, nor in ``SILENT``, fails a test."""

SILENT = {
    ConfluenceClient: {"flavour", "requests_made", "requirements", "supports"},
    JiraClient: {"requirements"},
    OpenTextClient: {"groups", "requirements"},
}


@cache
def tapes(kind: type, flavour: str) -> dict[str, Recorded]:
    """Return what a fresh stand-in answers to each call that the flavour can do."""
    made = {ConfluenceClient: confluence, JiraClient: jira, OpenTextClient: lambda flavour: opentext()}
    found = {}
    try:
        app, client, known = made[kind](flavour)
        for name, call in sorted(CALLS[kind].items()):
            with suppress(Unsupported):
                found[name] = recorded(app, client, known, call)
    except LabelopsError as refused:
        raise AssertionError(f"{kind.__name__}: a call cannot be recorded: {refused}") from refused
    return found


def target(kind: type, flavour: str, random: Random) -> None:
    """Make one call with something wrong in its replies."""
    known = tapes(kind, flavour)
    name = random.choice(sorted(known))
    again(random, known[name], CALLS[kind][name])


TARGETS = {
    "opentext": partial(target, OpenTextClient, ""),
    "confluence cloud": partial(target, ConfluenceClient, "cloud"),
    "confluence datacenter": partial(target, ConfluenceClient, "datacenter"),
    "jira cloud": partial(target, JiraClient, "cloud"),
    "jira datacenter": partial(target, JiraClient, "datacenter"),
}
