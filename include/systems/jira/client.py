"""The client of Jira: the issues of a Cloud or Data Center site.

``atlassian-python-api`` sends the requests; its own search is one that Cloud has removed.

Jira has no idempotency key, and its entity properties can be searched only where an app declares them. So an issue is
found again by a label made of the effect's key, and recognised by the whole key in its property ``labelops``; both are
written by the request that creates it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from atlassian import Jira

from include.base.errors import AuthError, Conflict, InvalidInput, InvalidReply, NotFound, Unavailable, Unsupported
from include.systems.confluence.values import User, cql_text
from include.systems.http import HttpCaller, RetryPolicy, read_json, segment
from include.systems.jira.replies import (
    SYSTEM,
    comment_of,
    error_of,
    identifier,
    issue_of,
    next_offset,
    object_of,
    offset_of,
    place_of,
    rows_of,
    transitions_of,
    user_of,
)
from include.systems.jira.settings import Settings
from include.systems.jira.values import Issue, IssueComment
from include.systems.listing import Changes, Listing
from include.systems.quiet import quiet_libraries

__all__ = ["JiraClient"]

API = "/rest/api/2"
"""Version 2 on both flavours: its texts are plain, where version 3 wants documents."""

ROWS = 100
OVERLAP = timedelta(minutes=10)
"""How far back a listing of changes looks behind the newest one seen: the search index may lag, clocks may differ."""

PROPERTY = "labelops"
FIELDS = "summary,status,issuetype,project,assignee,labels,updated"
CONNECT_SECONDS = 10.0
_KEY = re.compile(r"[0-9a-f]{64}\Z")


class JiraClient:
    """Read and write the issues of one Jira site; nothing is sent before the first call.

    :param settings: the site and the account.
    :param policy: how often and how patiently a request is tried.
    """

    def __init__(self, settings: Settings, policy: RetryPolicy | None = None) -> None:
        quiet_libraries()
        self.settings = settings
        self._caller = HttpCaller(SYSTEM, policy)
        basic = settings.login is not None
        self._site = Jira(
            url=settings.site,
            username=settings.login,
            password=settings.secret if basic else None,
            token=None if basic else settings.secret,
            advanced_mode=True,
            backoff_and_retry=False,
            retry_with_header=False,
            verify_ssl=settings.verify,  # type: ignore[arg-type]
        )
        self._site.timeout = (CONNECT_SECONDS, settings.timeout)  # type: ignore[assignment]
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

    def check(self) -> str:
        """Ask who we are, and for one issue we may see; return a sentence that says as whom.

        :raises LabelopsError: the site cannot be used.
        """
        user = self.current_user()
        next(self.search("created >= -3650d order by created"), None)
        return f"Connected as {user.display_name or user.account_id}"

    # --- reading ---------------------------------------------------------------------------------------------------

    def current_user(self) -> User:
        """Return the account behind the credential (Cloud: its account id, Data Center: its name); asked once."""
        if self._user is None:
            self._user = user_of(self._json("GET", "/myself"))
        if self._user is None:
            raise AuthError("jira: the site takes this credential for an anonymous visitor", system=SYSTEM)
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
            found = object_of(self._json("GET", "/search/jql", params=query), "/search/jql")
            return rows_of(found, "issues", issue_of), place_of(found)

        def by_offset(place: str | None) -> tuple[list[Issue], str | None]:
            start = offset_of(place)
            query = {"jql": jql, "fields": FIELDS, "maxResults": ROWS, "startAt": start}
            found = object_of(self._json("GET", "/search", params=query), "/search")
            return next_offset(found, rows_of(found, "issues", issue_of), start)

        return Listing(
            f"jira issues where {jql}", by_token if self.settings.cloud else by_offset, lambda issue: issue.id, resume
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
        return issue_of(self._json("GET", f"/issue/{segment(key)}", params={"fields": FIELDS}))

    def comments(self, key: str, *, resume: str | None = None) -> Listing[IssueComment]:
        """List an issue's comments, oldest first."""
        where = f"/issue/{segment(key)}/comment"

        def fetch(place: str | None) -> tuple[list[IssueComment], str | None]:
            start = offset_of(place)
            query = {"startAt": start, "maxResults": ROWS, "orderBy": "created"}
            found = object_of(self._json("GET", where, params=query), where)
            return next_offset(found, rows_of(found, "comments", comment_of), start)

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
            made = object_of(self._json("POST", "/issue", json=sent), "/issue")
            return self.issue(identifier(made, "key", "/issue")), True
        except (Unavailable, InvalidReply) as lost:
            found = self._caller.look_for(lambda: self.find_issue(project, effect), self.settings.index_seconds)
            if found is None:
                raise Unavailable(
                    f"jira: creating an issue in {project} was not confirmed, and none with the label "
                    f"{_label(effect)} appeared within {self.settings.index_seconds:.0f} s ({lost})",
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
                value = object_of(self._json("GET", where), where).get("value")
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
            return comment_of(self._json("POST", where, json={"body": body})), True
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
        ways = transitions_of(self._json("GET", where))
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
        response = self._caller.call(
            method,
            lambda: self._site.request(method, API + path, advanced_mode=True, allow_redirects=False, **parts),
            path=path,
        )
        if response.status_code == 404 and path != "/myself":
            # Without a right to see it a thing is "not found"; so is everything for a credential that is refused.
            self.current_user()
        if not 200 <= response.status_code < 300:
            raise error_of(method, path, response)
        return response


def _label(effect: str) -> str:
    return f"labelops-{effect[:40]}"
