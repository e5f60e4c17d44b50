"""Every public operation of ``ConfluenceClient``, on each flavour, over HTTP, each exchange held to the contract.

An operation that is added and not listed here fails :func:`test_every_public_operation_is_here`. That each exchange is
valid is what ``tests/contracts/plugin.py`` looks at when a test ends.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest
import requests

from include.base.errors import Unsupported
from include.sandbox.confluence import ConfluenceStandIn, DataCenterStandIn, SandboxUser, gateway
from include.sandbox.http import Server
from include.systems.confluence import capabilities
from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.settings import FLAVOURS
from include.systems.confluence.values import Page, Restriction
from tests.contracts import confluence
from tests.contracts.contract import ABSENT, SPECS
from tests.contracts.recorder import Recorder
from tests.systems.confluence.site import client_of

pytestmark = pytest.mark.skipif(not SPECS.is_dir(), reason=ABSENT)

SERVICE = SandboxUser("acc-service", "Labelops service", "service@labelops.example", "service-token-4711")
REVIEWER = SandboxUser("acc-reviewer", "Rita Reviewer", "rita@labelops.example", "reviewer-token-0815")
GROUP = "reviewers"
CONTEXT = "/confluence"
BODY = (
    "<p>A word to mark.</p><ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-status>incomplete</ac:task-status>"
    '<ac:task-body>Sign: <ac:link><ri:user ri:account-id="acc-reviewer"/></ac:link></ac:task-body></ac:task>'
    "</ac:task-list>"
)
FILE = "Größe\n".encode()


@dataclass
class Case:
    """A site with one furnished page, and a client on it."""

    flavour: str
    stand_in: ConfluenceStandIn
    client: ConfluenceClient
    space: str
    top: Page
    page: Page

    def inline_comment(self) -> str:
        if self.flavour == "cloud":
            sent = {
                "pageId": self.page.id,
                "body": {"representation": "storage", "value": "<p>Which?</p>"},
                "inlineCommentProperties": {
                    "textSelection": "word",
                    "textSelectionMatchCount": 1,
                    "textSelectionMatchIndex": 0,
                },
            }
            return str(self.client._transport.session().post("/wiki/api/v2/inline-comments", json=sent).json()["id"])
        database = self.stand_in.database
        with database.transaction():
            number = database.next_id()
            columns = "id, page_id, body, version, author_id, created, location, resolution, marker_ref, selection"
            values = (number, int(self.page.id), "<p>Which?</p>", 1, REVIEWER.account_id, database.now())
            database.write(
                f"insert into comments ({columns}) values (?, ?, ?, ?, ?, ?, 'inline', 'open', 'ref-1', 'word')", values
            )
        return str(number)


def make_case(flavour: str, server: Server, stand_in: ConfluenceStandIn, patch: pytest.MonkeyPatch) -> Case:
    patch.setenv("NO_PROXY", "127.0.0.1")
    cloud = flavour == "cloud"
    login = SERVICE.email if cloud else SERVICE.email.partition("@")[0]
    path = "/wiki/api/v2/spaces" if cloud else f"{CONTEXT}/rest/api/space"
    made = requests.post(server.url + path, json={"key": "DS", "name": "Data"}, auth=(login, SERVICE.token), timeout=10)
    assert made.ok, made.text
    connection = {"host": server.url, "login": login, "password": SERVICE.token}
    client = client_of(connection, {"flavour": flavour, "path": "/wiki" if cloud else CONTEXT}, [])
    space = client.space("DS").id
    top = client.create_page(space, "Top", "<p />")
    page = client.create_page(space, "Page", BODY, parent_id=top.id)
    client.add_label(page.id, "kept")
    client.set_property(page.id, "labelops.kept", {"run": 1}, None)
    client.upload(page.id, "größe.txt", FILE, "text/plain")
    client.add_footer_comment(page.id, "<p>Seen</p>")
    return Case(flavour, stand_in, client, space, top, page)


@pytest.fixture(params=sorted(FLAVOURS))
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    users = [SERVICE, REVIEWER]
    made = (
        ConfluenceStandIn(None, users) if request.param == "cloud" else DataCenterStandIn(None, users, context=CONTEXT)
    )
    made.add_group(GROUP, [SERVICE.account_id, REVIEWER.account_id])
    with Server(made.app) as server:
        yield make_case(str(request.param), server, made, monkeypatch)
    made.close()


# --- operations ----------------------------------------------------------------------------------------------------
# Each returns something that is true when the operation did what it is for.

Operation = Callable[[Case], Any]
OPERATIONS: dict[str, Operation] = {}


def operation(function: Operation) -> Operation:
    OPERATIONS[function.__name__] = function
    return function


@operation
def check(case: Case) -> Any:
    return "refused" not in case.client.check()


@operation
def current_user(case: Case) -> Any:
    case.client._user = None  # it is asked for once only
    return case.client.current_user().account_id == SERVICE.account_id


@operation
def space(case: Case) -> Any:
    return case.client.space("DS").id == case.space


@operation
def pages_in_space(case: Case) -> Any:
    # The home page is the space's name on Cloud, and that with "Home" on Data Center.
    titles = {item.title.removesuffix(" Home") for item in case.client.pages_in_space(case.space)}
    return titles == {"Data", "Top", "Page"}


@operation
def changed_pages(case: Case) -> Any:
    first = case.client.changed_pages(case.space)
    seen = {item.id for item in first}
    case.client.update_page(case.client.page(case.page.id), body="<p>New</p>")
    return case.page.id in seen and case.page.id in {
        item.id for item in case.client.changed_pages(case.space, resume=first.state)
    }


@operation
def pages(case: Case) -> Any:
    found = {item.id: item for item in case.client.pages([case.page.id, case.top.id, "999999"])}
    return set(found) == {case.page.id, case.top.id} and "mark" in (found[case.page.id].body or "")


@operation
def page(case: Case) -> Any:
    changed = case.client.update_page(case.client.page(case.page.id), body="<p>New</p>")
    old = case.client.page(case.page.id, version=1)
    return changed.version.number == 2 and "mark" in (old.body or "")


@operation
def find_page(case: Case) -> Any:
    found = case.client.find_page(case.space, "Page")
    return found is not None and found.id == case.page.id and case.client.find_page(case.space, "Nothing") is None


@operation
def versions(case: Case) -> Any:
    case.client.update_page(case.client.page(case.page.id), body="<p>New</p>", message="why")
    return [(item.number, item.message) for item in case.client.versions(case.page.id)] == [(2, "why"), (1, "")]


@operation
def descendants(case: Case) -> Any:
    return [(node.id, node.depth) for node in case.client.descendants(case.top.id)] == [(case.page.id, 1)]


@operation
def pages_above(case: Case) -> Any:
    return case.client.pages_above(case.page.id)[-1] == case.top.id


@operation
def create_page(case: Case) -> Any:
    made = case.client.create_page(case.space, "Made", "<p>One</p>", parent_id=case.top.id)
    return (made.version.number, made.parent_id) == (1, case.top.id)


@operation
def create_restricted_page(case: Case) -> Any:
    only = Restriction("read", (SERVICE.account_id,), (GROUP,))
    made = case.client.create_restricted_page(case.space, "Secret", "<p>One</p>", [only], parent_id=case.top.id)
    return made.version.number == 2 and case.client.restrictions(made.id).own == (only,)


@operation
def update_page(case: Case) -> Any:
    read = case.client.page(case.page.id)
    return case.client.update_page(read, title="Renamed", body="<p>Two</p>").title == "Renamed"


@operation
def labels(case: Case) -> Any:
    return case.client.labels(case.page.id) == ["kept"]


@operation
def pages_with_label(case: Case) -> Any:
    return list(case.client.pages_with_label("DS", "kept")) == [case.page.id]


@operation
def add_label(case: Case) -> Any:
    case.client.add_label(case.page.id, "more")
    return case.client.labels(case.page.id) == ["kept", "more"]


@operation
def remove_label(case: Case) -> Any:
    case.client.remove_label(case.page.id, "kept")
    return case.client.labels(case.page.id) == []


@operation
def content_state(case: Case) -> Any:
    before = case.client.content_state(case.page.id)
    stand_in = case.stand_in
    with stand_in.database.transaction():
        stand_in.database.write("update pages set state_id = 3, state_changed = 1795168800000")
    after = case.client.content_state(case.page.id)
    return before is None and after is not None and after.name == "Verified"


@operation
def attachments(case: Case) -> Any:
    [item] = case.client.attachments(case.page.id)
    return (item.title, item.size, item.sha256) == ("größe.txt", len(FILE), sha256(FILE).hexdigest())


@operation
def download(case: Case) -> Any:
    [item] = case.client.attachments(case.page.id)
    return b"".join(case.client.download(item)) == FILE


@operation
def upload(case: Case) -> Any:
    first, sent = case.client.upload(case.page.id, "größe.txt", b"more", "text/plain")
    _, again = case.client.upload(case.page.id, "größe.txt", b"more", "text/plain")
    return (first.version, sent, again) == (2, True, False)


@operation
def properties(case: Case) -> Any:
    return [(item.key, item.value) for item in case.client.properties(case.page.id)] == [("labelops.kept", {"run": 1})]


@operation
def property_(case: Case) -> Any:
    found = case.client.property(case.page.id, "labelops.kept")
    return found is not None and found.value == {"run": 1} and case.client.property(case.page.id, "no.such") is None


@operation
def set_property(case: Case) -> Any:
    read = case.client.property(case.page.id, "labelops.kept")
    return case.client.set_property(case.page.id, "labelops.kept", [1, None, "ß"], read).version == 2


@operation
def footer_comments(case: Case) -> Any:
    return [item.body for item in case.client.footer_comments(case.page.id)] == ["<p>Seen</p>"]


@operation
def add_footer_comment(case: Case) -> Any:
    return case.client.add_footer_comment(case.page.id, "<p>Again</p>").author_id == SERVICE.account_id


@operation
def inline_comments(case: Case) -> Any:
    number = case.inline_comment()
    found = [(item.id, item.resolution, item.selection) for item in case.client.inline_comments(case.page.id)]
    return found == [(number, "open", "word")] and not list(case.client.inline_comments(case.page.id, "resolved"))


@operation
def inline_tasks(case: Case) -> Any:
    [task] = case.client.inline_tasks([case.page.id], "incomplete")
    return (task.assigned_to, task.completed_by) == (REVIEWER.account_id, None)


@operation
def restrictions(case: Case) -> Any:
    only = Restriction("read", (SERVICE.account_id,))
    case.client.set_restrictions(case.top.id, [only])
    found = case.client.restrictions(case.page.id)
    return found.own == () and found.inherited == ((case.top.id, only),)


@operation
def set_restrictions(case: Case) -> Any:
    wanted = [
        Restriction("read", (SERVICE.account_id,), (GROUP,)),
        Restriction("update", (REVIEWER.account_id, SERVICE.account_id)),
    ]
    done = case.client.set_restrictions(case.page.id, wanted)
    return done.own == tuple(wanted) and case.client.set_restrictions(case.page.id, []).own == ()


SILENT: dict[str, Operation] = {
    "flavour": lambda case: case.client.flavour == case.flavour,
    "supports": lambda case: case.client.supports("inline_tasks") == (case.flavour == "cloud"),
    "requirements": lambda case: case.client.requirements("pages"),
    "requests_made": lambda case: case.client.requests_made > 0,
    "page_url": lambda case: case.client.page_url(case.page).startswith("http"),
}
"""Public and sends nothing."""


def name_of(function: str) -> str:
    return function.rstrip("_")


def public(kind: type) -> set[str]:
    """Return the names of a class's public methods and properties."""
    methods = (property, staticmethod, classmethod)
    return {
        name
        for name, value in vars(kind).items()
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, methods))
    }


