"""The local Jira's calls: version 2 of the REST API, with the search of each flavour.

Cloud pages a search by token below ``/search/jql``, gives no total, refuses a query without a condition and answers the
old ``/search`` with 410; Data Center pages by offset and has no ``/search/jql``. Both give plain texts.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.sandbox.http import App, HttpError, Reply, Request, json_reply

__all__ = ["JiraStandIn", "JiraUser"]

API = "/rest/api/2"
STATUSES = {"To Do": "new", "In Progress": "indeterminate", "Done": "done"}
FIELDS = {
    "summary": "Summary",
    "description": "Description",
    "issuetype": "Issue Type",
    "project": "Project",
    "status": "Status",
    "assignee": "Assignee",
    "labels": "Labels",
    "created": "Created",
    "updated": "Updated",
}
WAYS = {"To Do": ("In Progress", "Done"), "In Progress": ("To Do", "Done"), "Done": ("To Do",)}
"""Where an issue can go from where it is."""

MOST_ROWS = 100

_SCHEMA = """
create table if not exists users (account text primary key, name text not null, login text unique, token text not null,
    may_write integer not null);
create table if not exists projects (key text primary key, kinds text not null, last integer not null);
create table if not exists issues (id integer primary key, key text unique not null, project text not null,
    fields text not null, created real not null, updated real not null, indexed real not null);
create table if not exists properties (issue_id integer not null, key text not null, value text not null,
    primary key (issue_id, key)) without rowid;
create table if not exists comments (id integer primary key, issue_id integer not null, account text not null,
    body text not null, created real not null);
