"""Every public operation of ``ConfluenceHook``, on each flavour, over HTTP, each exchange held to the contract.

An operation that is added and not listed here fails :func:`test_every_public_operation_is_here`. That each exchange is
valid is what ``tests/contracts/plugin.py`` looks at when a test ends.
"""

from __future__ import annotations

import inspect
import json
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
from include.systems.confluence.values import ConfluenceGateway, Page, Restriction
from include.systems.http import RetryPolicy
from labelops.hooks.confluence import ConfluenceHook, capabilities
from labelops.hooks.confluence.hook import SITES
from tests.contracts import confluence
from tests.contracts.contract import ABSENT, SPECS
from tests.contracts.recorder import Recorder

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
    """A site with one furnished page, and a hook on it."""

    flavour: str
    stand_in: ConfluenceStandIn
    hook: ConfluenceHook
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
            return str(self.hook.get_conn().post("/wiki/api/v2/inline-comments", json=sent).json()["id"])
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
    connection = {
        "conn_type": "confluence",
        "host": server.url,
        "login": login,
        "password": SERVICE.token,
        "extra": {"flavour": flavour, "path": "/wiki" if cloud else CONTEXT},
    }
    patch.setenv("AIRFLOW_CONN_CONFLUENCE_TEST", json.dumps(connection))
    hook = ConfluenceHook("confluence_test", policy=RetryPolicy(sleep=lambda seconds: None))
    space = hook.space("DS").id
    top = hook.create_page(space, "Top", "<p />")
    page = hook.create_page(space, "Page", BODY, parent_id=top.id)
    hook.add_label(page.id, "kept")
    hook.set_property(page.id, "labelops.kept", {"run": 1}, None)
    hook.upload(page.id, "größe.txt", FILE, "text/plain")
    hook.add_footer_comment(page.id, "<p>Seen</p>")
    return Case(flavour, stand_in, hook, space, top, page)


@pytest.fixture(params=sorted(SITES))
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    users = [SERVICE, REVIEWER]
    made = (
        ConfluenceStandIn(None, users) if request.param == "cloud" else DataCenterStandIn(None, users, context=CONTEXT)
    )
    made.add_group(GROUP, [SERVICE.account_id, REVIEWER.account_id])
    # Data Center shows a group's members to administrators only.
    made.add_group("confluence-administrators", [SERVICE.account_id])
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


def connects(case: Case) -> Any:
    done, message = case.hook.test_connection()
    return done and "refused" not in message


OPERATIONS["test_connection"] = connects


@operation
def get_conn(case: Case) -> Any:
    path = "/wiki/rest/api/user/current" if case.flavour == "cloud" else f"{CONTEXT}/rest/api/user/current"
    return case.hook.get_conn().get(path).status_code == 200


@operation
def current_user(case: Case) -> Any:
    case.hook._user = None  # it is asked for once only
    return case.hook.current_user().account_id == SERVICE.account_id


@operation
def user(case: Case) -> Any:
    return case.hook.user(REVIEWER.account_id).display_name == REVIEWER.name


@operation
def users(case: Case) -> Any:
    found = case.hook.users([REVIEWER.account_id, SERVICE.account_id, "acc-nobody"])
    return {name: item.display_name for name, item in found.items()} == {
        REVIEWER.account_id: REVIEWER.name,
        SERVICE.account_id: SERVICE.name,
    }


@operation
def group_members(case: Case) -> Any:
    return {item.account_id for item in case.hook.group_members(GROUP)} == {SERVICE.account_id, REVIEWER.account_id}


@operation
def spaces(case: Case) -> Any:
    return [item.key for item in case.hook.spaces()] == ["DS"]


@operation
def space(case: Case) -> Any:
    return case.hook.space("DS").id == case.space


@operation
def pages_in_space(case: Case) -> Any:
    # The home page is the space's name on Cloud, and that with "Home" on Data Center.
    titles = {item.title.removesuffix(" Home") for item in case.hook.pages_in_space(case.space)}
    return titles == {"Data", "Top", "Page"}


@operation
def changed_pages(case: Case) -> Any:
    first = case.hook.changed_pages(case.space)
    seen = {item.id for item in first}
    case.hook.update_page(case.hook.page(case.page.id), body="<p>New</p>")
    return case.page.id in seen and case.page.id in {
        item.id for item in case.hook.changed_pages(case.space, resume=first.state)
    }


@operation
def pages(case: Case) -> Any:
    found = {item.id: item for item in case.hook.pages([case.page.id, case.top.id, "999999"])}
    return set(found) == {case.page.id, case.top.id} and "mark" in (found[case.page.id].body or "")