def test_every_public_operation_is_here() -> None:
    listed = {name_of(name) for name in OPERATIONS} | set(SILENT)
    assert public(ConfluenceClient) == listed


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_operation(case: Case, name: str, held_to_contract: Recorder) -> None:
    before = sum(held_to_contract.requests.values()), sum(held_to_contract.replies.values())
    if not case.client.supports(name_of(name)):
        with pytest.raises(Unsupported):
            OPERATIONS[name](case)
        assert sum(held_to_contract.requests.values()) == before[0], "nothing is sent for what is not there"
        return
    assert OPERATIONS[name](case)
    assert sum(held_to_contract.requests.values()) > before[0]
    assert sum(held_to_contract.replies.values()) > before[1]


def scopes_used(requests_made: Iterable[tuple[str, str]]) -> set[str]:
    """Return the scopes that the contract asks for these operations."""
    found: set[str] = set()
    for method, template in requests_made:
        contract = confluence.contract_of("cloud", template)
        operation = contract.find(method, template) if contract else None
        assert operation, f"{method} {template}"
        found |= operation.scopes
    return found


class Drained(list[Any]):
    """The items of a listing, read to the end, with its state."""

    def __init__(self, listing: Any) -> None:
        super().__init__(listing)
        self.state = getattr(listing, "state", None)

    def __next__(self) -> Any:
        return self.pop(0)


