"""Requests made up from the contracts, against the local Confluence: no crash, no shape that the contract lacks.

Schemathesis makes them up, from a fixed seed. The operations are those that the stand-in's routes answer; half of the
ids in the paths are ids of things that are there. Requests of one kind follow the contract, those of the other break
it somewhere.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from include.sandbox.confluence import ConfluenceStandIn, DataCenterStandIn, SandboxUser
from include.sandbox.http import Server
from tests.contracts import confluence
from tests.contracts.contract import ABSENT, METHODS, SPECS, Exchange

pytestmark = pytest.mark.skipif(not SPECS.is_dir(), reason=ABSENT)

USER = SandboxUser("acc-maker", "Mo Maker", "mo@labelops.example", "token-of-mo")
EXAMPLES = 4
"""Requests of each kind for each operation."""
NOT_PLAYED = 501
"""What the local Confluence answers, with a sentence, to body formats other than storage."""
TASK = (
    "<ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-status>incomplete</ac:task-status>"
    "<ac:task-body>Do</ac:task-body></ac:task></ac:task-list>"
)


@dataclass(frozen=True)
class Site:
    """A running stand-in and the ids of what is on it, by the names that paths give them."""

    url: str
    session: requests.Session
    ids: dict[str, list[str]]


def flavour_of(name: str) -> str:
    return "datacenter" if name == "datacenter" else "cloud"


def make(name: str) -> ConfluenceStandIn:
    return DataCenterStandIn(None, [USER], context="") if name == "datacenter" else ConfluenceStandIn(None, [USER])


def implemented(name: str) -> list[tuple[str, str]]:
    """Return method and template of the contract's operations that the stand-in has a route for."""
    played = confluence.played(make(name).app, confluence.contract(name))
    return sorted(((one.method, one.template) for one in played), key=lambda one: (one[0] == "DELETE", one[1], one[0]))


@cache
def schema(name: str) -> Any:
    """Return the implemented part of a contract as Schemathesis wants it."""
    document = copy.deepcopy(confluence.document(name))
    prefix = confluence.contract(name).prefix
    wanted = set(implemented(name))
    document["paths"] = {
        prefix + path: {
            word: value
            for word, value in item.items()
            if word not in METHODS or (word.upper(), prefix + path) in wanted
        }
        for path, item in document["paths"].items()
        if any((method.upper(), prefix + path) in wanted for method in METHODS)
    }
    document.pop("servers", None)
    if name == "v1":
        # They hold each other, so that making one up takes seconds. Replies are held to the whole contract below.
        schemas = document["components"]["schemas"]
        schemas |= {word: {"type": "object"} for word in ("Content", "Container", "Space", "UserDetails")}
        wanted_of_user = ("type", "accountId", "accountType", "displayName", "email")
        user = schemas["User"]
        user["properties"] = {word: user["properties"][word] for word in wanted_of_user}
    return schemathesis.openapi.from_dict(document)


@pytest.fixture(scope="module")
def sites() -> Iterator[dict[str, Site]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        stand_ins = {flavour: make(flavour) for flavour in confluence.FLAVOURS}
        servers = {flavour: Server(stand_in.app).start() for flavour, stand_in in stand_ins.items()}
        yield {flavour: furnish(flavour, stand_ins[flavour], servers[flavour]) for flavour in stand_ins}
        for flavour, server in servers.items():
            server.stop()
            stand_ins[flavour].close()


def furnish(flavour: str, stand_in: ConfluenceStandIn, server: Server) -> Site:
    """Put some of everything on the site."""
    session = requests.Session()
    session.trust_env = False
    session.auth = (USER.email if flavour == "cloud" else USER.email.partition("@")[0], USER.token)
    stand_in.add_group("makers", [USER.account_id])
    with stand_in.database.transaction():
        database = stand_in.database
        space = database.next_id()
        database.write("insert into spaces values (?, 'DS', 'Data', null, ?, 1)", (space, USER.account_id))
        pages = [stand_in._insert_page(space, f"Page {n}", TASK, None, USER.account_id) for n in range(3)]
        database.write("update spaces set homepage_id = ?", (pages[0],))
        comments, files, properties = database.next_id(), database.next_id(), database.next_id()
        database.write(
            "insert into comments (id, page_id, body, version, author_id, created) values (?, ?, '<p />', 1, ?, 1)",
            (comments, pages[0], USER.account_id),
        )
        database.write(
            "insert into attachments values (?, ?, 'a.txt', 'text/plain', '', 1, ?, 1, x'61')",
            (files, pages[0], USER.account_id),
        )
        database.write(
            "insert into properties values (?, ?, 'kept', '{}', 1, ?, 1)", (properties, pages[0], USER.account_id)
        )
        tasks = [str(row["id"]) for row in database.rows("select id from tasks")]
    page_ids = [str(number) for number in pages]
    ids = {
        "pages": page_ids,
        "content": page_ids,
        "move": page_ids,
        "spaces": [str(space)],
        "space": ["DS"],
        "tasks": tasks,
        "attachments": [f"att{files}"],
        "attachment": [f"att{files}"],
        "properties": [str(properties)],
        "property": ["kept"],
        "footer-comments": [str(comments)],
        "label": ["some"],
        "group": ["makers"],
        "byOperation": ["read"],
        "child": ["page"],
    }
    return Site(server.url, session, ids)


def with_known_ids(case: Any, draw: Any, ids: dict[str, list[str]]) -> None:
    """Let each id in the path be one that is there, half of the time."""
    pieces = case.operation.path.split("/")
    for before, piece in itertools.pairwise(pieces):
        name = piece[1:-1]
        if piece.startswith("{") and before in ids and draw(st.booleans()):
            case.path_parameters[name] = draw(st.sampled_from(ids[before]))


OPERATIONS = [
    pytest.param(name, method, template, id=f"{name} {method} {template}")
    for name in ("v2", "v1", "datacenter")
    for method, template in (implemented(name) if SPECS.is_dir() else ())
]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize(("name", "method", "template"), OPERATIONS)
def test_generated_requests(
    sites: dict[str, Site], name: str, method: str, template: str, mode: GenerationMode
) -> None:
    site = sites[flavour_of(name)]
    operation = schema(name)[template][method]

    @given(data=st.data())
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    def ask(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        with_known_ids(case, data.draw, site.ids)
        response = case.call(base_url=site.url, session=site.session, allow_redirects=False, timeout=10)
        request = response.request
        path, _, query = request.path_url.partition("?")
        body = request.body or b""
        exchange = Exchange(
            str(request.method),
            path,
            query,
            dict(request.headers),
            body.encode() if isinstance(body, str) else body,
            response.status_code,
            {word: values[0] for word, values in response.headers.items()},
            response.content,
        )
        if response.status_code == NOT_PLAYED and "storage format only" in response.text:
            return
        assert response.status_code < 500, f"{exchange}: {response.status_code} {body[:500]!r}"
        case.validate_response(response, checks=CHECKS)
        assert confluence.reply_faults(flavour_of(name), exchange) == []

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "nothing follows the contract"


CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.load_all_checks() or schemathesis.checks.CHECKS.get_one("status_code_conformance"),
    schemathesis.checks.CHECKS.get_one("content_type_conformance"),
    schemathesis.checks.CHECKS.get_one("response_schema_conformance"),
]