@operation
def page(case: Case) -> Any:
    changed = case.hook.update_page(case.hook.page(case.page.id), body="<p>New</p>")
    old = case.hook.page(case.page.id, version=1)
    return changed.version.number == 2 and "mark" in (old.body or "")


@operation
def find_page(case: Case) -> Any:
    found = case.hook.find_page(case.space, "Page")
    return found is not None and found.id == case.page.id and case.hook.find_page(case.space, "Nothing") is None


@operation
def versions(case: Case) -> Any:
    case.hook.update_page(case.hook.page(case.page.id), body="<p>New</p>", message="why")
    return [(item.number, item.message) for item in case.hook.versions(case.page.id)] == [(2, "why"), (1, "")]


@operation
def descendants(case: Case) -> Any:
    return [(node.id, node.depth) for node in case.hook.descendants(case.top.id)] == [(case.page.id, 1)]


@operation
def ancestors(case: Case) -> Any:
    return case.hook.ancestors(case.page.id)[-1].id == case.top.id


@operation
def create_page(case: Case) -> Any:
    made = case.hook.create_page(case.space, "Made", "<p>One</p>", parent_id=case.top.id)
    return (made.version.number, made.parent_id) == (1, case.top.id)


@operation
def create_restricted_page(case: Case) -> Any:
    only = Restriction("read", (SERVICE.account_id,), (GROUP,))
    made = case.hook.create_restricted_page(case.space, "Secret", "<p>One</p>", [only], parent_id=case.top.id)
    return made.version.number == 2 and case.hook.restrictions(made.id).own == (only,)


@operation
def update_page(case: Case) -> Any:
    read = case.hook.page(case.page.id)
    return case.hook.update_page(read, title="Renamed", body="<p>Two</p>").title == "Renamed"


@operation
def move_page(case: Case) -> Any:
    other = case.hook.create_page(case.space, "Other", "<p />")
    return case.hook.move_page(case.page, other.id).parent_id == other.id


@operation
def archive_page(case: Case) -> Any:
    return case.hook.archive_page(case.page.id).status == "archived"


@operation
def labels(case: Case) -> Any:
    return case.hook.labels(case.page.id) == ["kept"]


@operation
def pages_with_label(case: Case) -> Any:
    return list(case.hook.pages_with_label("DS", "kept")) == [case.page.id]


@operation
def add_label(case: Case) -> Any:
    case.hook.add_label(case.page.id, "more")
    return case.hook.labels(case.page.id) == ["kept", "more"]


@operation
def remove_label(case: Case) -> Any:
    case.hook.remove_label(case.page.id, "kept")
    return case.hook.labels(case.page.id) == []


@operation
def content_state(case: Case) -> Any:
    before = case.hook.content_state(case.page.id)
    stand_in = case.stand_in
    with stand_in.database.transaction():
        stand_in.database.write("update pages set state_id = 3, state_changed = 1795168800000")
    after = case.hook.content_state(case.page.id)
    return before is None and after is not None and after.name == "Verified"


@operation
def attachments(case: Case) -> Any:
    [item] = case.hook.attachments(case.page.id)
    return (item.title, item.size, item.sha256) == ("größe.txt", len(FILE), sha256(FILE).hexdigest())


@operation
def download(case: Case) -> Any:
    [item] = case.hook.attachments(case.page.id)
    return b"".join(case.hook.download(item)) == FILE


@operation
def upload(case: Case) -> Any:
    first, sent = case.hook.upload(case.page.id, "größe.txt", b"more", "text/plain")
    _, again = case.hook.upload(case.page.id, "größe.txt", b"more", "text/plain")
    return (first.version, sent, again) == (2, True, False)


@operation
def properties(case: Case) -> Any:
    return [(item.key, item.value) for item in case.hook.properties(case.page.id)] == [("labelops.kept", {"run": 1})]


@operation
def property_(case: Case) -> Any:
    found = case.hook.property(case.page.id, "labelops.kept")
    return found is not None and found.value == {"run": 1} and case.hook.property(case.page.id, "no.such") is None


@operation
def set_property(case: Case) -> Any:
    read = case.hook.property(case.page.id, "labelops.kept")
    return case.hook.set_property(case.page.id, "labelops.kept", [1, None, "ß"], read).version == 2


@operation
def footer_comments(case: Case) -> Any:
    return [item.body for item in case.hook.footer_comments(case.page.id)] == ["<p>Seen</p>"]