@pytest.mark.parametrize("case", ["cloud"], indirect=True)
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_needs_no_scope_but_those_it_names(
    case: Case, name: str, held_to_contract: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = getattr(ConfluenceClient, name_of(name))
    used: Counter[tuple[str, str]] = Counter()

    def watched(client: ConfluenceClient, *arguments: Any, **options: Any) -> Any:
        client._user = None
        before = Counter(held_to_contract.requests)
        result = method(client, *arguments, **options)
        result = Drained(result) if isinstance(result, Iterator) else result
        used.update(held_to_contract.requests - before)
        return result

    monkeypatch.setattr(ConfluenceClient, name_of(name), watched)
    assert OPERATIONS[name](case)
    assert used
    # A test of the connection tries the reads that need scopes of their own.
    named = capabilities.scopes_of(*([] if name == "check" else [name_of(name)]))
    assert scopes_used(used) <= set(named)


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_the_gateway_asks_for_the_scopes_of_the_contract(name: str) -> None:
    played = confluence.played(ConfluenceStandIn(None, []).app, confluence.contract(name))
    assert len(played) > 10
    for one in played:
        asked = gateway.scopes_needed(one.method, re.sub(r"[{}]", "", one.template))
        assert frozenset(asked or ()) == one.scopes, str(one)


@pytest.mark.parametrize("name", sorted(SILENT))
def test_what_sends_nothing(case: Case, name: str, held_to_contract: Recorder) -> None:
    before = sum(held_to_contract.requests.values())
    assert SILENT[name](case)
    assert sum(held_to_contract.requests.values()) == before
