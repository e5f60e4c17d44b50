"""The doors under acceptance: each hook with each engine behind it, and what a test may do to it from outside.

A door fills its system as people do, not through the hook, so that the hook is not tested by itself.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import pytest
import requests
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from include.base.errors import AuthError, LabelopsError, NotFound, Unavailable
from include.bpmn.mapping import MAPPINGS
from include.sandbox.confluence import ConfluenceStandIn, DataCenterStandIn, SandboxUser, site, wire
from include.sandbox.confluence.gateway import Token
from include.sandbox.http import Server
from include.sandbox.jira import JiraStandIn, JiraUser
from include.sandbox.opentext import OpenTextStandIn
from include.sandbox.opentext.person import Person
from include.sandbox.prodigy_schema import create_schema, import_jsonl
from include.systems.confluence.capabilities import scopes_of
from include.systems.http import RetryPolicy
from include.systems.listing import Listing
from include.systems.prodigy import new_rows
from labelops.hooks.confluence import ConfluenceHook
from labelops.hooks.jira import JiraIssueHook
from labelops.hooks.opentext import OpenTextWorkflowHook
from labelops.hooks.prodigy import ProdigyHook
from tests.servers import airflow_connection, fresh_database

__all__ = ["DOORS", "Door"]

SECRET = "acceptance-secret-Zq7"
NO_PATIENCE = RetryPolicy(tries=2, sleep=lambda seconds: None, jitter=lambda: 1.0)


class Door(ABC):
    """One hook with one engine.

    :param patch: where connections are put into the environment.
    """

    conn_id = "acceptance"
    secrets: tuple[str, ...] = (SECRET,)
    wrongs: tuple[str, ...] = ("host", "secret", "scope")
    errors: ClassVar[dict[str, type[LabelopsError]]] = {"host": Unavailable, "secret": AuthError}
    speaks_as = ""
    right_word = "permission"

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def connect(self, conn_type: str, **fields: Any) -> str:
        """Put a connection into the environment and return its id."""
        self.patch.setenv(f"AIRFLOW_CONN_{self.conn_id.upper()}", json.dumps({"conn_type": conn_type, **fields}))
        return self.conn_id

    @abstractmethod
    def hook(self, *, wrong: str = "") -> Any:
        """Return a hook; ``wrong`` is what of its connection is: ``host``, ``secret`` or ``scope`` (too few rights)."""

    def requirements(self) -> tuple[str, ...]:
        """Return what the account needs."""
        return tuple(self.hook().get_conn().requirements())

    @abstractmethod
    def fill(self, number: int) -> None:
        """Make so many things more, as people would."""

    @abstractmethod
    def change(self) -> None:
        """Change one thing, or add one, as people would."""

    @abstractmethod
    def all(self, hook: Any, resume: str | None = None) -> Listing[Any]:
        """List everything, a few things a request."""

    @abstractmethod
    def changes(self, hook: Any, resume: str | None = None) -> Listing[Any]:
        """List what is new or changed."""

    @abstractmethod
    def name(self, item: Any) -> str:
        """Return the name under which :meth:`there` knows an item."""

    @abstractmethod
    def there(self) -> set[str]:
        """Return the names of everything there is, asked of the system and not of the hook."""

    def later(self, state: str) -> str:
        """Return the state with every time in it a year later."""

        def shift(found: re.Match[str]) -> str:
            return f"{int(found[1]) + 1}-"

        return re.sub(r"\b(20\d\d)-(?=\d\d-\d\dT)", shift, state)

    def foreign(self, state: str) -> str:
        """Return the state as that of another listing."""
        return json.dumps(json.loads(state) | {"of": "something else"})

    @abstractmethod
    def beyond_rights(self, hook: Any) -> Any:
        """Do what the account with too few rights may not."""

    @abstractmethod
    def close(self) -> None:
        """Stop what was started."""


class ConfluenceDoor(Door):
    """Confluence Cloud with an API token."""

    speaks_as = "confluence"
    right_word = "write:page:confluence"
    flavour = "cloud"
    api = "/wiki"
    home = "Acceptance"

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__(patch)
        self.service = SandboxUser("acc-service", "Service", "service@labelops.example", SECRET)
        self.person = SandboxUser("acc-person", "Person", "person@labelops.example", "person-" + SECRET)
        self.stand_in = self._stand_in()
        self.server = Server(self.stand_in.app).start()
        self.space = self._make_space()
        self.made = 0

    def _stand_in(self) -> ConfluenceStandIn:
        whole = wire.limit_of
        # A server may give fewer rows than it was asked for.
        self.patch.setattr(site, "limit_of", lambda request, default: min(whole(request, default), 3))
        stand_in = ConfluenceStandIn(None, [self.service, self.person])
        reads = frozenset(scope for scope in scopes_of() if scope.startswith(("read:", "search:")))
        stand_in.gateway.add("reads-" + SECRET, Token(self.service.account_id, reads))
        stand_in.gateway.add("whole-" + SECRET, Token(self.service.account_id, frozenset(scopes_of())))
        return stand_in

    def _send(self, method: str, path: str, body: Any) -> Any:
        auth = (self.person.email, self.person.token)
        reply = requests.request(method, self.server.url + self.api + path, json=body, auth=auth, timeout=10)
        reply.raise_for_status()
        return reply.json()

    def _make_space(self) -> str:
        return str(self._send("POST", "/api/v2/spaces", {"key": "ACC", "name": "Acceptance"})["id"])

    def hook(self, *, wrong: str = "") -> ConfluenceHook:
        conn_id = self.connect(
            "confluence",
            host="http://127.0.0.1:9" if wrong == "host" else self.server.url,
            login=self.login,
            password=self._token(wrong),
            extra={"flavour": self.flavour, **self._extra(wrong)},
        )
        return ConfluenceHook(conn_id, policy=NO_PATIENCE)

    @property
    def login(self) -> str:
        """What the account signs in with."""
        return self.service.email

    def _token(self, wrong: str) -> str:
        if wrong == "scope":
            return "reads-" + SECRET
        return "wrong-" + SECRET if wrong == "secret" else self.service.token

    def _extra(self, wrong: str) -> dict[str, Any]:
        return self._scoped(wrong) if wrong == "scope" else {}

    def _scoped(self, wrong: str) -> dict[str, Any]:
        root = "http://127.0.0.1:9" if wrong == "host" else self.server.url
        return {"auth": "scoped", "gateway": root + "/ex/confluence"}

    def fill(self, number: int) -> None:
        for _ in range(number):
            self.made += 1
            body = {"representation": "storage", "value": f"<p>Page {self.made}</p>"}
            sent = {"spaceId": self.space, "status": "current", "title": f"Page {self.made}", "body": body}
            self._send("POST", "/api/v2/pages", sent)

    def change(self) -> None:
        self.fill(1)

    def all(self, hook: ConfluenceHook, resume: str | None = None) -> Listing[Any]:
        return hook.get_conn().pages_in_space(self.space, resume=resume)

    def changes(self, hook: ConfluenceHook, resume: str | None = None) -> Listing[Any]:
        return hook.get_conn().changed_pages(self.space, resume=resume)

    def name(self, item: Any) -> str:
        return item.title

    def there(self) -> set[str]:
        return {self.home, *(f"Page {number}" for number in range(1, self.made + 1))}

    def beyond_rights(self, hook: ConfluenceHook) -> Any:
        page = hook.get_conn().find_page(self.space, "Page 1")
        assert page is not None
        return hook.get_conn().update_page(page, body="<p>May I?</p>")

    def close(self) -> None:
        self.server.stop()
        self.stand_in.close()


class ScopedConfluenceDoor(ConfluenceDoor):
    """Confluence Cloud with a scoped token, through the gateway."""

    def _token(self, wrong: str) -> str:
        return {"scope": "reads-", "secret": "wrong-"}.get(wrong, "whole-") + SECRET

    def _extra(self, wrong: str) -> dict[str, Any]:
        return self._scoped(wrong)


class ConfluenceDataCenterDoor(ConfluenceDoor):
    """Confluence Data Center. With too few rights is who may not edit the page."""

    flavour = "datacenter"
    right_word = "lacks the right"
    api = "/confluence"
    home = "Acceptance Home"

    def _stand_in(self) -> ConfluenceStandIn:
        stand_in = DataCenterStandIn(None, [self.service, self.person])
        stand_in.system_limit = 3
        return stand_in

    def _send(self, method: str, path: str, body: Any) -> Any:
        reply = requests.request(
            method,
            self.server.url + self.api + path,
            json=body,
            headers={"Authorization": f"Bearer {self.person.token}"},
            timeout=10,
        )
        reply.raise_for_status()
        return reply.json()

    def _make_space(self) -> str:
        self._send("POST", "/rest/api/space", {"key": "ACC", "name": "Acceptance"})
        return "ACC"

    @property
    def login(self) -> str:
        return self.service.email.partition("@")[0]

    def _token(self, wrong: str) -> str:
        return "wrong-" + SECRET if wrong == "secret" else self.service.token

    def _extra(self, wrong: str) -> dict[str, Any]:
        if wrong == "scope":
            restriction = {
                "operation": "update",
                "restrictions": {"user": [{"type": "known", "userKey": "acc-person"}]},
            }
            [page] = self._send("GET", "/rest/api/content?spaceKey=ACC&title=Page%201", None)["results"]
            self._send("PUT", f"/rest/api/content/{page['id']}/restriction", [restriction])
        return {"path": self.api}

    def fill(self, number: int) -> None:
        for _ in range(number):
            self.made += 1
            body = {"storage": {"value": f"<p>Page {self.made}</p>", "representation": "storage"}}
            sent = {"type": "page", "title": f"Page {self.made}", "space": {"key": "ACC"}, "body": body}
            self._send("POST", "/rest/api/content", sent)


class JiraDoor(Door):
    """Jira of one flavour."""

    flavour = "cloud"
    speaks_as = "jira"

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__(patch)
        self.service = JiraUser("service", "Service", "service@labelops.example", SECRET)
        self.reader = JiraUser("reader", "Reader", "reader@labelops.example", "reader-" + SECRET, may_write=False)
        self.stand_in = JiraStandIn(None, [self.service, self.reader], ["LAB"], flavour=self.flavour)
        self.stand_in.page_rows = 3
        self.server = Server(self.stand_in.app).start()

    def hook(self, *, wrong: str = "") -> JiraIssueHook:
        user = self.reader if wrong == "scope" else self.service
        conn_id = self.connect(
            "jira",
            host="http://127.0.0.1:9" if wrong == "host" else self.server.url,
            login=user.login,
            password="wrong-" + SECRET if wrong == "secret" else user.token,
            extra={"flavour": self.flavour},
        )
        return JiraIssueHook(conn_id, policy=NO_PATIENCE)

    def _send(self, method: str, path: str, body: Any) -> None:
        auth = (self.service.login, self.service.token)
        reply = requests.request(method, self.server.url + "/rest/api/2" + path, json=body, auth=auth, timeout=10)
        reply.raise_for_status()

    def fill(self, number: int) -> None:
        for _ in range(number):
            fields = {"project": {"key": "LAB"}, "issuetype": {"name": "Task"}, "summary": "By hand"}
            self._send("POST", "/issue", {"fields": fields})

    def change(self) -> None:
        self._send("PUT", "/issue/LAB-1", {"fields": {"summary": "Changed by hand"}})

    def all(self, hook: JiraIssueHook, resume: str | None = None) -> Listing[Any]:
        return hook.get_conn().search("project = LAB ORDER BY created ASC", resume=resume)

    def changes(self, hook: JiraIssueHook, resume: str | None = None) -> Listing[Any]:
        return hook.get_conn().changed_issues("LAB", resume=resume)

    def name(self, item: Any) -> str:
        return item.key

    def there(self) -> set[str]:
        return {f"LAB-{number}" for number in range(1, self.stand_in.snapshot()["issues"] + 1)}

    def beyond_rights(self, hook: JiraIssueHook) -> Any:
        return hook.get_conn().add_comment("LAB-1", "May I?")

    def close(self) -> None:
        self.server.stop()
        self.stand_in.close()


class JiraDataCenterDoor(JiraDoor):
    """Jira Data Center."""

    flavour = "datacenter"


class OpenTextDoor(Door):
    """OpenText Workflow Service. Everything is the running processes; what ended is asked for by time."""

    speaks_as = "opentext"
    right_word = "lacks the right: Read and update tasks"
    client: ClassVar[dict[str, str]] = {"id": "acceptance", "secret": SECRET}
    dana: ClassVar[dict[str, Any]] = {
        "email": "dana@people.example",
        "name": "Dana",
        "password": "dana-" + SECRET,
        "groups": ["data_owners"],
    }

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__(patch)
        self.stand_in = OpenTextStandIn(None, users=[self.dana], clients=[self.client])
        self.server = Server(self.stand_in.app).start()
        self.outside = Person(self.server.url, self.dana["email"], self.dana["password"], self.client)
        self.hook().get_conn().deploy(
            "labeling_approval", (MAPPINGS.parent / "labeling_approval.bpmn").read_text("utf-8")
        )
        self.running: set[str] = set()

    def hook(self, *, wrong: str = "") -> OpenTextWorkflowHook:
        conn_id = self.connect(
            "opentext",
            host="http://127.0.0.1:9" if wrong == "host" else self.server.url,
            login=self.client["id"],
            password="wrong-" + SECRET if wrong == "secret" else SECRET,
            extra={"tenant_id": "acceptance", "count": 3, "history_grace_seconds": 0},
        )
        return OpenTextWorkflowHook(conn_id, policy=NO_PATIENCE)

    def _start(self) -> str:
        variables = {"data_owners": "data_owners", "quality_review_required": False}
        body = {
            "processDefinitionKey": "labeling_approval",
            "name": "By hand",
            "variables": [{"name": name, "value": value} for name, value in variables.items()],
        }
        return str(self.outside._send("POST", "/workflow/v1/process-instances", body)["id"])

    def fill(self, number: int) -> None:
        for _ in range(number):
            self.running.add(self._start())
            self.outside._send("DELETE", f"/workflow/v1/process-instances/{self._start()}")

    def change(self) -> None:
        self.fill(1)

    def all(self, hook: OpenTextWorkflowHook, resume: str | None = None) -> Listing[Any]:
        return hook.get_conn().processes(resume=resume)

    changes = all

    def name(self, item: Any) -> str:
        return item.id

    def there(self) -> set[str]:
        return self.running

    def beyond_rights(self, hook: OpenTextWorkflowHook) -> Any:
        [task, *_] = hook.get_conn().tasks()
        return hook.get_conn().complete(task.id, outcome="approved")

    def close(self) -> None:
        self.server.stop()
        self.stand_in.close()


class ProdigyDoor(Door):
    """Prodigy's database; everything is what is new since nothing was read."""

    speaks_as = "Prodigy's database"
    right_word = "right"
    dataset = "acceptance"

    def __init__(self, patch: pytest.MonkeyPatch, url: URL) -> None:
        super().__init__(patch)
        self.url = url
        self.made = 0
        create_schema(url.render_as_string(hide_password=False))

    def hook(self, *, wrong: str = "") -> ProdigyHook:
        url = self._wrong(wrong) if wrong else self.url
        self.patch.setenv(
            f"AIRFLOW_CONN_{self.conn_id.upper()}", airflow_connection(url.render_as_string(hide_password=False))
        )
        return ProdigyHook(self.conn_id)

    @abstractmethod
    def _wrong(self, what: str) -> URL:
        """Return the address with something wrong about it."""

    def fill(self, number: int) -> None:
        rows = []
        for _ in range(number):
            self.made += 1
            rows.append({"text": f"Text {self.made}", "_input_hash": self.made, "_task_hash": self.made})
        import_jsonl(self.url.render_as_string(hide_password=False), self.dataset, rows)

    def change(self) -> None:
        self.fill(1)

    def all(self, hook: ProdigyHook, resume: str | None = None) -> Any:
        return hook.get_conn().new_rows(self.dataset, resume=resume)

    changes = all

    def name(self, item: Any) -> str:
        return item.content["text"]

    def there(self) -> set[str]:
        return {f"Text {number}" for number in range(1, self.made + 1)}

    def later(self, state: str) -> str:
        return self._with(state, at=json.loads(state)["at"] + 365 * 86_400)

    def foreign(self, state: str) -> str:
        return self._with(state, of="something else")

    def _with(self, state: str, **changes: Any) -> str:
        value = json.loads(state) | changes
        value.pop("check")
        return json.dumps({**value, "check": new_rows._check(value)})

    def beyond_rights(self, hook: ProdigyHook) -> Any:
        return hook.get_conn().link("acceptance_again", [1], {})

    def close(self) -> None:
        """Nothing was started."""