@operation
def add_footer_comment(case: Case) -> Any:
    return case.hook.add_footer_comment(case.page.id, "<p>Again</p>").author_id == SERVICE.account_id


@operation
def inline_comments(case: Case) -> Any:
    number = case.inline_comment()
    found = [(item.id, item.resolution, item.selection) for item in case.hook.inline_comments(case.page.id)]
    return found == [(number, "open", "word")] and not list(case.hook.inline_comments(case.page.id, "resolved"))


@operation
def inline_tasks(case: Case) -> Any:
    [task] = case.hook.inline_tasks([case.page.id], "incomplete")
    return (task.assigned_to, task.completed_by) == (REVIEWER.account_id, None)


@operation
def complete_task(case: Case) -> Any:
    [task] = case.hook.inline_tasks([case.page.id])
    return case.hook.complete_task(task.id).completed_by == SERVICE.account_id


@operation
def restrictions(case: Case) -> Any:
    only = Restriction("read", (SERVICE.account_id,))
    case.hook.set_restrictions(case.top.id, [only])
    found = case.hook.restrictions(case.page.id)
    return found.own == () and found.inherited == ((case.top.id, only),)


@operation
def set_restrictions(case: Case) -> Any:
    wanted = [
        Restriction("read", (SERVICE.account_id,), (GROUP,)),
        Restriction("update", (REVIEWER.account_id, SERVICE.account_id)),
    ]
    done = case.hook.set_restrictions(case.page.id, wanted)
    return done.own == tuple(wanted) and case.hook.set_restrictions(case.page.id, []).own == ()


@operation
def search(case: Case) -> Any:
    [hit] = case.hook.search('type = page and title = "Page"')
    return (hit.id, hit.kind, hit.title) == (case.page.id, "page", "Page")


SILENT: dict[str, Operation] = {
    "flavour": lambda case: case.hook.flavour == case.flavour,
    "supports": lambda case: case.hook.supports("inline_tasks") == (case.flavour == "cloud"),
    "requirements": lambda case: case.hook.requirements("pages"),
    "requests_made": lambda case: case.hook.requests_made > 0,
    "page_url": lambda case: case.hook.page_url(case.page).startswith("http"),
}
"""Public and sends nothing."""
OF_AIRFLOW = {"get_ui_field_behaviour", "get_connection_form_widgets"}
"""For Airflow's own forms."""


def name_of(function: str) -> str:
    return function.rstrip("_")


def public(kind: type) -> set[str]:
    """Return the names of the methods and properties that our own classes of a hook define."""
    found = set()
    for part in kind.__mro__:
        if part.__module__.startswith(("labelops.hooks.confluence", "include.systems.confluence.values")):
            found |= {
                name
                for name, value in vars(part).items()
                if not name.startswith("_")
                and (inspect.isroutine(value) or isinstance(value, (property, staticmethod, classmethod)))
            }
    return found


def test_every_public_operation_is_here() -> None:
    listed = {name_of(name) for name in OPERATIONS} | set(SILENT)
    assert public(ConfluenceHook) - OF_AIRFLOW == listed
    assert public(ConfluenceGateway) - {"writes_by_page"} <= listed


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_operation(case: Case, name: str, held_to_contract: Recorder) -> None:
    before = sum(held_to_contract.requests.values()), sum(held_to_contract.replies.values())
    known = name_of(name) in public(ConfluenceGateway)
    if known and not case.hook.supports(name_of(name)):
        with pytest.raises(Unsupported):
            OPERATIONS[name](case)
        assert sum(held_to_contract.requests.values()) == before[0], "nothing is sent for what is not there"
        return
    assert OPERATIONS[name](case)
    assert sum(held_to_contract.requests.values()) > before[0] or name == "get_conn"
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
@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"get_conn"}))
def test_an_operation_needs_no_scope_but_those_it_names(
    case: Case, name: str, held_to_contract: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = getattr(ConfluenceHook, name_of(name))
    used: Counter[tuple[str, str]] = Counter()

    def watched(hook: ConfluenceHook, *arguments: Any, **options: Any) -> Any:
        hook._user = None
        before = Counter(held_to_contract.requests)
        result = method(hook, *arguments, **options)
        result = Drained(result) if isinstance(result, Iterator) else result
        used.update(held_to_contract.requests - before)
        return result

    monkeypatch.setattr(ConfluenceHook, name_of(name), watched)
    assert OPERATIONS[name](case)
    assert used
    # A test of the connection tries the reads that need scopes of their own.
    named = capabilities.scopes_of(*([] if name == "test_connection" else [name_of(name)]))
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
