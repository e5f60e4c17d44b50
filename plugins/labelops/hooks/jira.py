"""The door to Jira: issues of a Cloud or Data Center site, through the official provider's hook.

``airflow.providers.atlassian.jira`` brings the connection type and the client. Added here is what it leaves out: it
connects when it is made, takes a host without a scheme as it is, knows no token but basic authentication and no
time-out, tries nothing again, has no ``test_connection``, and its client's search is one that Cloud has removed.

Jira has no idempotency key, and its entity properties can be searched only where an app declares them. So an issue is
found again by a label made of the effect's key, and recognised by the whole key in its property ``labelops``; both are
written by the request that creates it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from airflow.providers.atlassian.jira.hooks.jira import JiraHook

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    LabelopsError,
    NotFound,
    OutsideError,
    Unavailable,
    Unsupported,
)
from include.systems.confluence.values import User, cql_text
from include.systems.http import HttpCaller, RetryPolicy, base_url, choice, read_json, segment
from include.systems.jira.values import Issue, IssueComment
from include.systems.listing import Changes, Listing
from include.systems.quiet import quiet_libraries

if TYPE_CHECKING:
    from atlassian import Jira

__all__ = ["JiraIssueHook"]

SYSTEM = "jira"
API = "/rest/api/2"
"""Version 2 on both flavours: its texts are plain, where version 3 wants documents."""

ROWS = 100
OVERLAP = timedelta(minutes=10)
"""How far back a listing of changes looks behind the newest one seen: the search index may lag, clocks may differ."""

PROPERTY = "labelops"
FIELDS = "summary,status,issuetype,project,assignee,labels,updated"
CONNECT_SECONDS = 10.0
Row = TypeVar("Row")
_KEY = re.compile(r"[0-9a-f]{64}\Z")


class JiraIssueHook(JiraHook):
    """Read and write the issues of one Jira site; implements ``include.systems.jira.values.JiraGateway``.

    Connection (type ``jira``): ``host`` (the site), ``login`` (e-mail, or user name on Data Center), ``password`` (API
    token, password, or the token for ``bearer``). Extra:

    * ``flavour``: ``cloud`` (default) or ``datacenter``;
    * ``auth``: ``basic`` (default), or ``bearer`` for a personal access token or an OAuth 2 access token;
    * ``verify``: false, or the path of a certificate bundle; ``timeout``: seconds for a reply (60);
    * ``index_seconds``: how long the search index may lag behind (30).

    Nothing is sent before the first call.

    :param jira_conn_id: the Airflow connection.
    :param policy: how often and how patiently a request is tried.
    """

    def __init__(self, jira_conn_id: str = JiraHook.default_conn_name, policy: RetryPolicy | None = None) -> None:
        # The provider's constructor connects; this one leaves that to the first call.
        super(JiraHook, self).__init__()
        self.jira_conn_id = jira_conn_id
        self.client: Jira | None = None
        self._caller = HttpCaller(SYSTEM, policy)
        self._cloud = True
        self._index_seconds = 30.0
        self._user: User | None = None

    @staticmethod
    def requirements() -> tuple[str, ...]:
        """Return the rights that the account needs, by the names that Jira gives them."""
        return (
            "right: Browse projects",
            "right: Create issues",
            "right: Edit issues",
            "right: Add comments",
            "right: Transition issues",
        )

    def get_conn(self) -> Jira:
        """Return the client, made on first use.

        :raises InvalidInput: a connection field has a value that is not allowed.
        """
        if self.client is None:
            from atlassian import Jira

            connection = self.get_connection(self.jira_conn_id)
            extra = connection.extra_dejson
            self._cloud = choice(extra, "flavour", ("cloud", "datacenter"), SYSTEM) == "cloud"
            self._index_seconds = _seconds(extra, "index_seconds", 30)
            if not connection.password:
                raise InvalidInput("jira: the connection's password is empty; it holds the API token")
            credential: dict[str, Any] = {"token": connection.password}
            if choice(extra, "auth", ("basic", "bearer"), SYSTEM) == "basic":
                if not connection.login:
                    raise InvalidInput("jira: the connection's login is empty; it holds the account's name")
                credential = {"username": connection.login, "password": connection.password}
            quiet_libraries()
            self.client = Jira(
                url=base_url(connection, SYSTEM),
                advanced_mode=True,
                backoff_and_retry=False,
                retry_with_header=False,
                verify_ssl=True if extra.get("verify") is None else extra["verify"],
                **credential,
            )
            self.client.timeout = (CONNECT_SECONDS, _seconds(extra, "timeout", 60) or 60)  # type: ignore[assignment]
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """Ask who we are, and for one issue we may see."""
        try:
            user = self.current_user()
            next(self.search("created >= -3650d order by created"), None)
        except LabelopsError as error:
            return False, str(error)
        except Exception as error:
            return False, f"{type(error).__name__}: the connection cannot be used"
        return True, f"Connected as {user.display_name or user.account_id}"

    # --- reading ---------------------------------------------------------------------------------------------------

    def current_user(self) -> User:
        """Return the account behind the credential (Cloud: its account id, Data Center: its name); asked once."""
        if self._user is None:
            row = _object(self._json("GET", "/myself"), "/myself")
            account = row.get("accountId") or row.get("name")
            if not account:
                raise AuthError("jira: the site takes this credential for an anonymous visitor", system=SYSTEM)
            self._user = User(str(account), str(row.get("displayName") or ""))
        return self._user

    def search(self, jql: str, *, resume: str | None = None) -> Listing[Issue]:
        """List the issues that a query finds, in its order, 100 a request.

        Cloud pages by token (``/search/jql``), Data Center by offset (``/search``). Search is an index that lags
        behind: an absence proves nothing.

        :raises InvalidInput: the query has no condition (Cloud refuses those), is malformed, or ``resume`` is no state.
        """
        if not jql.strip() or jql.strip().lower().startswith("order by"):
            raise InvalidInput("jira: a search needs at least one condition")

        def by_token(place: str | None) -> tuple[list[Issue], str | None]:
            query = {"jql": jql, "fields": FIELDS, "maxResults": ROWS} | ({"nextPageToken": place} if place else {})
            found = _object(self._json("GET", "/search/jql", params=query), "/search/jql")
            following = found.get("nextPageToken")
            return _rows(found, "issues", _issue), None if found.get("isLast", not following) else following

        def by_offset(place: str | None) -> tuple[list[Issue], str | None]:
            start = _offset(place)
            query = {"jql": jql, "fields": FIELDS, "maxResults": ROWS, "startAt": start}
            found = _object(self._json("GET", "/search", params=query), "/search")
            return _next_offset(found, _rows(found, "issues", _issue), start)

        self.get_conn()
        return Listing(
            f"jira issues where {jql}", by_token if self._cloud else by_offset, lambda issue: issue.id, resume
        )

    def changed_issues(self, project: str, *, resume: str | None = None) -> Listing[Issue]:
        """List the issues of a project that changed, oldest change first.

        Times in a query have minutes and the account's time zone, so it asks in minutes before now. What lies within
        ten minutes of the newest change is asked for again and told apart by its time: nothing is missed, and a second
        listing right after gives nothing.

        :param resume: state of an earlier listing of the project's changes; None lists all issues.
        :raises InvalidInput: the state is not of such a listing, or lies in the future.
        """

        def since(moment: datetime | None) -> Listing[Issue]:
            jql = f"project = {cql_text(project)}"
            if moment is not None:
                minutes = math.ceil((datetime.now(UTC) - moment).total_seconds() / 60) + 1
                jql += f' AND updated >= "-{max(minutes, 1)}m"'
            return self.search(f"{jql} ORDER BY updated ASC, key ASC")

        return Changes(
            f"jira changes in {project}",
            since,
            lambda issue: issue.id,
            lambda issue: issue.updated,
            newest_first=False,
            overlap=OVERLAP,
            resume=resume,
        )

    def issue(self, key: str) -> Issue:
        """Return one issue.

        :raises NotFound: there is none, or the account may not see it.
        """
        return _issue(self._json("GET", f"/issue/{segment(key)}", params={"fields": FIELDS}))

    def comments(self, key: str, *, resume: str | None = None) -> Listing[IssueComment]:
        """List an issue's comments, oldest first."""
        where = f"/issue/{segment(key)}/comment"

        def fetch(place: str | None) -> tuple[list[IssueComment], str | None]:
            start = _offset(place)
            query = {"startAt": start, "maxResults": ROWS, "orderBy": "created"}
            found = _object(self._json("GET", where, params=query), where)
            return _next_offset(found, _rows(found, "comments", _comment), start)

        return Listing(f"jira comments of {key}", fetch, lambda comment: comment.id, resume)

    # --- writing ---------------------------------------------------------------------------------------------------

    def create_issue(
        self,
        project: str,
        kind: str,
        summary: str,
        description: str,
        *,
        effect: str,
        fields: Mapping[str, Any] | None = None,
        settle_seconds: float = 0.0,
    ) -> tuple[Issue, bool]:
        """Create an issue unless the effect has one; return it and whether this call created it.

        The effect's issue is looked up first; when the reply is lost it is looked up again, for as long as the index
        may lag, before giving up. The request itself is sent once.

        :param kind: name of the issue type.
        :param effect: the effect's key, 64 hexadecimal digits.
        :param fields: more fields, as Jira's API names them.
        :param settle_seconds: how long to go on looking before the create, where an earlier try may have made it.
        :raises InvalidInput: Jira refuses the fields; the message has its reasons.
        :raises Unavailable: no reply, and no such issue appeared.
        """
        if not _KEY.match(effect):
            raise InvalidInput(f"jira: effect: found {effect!r:.80}, allowed: 64 hexadecimal digits")
        found = self._caller.look_for(lambda: self.find_issue(project, effect), settle_seconds)
        if found:
            return found, False
        more = dict(fields or {})
        wanted = {
            **more,
            "project": {"key": project},
            "issuetype": {"name": kind},
            "summary": summary,
            "description": description,
            "labels": sorted({*more.get("labels", ()), _label(effect)}),
        }
        sent = {"fields": wanted, "properties": [{"key": PROPERTY, "value": {"effect": effect}}]}
        try:
            made = _object(self._json("POST", "/issue", json=sent), "/issue")
            return self.issue(str(made["key"])), True
        except (Unavailable, InvalidReply, KeyError) as lost:
            found = self._caller.look_for(lambda: self.find_issue(project, effect), self._index_seconds)
            if found is None:
                raise Unavailable(
                    f"jira: creating an issue in {project} was not confirmed, and none with the label "
                    f"{_label(effect)} appeared within {self._index_seconds:.0f} s ({lost})",
                    system=SYSTEM,
                ) from lost
            return found, True

    def find_issue(self, project: str, effect: str) -> Issue | None:
        """Return the oldest issue that was created for an effect, or None.

        A label can be put on any issue by anybody; only one whose property holds the whole key counts.
        """
        jql = f"project = {cql_text(project)} AND labels = {cql_text(_label(effect))} ORDER BY created ASC"
        for issue in self.search(jql):
            where = f"/issue/{issue.id}/properties/{PROPERTY}"
            try:
                value = _object(self._json("GET", where), where).get("value")
            except NotFound:
                continue
            if isinstance(value, dict) and value.get("effect") == effect:
                return issue
        return None

    def add_comment(self, key: str, body: str) -> tuple[IssueComment, bool]:
        """Comment on an issue unless this account has said exactly that; return it and whether it was written."""
        found = self._said(key, body)
        if found:
            return found, False
        where = f"/issue/{segment(key)}/comment"
        try:
            return _comment(self._json("POST", where, json={"body": body})), True
        except (Unavailable, InvalidReply):
            found = self._said(key, body)
            if found is None:
                raise
            return found, True

    def _said(self, key: str, body: str) -> IssueComment | None:
        account, text = self.current_user().account_id, body.strip()
        return next((one for one in self.comments(key) if one.author == account and one.body.strip() == text), None)

    def transition(self, key: str, status: str) -> bool:
        """Bring an issue into a status by the one transition that leads there; return whether anything was sent.

        :raises Unsupported: the project's workflow has no such transition from where the issue is.
        """
        before = self.issue(key)
        if before.status == status:
            return False
        where = f"/issue/{segment(key)}/transitions"
        found = _object(self._json("GET", where), where).get("transitions") or []
        ways = {str((way.get("to") or {}).get("name")): str(way.get("id")) for way in found}
        if status not in ways:
            raise Unsupported(
                f"jira: {key} is in {before.status!r}, from where no transition leads to {status!r}; "
                f"there are: {', '.join(sorted(ways)) or 'none'}",
                system=SYSTEM,
            )
        try:
            self._call("POST", where, json={"transition": {"id": ways[status]}})
        except (Unavailable, Conflict):
            if self.issue(key).status != status:
                raise
        return True

    # --- requests --------------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, **parts: Any) -> Any:
        return read_json(self._call(method, path, **parts), SYSTEM)

    def _call(self, method: str, path: str, **parts: Any) -> requests.Response:
        client = self.get_conn()
        response = self._caller.call(
            method,
            lambda: client.request(method, API + path, advanced_mode=True, allow_redirects=False, **parts),
            path=path,
        )
        if response.status_code == 404 and path != "/myself":
            # Without a right to see it a thing is "not found"; so is everything for a credential that is refused.
            self.current_user()
        if not 200 <= response.status_code < 300:
            raise _error(method, path, response)
        return response