class SqliteDoor(ProdigyDoor):
    """Prodigy's database in a file, which has no password and no accounts."""

    wrongs = ("host",)
    errors: ClassVar[dict[str, type[LabelopsError]]] = {"host": NotFound}

    def _wrong(self, what: str) -> URL:
        return self.url.set(database=f"{self.url.database}.elsewhere")


class ServerDoor(ProdigyDoor):
    """Prodigy's database on a server, with an account that has a password."""

    def _wrong(self, what: str) -> URL:
        if what == "host":
            return self.url.set(port=9)
        if what == "secret":
            return self.url.set(username="nobody_known", password="wrong-" + SECRET)
        name = f"reader_{self.url.database}"
        statements = [
            f"CREATE USER {name} IDENTIFIED BY '{SECRET}'",
            f"GRANT SELECT ON {self.url.database}.* TO {name}",
        ]
        if self.url.get_backend_name() == "postgresql":
            statements = [
                f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'",
                f"GRANT SELECT ON dataset, example, link TO {name}",
            ]
        # Made once; the second time it is there.
        with suppress(SQLAlchemyError), create_engine(self.url, poolclass=NullPool).begin() as conn:
            for statement in statements:
                conn.exec_driver_sql(statement)
        return self.url.set(username=name, password=SECRET)