"""


@dataclass(frozen=True)
class JiraUser:
    """Somebody who can sign in; without ``may_write`` to read only."""

    account: str
    name: str
    login: str
    token: str
    may_write: bool = True


def _refused(status: int, *said: str, **fields: str) -> HttpError:
    return HttpError(status, {"errorMessages": list(said), "errors": fields})


class JiraStandIn:
    """A Jira site on this machine.

    Switches for tests: ``search_lag_seconds`` (how far the index is behind), ``page_rows`` (the most rows of a page).
    ``app.faults`` holds what goes wrong on the wire.

    :param state: folder of the database; None keeps everything in memory.
    :param flavour: ``cloud`` or ``datacenter``.
    :param users: who can sign in; kept in the database.
    :param projects: keys of projects; each has the issue types Task and Bug.
    """

    def __init__(
        self,
        state: Path | None = None,
        users: Iterable[JiraUser] = (),
        projects: Iterable[str] = (),
        flavour: str = "cloud",
    ) -> None:
        if state is not None:
            state.mkdir(parents=True, exist_ok=True)
        self.flavour = flavour
        self.search_lag_seconds = 0.0
        self.page_rows = MOST_ROWS
        self._lock = threading.RLock()
        self._db = sqlite3.connect(
            ":memory:" if state is None else state / "jira.db", check_same_thread=False, isolation_level=None
        )
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_SCHEMA)
        for user in users:
            values = (user.account, user.name, user.login, user.token, int(user.may_write))
            self._db.execute("insert or replace into users values (?, ?, ?, ?, ?)", values)
        for key in projects:
            self._db.execute("insert or ignore into projects values (?, ?, 0)", (key, json.dumps(["Task", "Bug"])))
        self.app = App()
        self._routes()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def snapshot(self) -> dict[str, int]:
        """Return how many rows there are of each kind."""
        tables = ("issues", "properties", "comments")
        return {name: self._db.execute(f"select count(*) from {name}").fetchone()[0] for name in tables}  # noqa: S608

    # --- frame -----------------------------------------------------------------------------------------------------

    def _routes(self) -> None:
        self.app.route("GET", API + "/serverInfo")(self._server_info)
        for method, path, handler, writes in (
            ("GET", "/myself", self._myself, False),
            ("GET", "/field", self._fields, False),
            ("GET", "/project", self._projects, False),
            ("GET", "/project/{key}", self._project, False),
            ("GET", "/search", self._search_by_offset, False),
            ("GET", "/search/jql", self._search_by_token, False),
            ("POST", "/issue", self._create, True),
            ("GET", "/issue/{issue}", self._get, False),
            ("PUT", "/issue/{issue}", self._edit, True),
            ("GET", "/issue/{issue}/properties/{name}", self._property, False),
            ("GET", "/issue/{issue}/comment", self._comments, False),
            ("POST", "/issue/{issue}/comment", self._add_comment, True),
            ("GET", "/issue/{issue}/transitions", self._transitions, False),
            ("POST", "/issue/{issue}/transitions", self._transit, True),
        ):
            self.app.route(method, API + path)(self._inside(handler, writes))

    def _inside(self, handler: Callable[[Request, sqlite3.Row], Reply], writes: bool) -> Callable[[Request], Reply]:
        def run(request: Request) -> Reply:
            with self._transaction():
                user = self._user(request)
                if user is None:
                    text = "Client must be authenticated to access this resource."
                    raise HttpError(401, {"message": text, "status-code": 401}, {"WWW-Authenticate": "Basic"})
                if writes and not user["may_write"]:
                    raise _refused(403, "You do not have permission to edit issues in this project.")
                return handler(request, user)

        return run

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("begin")
            try:
                yield
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    def _user(self, request: Request) -> sqlite3.Row | None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            return self._db.execute("select * from users where token = ?", (value,)).fetchone()
        try:
            login, _, token = base64.b64decode(value).decode("utf-8").partition(":")
        except ValueError:
            return None
        return self._db.execute("select * from users where login = ? and token = ?", (login, token)).fetchone()

    def _shown(self, account: str | None) -> dict[str, Any] | None:
        if account is None:
            return None
        name = self._db.execute("select name from users where account = ?", (account,)).fetchone()
        shown = {"displayName": name["name"] if name else account, "active": True}
        if self.flavour == "cloud":
            return {"accountId": account, "accountType": "atlassian", **shown}
        return {"name": account, "key": account, **shown}

    # --- calls -----------------------------------------------------------------------------------------------------

    def _myself(self, request: Request, user: sqlite3.Row) -> Reply:
        return json_reply(self._shown(user["account"]))

    def _server_info(self, request: Request) -> Reply:
        """Tell anybody which Jira this is."""
        numbers = [1001, 0, 0] if self.flavour == "cloud" else [10, 3, 0]
        return json_reply(
            {
                "baseUrl": _address(request, ""),
                "version": ".".join(map(str, numbers)),
                "versionNumbers": numbers,
                "deploymentType": "Cloud" if self.flavour == "cloud" else "Server",
                "serverTitle": "Local Jira",
            }
        )

    def _fields(self, request: Request, user: sqlite3.Row) -> Reply:
        shown = ({"id": name, "name": title, "custom": False, "clauseNames": [name]} for name, title in FIELDS.items())
        return json_reply([{**field, "orderable": True, "navigable": True, "searchable": True} for field in shown])

    def _projects(self, request: Request, user: sqlite3.Row) -> Reply:
        rows = self._db.execute("select rowid as id, * from projects order by key").fetchall()
        return json_reply([self._shown_project(request, row) for row in rows])

    def _project(self, request: Request, user: sqlite3.Row) -> Reply:
        row = self._project_row(request.values["key"])
        if row is None:
            raise _refused(404, f"No project could be found with key '{request.values['key']}'.")
        kinds = [{"id": str(at), "name": name} for at, name in enumerate(json.loads(row["kinds"]), 1)]
        return json_reply({**self._shown_project(request, row), "issueTypes": kinds})

    def _project_row(self, name: str) -> sqlite3.Row | None:
        """Return the project of a key or an id."""
        sql = "select rowid as id, * from projects where key = ? or cast(rowid as text) = ?"
        return self._db.execute(sql, (name, name)).fetchone()

    def _shown_project(self, request: Request, row: sqlite3.Row) -> dict[str, Any]:
        key = row["key"]
        return {"self": _address(request, f"/project/{row['id']}"), "id": str(row["id"]), "key": key, "name": key}

    def _row(self, request: Request) -> sqlite3.Row:
        wanted = request.values["issue"]
        row = self._db.execute(
            "select * from issues where key = ? or cast(id as text) = ?", (wanted, wanted)
        ).fetchone()
        if row is None:
            raise _refused(404, "Issue does not exist or you do not have permission to see it.")
        return row

    def _issue(self, request: Request, row: sqlite3.Row, fields: str) -> dict[str, Any]:
        held = json.loads(row["fields"])
        everything = {
            **held,
            "project": {"key": row["project"]},
            "issuetype": {"name": held["issuetype"]},
            "status": {"name": held["status"], "statusCategory": {"key": STATUSES[held["status"]]}},
            "assignee": self._shown(held.get("assignee")),
            "created": _iso(row["created"]),
            "updated": _iso(row["updated"]),
        }
        wanted = set(fields.split(",")) if fields else set(everything) if self.flavour == "datacenter" else set()
        if "*all" in wanted or "*navigable" in wanted:
            wanted = set(everything)
        shown = {"id": str(row["id"]), "key": row["key"], "self": _address(request, f"/issue/{row['id']}")}
        return {**shown, "fields": {name: everything[name] for name in everything if name in wanted}}

    def _found(self, jql: str) -> list[sqlite3.Row]:
        where, values, order = _query(jql)
        lag = time.time() - self.search_lag_seconds
        return self._db.execute(
            f"select * from issues where indexed <= ? and {where} order by {order}",  # noqa: S608 - our own words
            (lag, *values),
        ).fetchall()

    def _search_by_offset(self, request: Request, user: sqlite3.Row) -> Reply:
        if self.flavour == "cloud":
            raise HttpError(410, {"errorMessages": ["The requested API has been removed."], "errors": {}})
        rows = self._found(request.one("jql"))
        start, most = _number(request, "startAt", 0), min(_number(request, "maxResults", 50), self.page_rows)
        shown = [self._issue(request, row, request.one("fields")) for row in rows[start : start + most]]
        return json_reply({"startAt": start, "maxResults": most, "total": len(rows), "issues": shown})

    def _search_by_token(self, request: Request, user: sqlite3.Row) -> Reply:
        if self.flavour != "cloud":
            raise _refused(404, "null for uri: /rest/api/2/search/jql")
        jql = request.one("jql")
        if not jql.partition("ORDER BY")[0].strip():
            raise _refused(400, "Unbounded JQL queries are not allowed here. Please add a search restriction.")
        rows = self._found(jql)
        start = _token(request.one("nextPageToken"))
        most = min(_number(request, "maxResults", 50), self.page_rows)
        shown = {"issues": [self._issue(request, row, request.one("fields")) for row in rows[start : start + most]]}
        if start + most < len(rows):
            token = base64.urlsafe_b64encode(f"issues:{start + most}".encode()).decode("ascii")
            return json_reply({**shown, "nextPageToken": token, "isLast": False})
        return json_reply({**shown, "isLast": True})

    def _create(self, request: Request, user: sqlite3.Row) -> Reply:
        sent = _object(request.json())
        fields = _object(sent.get("fields"))
        named = fields.get("project") or {}
        project = self._project_row(str(named.get("id") or named.get("key")))
        if project is None:
            raise _refused(400, project="valid project is required")
        key = project["key"]
        kind = str((fields.get("issuetype") or {}).get("name"))
        if kind not in json.loads(project["kinds"]):
            raise _refused(400, issuetype="Specify a valid issue type")
        summary = fields.get("summary")
        if not isinstance(summary, str) or not summary.strip() or "\n" in summary:
            raise _refused(400, summary="You must specify a summary of the issue, on one line.")
        if len(summary) > 255:
            raise _refused(400, summary="Summary must be less than 255 characters.")
        labels = fields.get("labels") or []
        if any(" " in str(label) for label in labels):
            raise _refused(400, labels="The label can't contain spaces.")
        assignee = fields.get("assignee") or {}
        held = {
            "summary": summary,
            "description": str(fields.get("description") or ""),
            "issuetype": kind,
            "status": "To Do",
            "labels": [str(label) for label in labels],
            "assignee": assignee.get("accountId") or assignee.get("name"),
        }
        now, number = time.time(), project["last"] + 1
        self._db.execute("update projects set last = ? where key = ?", (number, key))
        issue_id = self._db.execute(
            "insert into issues (key, project, fields, created, updated, indexed) values (?, ?, ?, ?, ?, ?)",
            (f"{key}-{number}", key, json.dumps(held), now, now, now),
        ).lastrowid
        for one in sent.get("properties") or []:
            values = (issue_id, str(one["key"]), json.dumps(one["value"]))
            self._db.execute("insert into properties values (?, ?, ?)", values)
        address = _address(request, f"/issue/{issue_id}")
        return json_reply({"id": str(issue_id), "key": f"{key}-{number}", "self": address}, 201)

    def _get(self, request: Request, user: sqlite3.Row) -> Reply:
        return json_reply(self._issue(request, self._row(request), request.one("fields", "*all")))

    def _change(self, row: sqlite3.Row, **changes: Any) -> None:
        held, now = json.loads(row["fields"]) | changes, time.time()
        values = (json.dumps(held), now, now, row["id"])
        self._db.execute("update issues set fields = ?, updated = ?, indexed = ? where id = ?", values)

    def _edit(self, request: Request, user: sqlite3.Row) -> Reply:
        row, fields = self._row(request), _object(_object(request.json()).get("fields"))
        unknown = sorted(set(fields) - {"summary", "description", "labels"})
        if unknown:
            raise _refused(400, **{unknown[0]: f"Field '{unknown[0]}' cannot be set."})
        self._change(row, **fields)
        return Reply(204)

    def _property(self, request: Request, user: sqlite3.Row) -> Reply:
        row = self._row(request)
        found = self._db.execute(
            "select value from properties where issue_id = ? and key = ?", (row["id"], request.values["name"])
        ).fetchone()
        if found is None:
            raise _refused(404, f"The property with key '{request.values['name']}' does not exist.")
        return json_reply({"key": request.values["name"], "value": json.loads(found["value"])})

    def _comment(self, request: Request, row: sqlite3.Row) -> dict[str, Any]:
        author, created = self._shown(row["account"]), _iso(row["created"])
        address = _address(request, f"/issue/{row['issue_id']}/comment/{row['id']}")
        shown = {"self": address, "id": str(row["id"]), "author": author, "body": row["body"]}
        return {**shown, "created": created, "updated": created}

    def _comments(self, request: Request, user: sqlite3.Row) -> Reply:
        issue_id = self._row(request)["id"]
        rows = self._db.execute("select * from comments where issue_id = ? order by id", (issue_id,)).fetchall()
        start, most = _number(request, "startAt", 0), min(_number(request, "maxResults", 50), self.page_rows)
        shown = [self._comment(request, row) for row in rows[start : start + most]]
        return json_reply({"startAt": start, "maxResults": most, "total": len(rows), "comments": shown})

    def _add_comment(self, request: Request, user: sqlite3.Row) -> Reply:
        row, body = self._row(request), _object(request.json()).get("body")
        if not isinstance(body, str) or not body.strip():
            raise _refused(400, comment="Comment body can not be empty!")
        made = self._db.execute(
            "insert into comments (issue_id, account, body, created) values (?, ?, ?, ?)",
            (row["id"], user["account"], body, time.time()),
        ).lastrowid
        self._change(row)
        return json_reply(
            self._comment(request, self._db.execute("select * from comments where id = ?", (made,)).fetchone()), 201
        )

    def _ways(self, row: sqlite3.Row) -> dict[str, str]:
        names = list(STATUSES)
        return {str(names.index(way) * 10 + 11): way for way in WAYS[json.loads(row["fields"])["status"]]}

    def _transitions(self, request: Request, user: sqlite3.Row) -> Reply:
        ways = self._ways(self._row(request))
        shown = [{"id": number, "name": f"Go to {way}", "to": {"name": way}} for number, way in ways.items()]
        return json_reply({"transitions": shown})

    def _transit(self, request: Request, user: sqlite3.Row) -> Reply:
        row = self._row(request)
        number = str((_object(request.json()).get("transition") or {}).get("id"))
        ways = self._ways(row)
        if number not in ways:
            raise _refused(400, "It seems that you have tried to perform an operation which is not permitted.")
        self._change(row, status=ways[number])
        return Reply(204)


# --- reading requests ----------------------------------------------------------------------------------------------


def _address(request: Request, path: str) -> str:
    """Return the address of what is below the API; without a path, that of the site."""
    site = f"http://{request.headers.get('host', 'localhost')}"
    return site + API + path if path else site


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refused(400, "Unexpected character: an object was expected")
    return value


def _number(request: Request, name: str, default: int) -> int:
    value = request.one(name, str(default))
    if not value.isdigit():
        raise _refused(400, f"The value '{value}' of '{name}' is not a number.")
    return int(value)


def _token(value: str) -> int:
    if not value:
        return 0
    try:
        name, _, number = base64.urlsafe_b64decode(value).decode("ascii").partition(":")
        if name == "issues":
            return int(number)
    except ValueError:
        pass
    raise _refused(400, "The provided next page token is invalid or expired.")


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"


_TERM = re.compile(r'\s*(\w+)\s*(>=|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|(-\w+|[\w-]+))\s*\Z', re.DOTALL)
_ORDERS = {"created": "created", "updated": "updated", "key": "id"}
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


def _query(jql: str) -> tuple[str, list[Any], str]:
    """Turn the part of JQL that is understood here into SQL; anything else is refused as Jira refuses bad JQL."""
    text, _, ordering = _split(jql, r"\border\s+by\b")
    where, values = ["1 = 1"], []
    rest = text
    while rest.strip():
        term, _, rest = _split(rest, r"\band\b")
        clause, value = _clause(term)
        where.append(clause)
        values.append(value)
    order = []
    for piece in filter(None, (one.strip() for one in ordering.split(","))):
        name, _, direction = piece.partition(" ")
        if name.lower() not in _ORDERS or direction.strip().lower() not in ("", "asc", "desc"):
            raise _refused(400, f"Error in the JQL Query: cannot order by '{piece}'.")
        order.append(f"{_ORDERS[name.lower()]} {direction}")
    return " and ".join(where), values, ", ".join([*order, "id"])


def _split(text: str, word: str) -> tuple[str, str, str]:
    """Split at the first such word outside quotes."""
    for found in re.finditer(rf'"(?:[^"\\]|\\.)*"|({word})', text, re.IGNORECASE):
        if found[1]:
            return text[: found.start()], found[1], text[found.end() :]
    return text, "", ""


def _clause(term: str) -> tuple[str, Any]:
    found = _TERM.match(term)
    if not found:
        raise _refused(400, f"Error in the JQL Query: '{term.strip()}' is not understood.")
    name, sign = found[1].lower(), found[2]
    value = re.sub(r"\\(.)", r"\1", found[3]) if found[3] is not None else found[4]
    if name in ("created", "updated") and sign == ">=":
        ago = re.fullmatch(r"-(\d+)([mhdw])", value)
        if not ago:
            raise _refused(400, f"Date value '{value}' for field '{name}' is invalid.")
        # Minutes and no less, as in Jira.
        return f"{name} >= ?", (time.time() - int(ago[1]) * _UNITS[ago[2]]) // 60 * 60
    columns = {
        "project": "project",
        "key": "key",
        "status": "json_extract(fields, '$.status')",
    }
    if name in columns and sign in ("=", "!="):
        return f"{columns[name]} {sign} ?", value
    if name == "labels" and sign == "=":
        return "exists (select 1 from json_each(fields, '$.labels') where value = ?)", value
    raise _refused(400, f"Error in the JQL Query: field '{name}' with '{sign}' is not understood.")