# --- reading replies -----------------------------------------------------------------------------------------------


def _issue(row: Any) -> Issue:
    row = _object(row, "an issue")
    fields = _object(row.get("fields"), "an issue's fields")
    try:
        status = fields["status"]
        assignee = fields.get("assignee") or {}
        return Issue(
            id=str(row["id"]),
            key=str(row["key"]),
            project=str(fields["project"]["key"]),
            kind=str(fields["issuetype"]["name"]),
            summary=str(fields["summary"]),
            status=str(status["name"]),
            category=str((status.get("statusCategory") or {}).get("key") or ""),
            updated=_time(fields["updated"]),
            assignee=assignee.get("accountId") or assignee.get("name"),
            labels=tuple(fields.get("labels") or ()),
            raw=row,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidReply(f"jira: an issue lacks the field {error}", system=SYSTEM) from error


def _comment(row: Any) -> IssueComment:
    row = _object(row, "a comment")
    author = _object(row.get("author"), "a comment's author")
    try:
        account = author.get("accountId") or author["name"]
        return IssueComment(str(row["id"]), str(account), str(row["body"]), _time(row["created"]))
    except KeyError as error:
        raise InvalidReply(f"jira: a comment lacks the field {error}", system=SYSTEM) from error


def _time(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidReply(f"jira: a time is spelled {value!r}; expected ISO 8601 with a zone", system=SYSTEM)
    return moment.astimezone(UTC)


def _rows(found: Mapping[str, Any], name: str, read: Callable[[Any], Row]) -> list[Row]:
    rows = found.get(name)
    if not isinstance(rows, list):
        raise InvalidReply(f"jira: the reply has no list `{name}`", system=SYSTEM)
    return [read(row) for row in rows]


def _next_offset(found: Mapping[str, Any], rows: list[Row], start: int) -> tuple[list[Row], str | None]:
    """Return a page by offset: its own length says where the next begins, for the server may cut the length asked."""
    total = found.get("total")
    following = start + len(rows)
    return rows, str(following) if rows and isinstance(total, int) and following < total else None


def _offset(place: str | None) -> int:
    if place is not None and not place.isdecimal():
        raise InvalidInput(f"jira: state of a listing: found the place {place!r:.80}, allowed: a number of rows")
    return int(place or 0)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidReply(f"jira: {where}: expected an object, found {type(value).__name__}", system=SYSTEM)
    return value


def _error(method: str, path: str, response: requests.Response) -> OutsideError | InvalidInput:
    status = response.status_code
    message = f"jira: {method} {path}: {status}, {_reason(response)}"
    if status in (400, 413, 415, 422):
        return InvalidInput(message)
    kind: type[OutsideError] = {
        401: AuthError,
        403: AuthError,
        404: NotFound,
        405: Unsupported,
        409: Conflict,
        410: Unsupported,
    }.get(status, Unavailable if status >= 500 else InvalidReply)
    return kind(message, system=SYSTEM, status=status)


def _reason(response: requests.Response) -> str:
    """Return Jira's own words: ``errorMessages``, then what it says of each field."""
    try:
        body = response.json()
    except ValueError:
        return "no JSON in the reply"
    if not isinstance(body, dict):
        return "no reason in the reply"
    said = [str(text) for text in body.get("errorMessages") or []]
    fields = body.get("errors")
    if isinstance(fields, dict):
        said += [f"{name}: {text}" for name, text in sorted(fields.items())]
    return ("; ".join(said) or str(body.get("message") or "no reason in the reply"))[:500]


def _seconds(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name)
    try:
        seconds = float(default if value in (None, "") else value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise InvalidInput(f"jira: connection extra `{name}`: found {value!r}, allowed: seconds, zero or more")
    return seconds


def _label(effect: str) -> str:
    return f"labelops-{effect[:40]}"