def _sqlite(request: pytest.FixtureRequest, patch: pytest.MonkeyPatch) -> Door:
    folder = request.getfixturevalue("tmp_path")
    return SqliteDoor(patch, make_url(f"sqlite+pysqlite:///{folder / 'prodigy.db'}"))


def _server(request: pytest.FixtureRequest, patch: pytest.MonkeyPatch, fixture: str) -> Door:
    database = fresh_database(request.getfixturevalue(fixture))
    url = database.__enter__()
    request.addfinalizer(lambda: database.__exit__(None, None, None))
    return ServerDoor(
        patch, make_url(url).set(password="owner-" + SECRET) if fixture == "postgres_url" else make_url(url)
    )


DOORS: dict[str, Callable[[pytest.FixtureRequest, pytest.MonkeyPatch], Door]] = {
    "confluence cloud": lambda request, patch: ConfluenceDoor(patch),
    "confluence cloud, scoped": lambda request, patch: ScopedConfluenceDoor(patch),
    "confluence datacenter": lambda request, patch: ConfluenceDataCenterDoor(patch),
    "opentext": lambda request, patch: OpenTextDoor(patch),
    "prodigy sqlite": _sqlite,
    "prodigy postgresql": lambda request, patch: _server(request, patch, "postgres_url"),
    "prodigy mariadb": lambda request, patch: _server(request, patch, "mariadb_url"),
    "jira cloud": lambda request, patch: JiraDoor(patch),
    "jira datacenter": lambda request, patch: JiraDataCenterDoor(patch),
}
"""How each door is opened, by name."""
