"""Which text of a page is approved: never a flag alone, always (page id, version, digest of the canonical body).

Three marks are known, and what each can prove differs:

* **content state** (Cloud): setting it makes a page version, so its author and time say who approved and when. The
  state survives later edits (whether every kind of edit keeps it is not documented), so it is bound to the version
  made when the state was last changed.
* **label**: carries no author and no time, and does not make a version. It is bound to the version on which a run
  first saw it; the approver stays unknown. A label with ``{version}`` in it names its version itself.
* **page properties** row: part of the body, so it has an author and a time. An edit that leaves the rows alone
  does not renew the approval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from include.base.errors import InvalidInput, NotFound
from include.guidelines.html import Finding
from include.projects.model import ApprovalMark
from include.systems.confluence import storage
from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.values import ContentState, Page, PageVersion

__all__ = [
    "HISTORY_LIMIT",
    "STATE_TOLERANCE",
    "VERSION_PLACEHOLDER",
    "Approved",
    "History",
    "Verdict",
    "by_label",
    "by_property",
    "by_state",
    "served",
    "state_version",
]

STATE_TOLERANCE = timedelta(seconds=5)
"""How far a state's ``lastUpdated`` and the creation of its version may lie apart (both are the server's times)."""

HISTORY_LIMIT = 200
"""How many versions back the rows of page properties are followed."""

AUTHOR_LIMIT = 10
"""How many versions back the author of an approved text is looked for."""

VERSION_PLACEHOLDER = "{version}"


@dataclass(frozen=True)
class Approved:
    """An approved text of a page.

    :param version: the page version that was approved.
    :param digest: SHA-256 of its canonical body.
    :param approver: Confluence account id, or None where the mark does not say (labels).
    :param when: time of the approval (UTC, ISO 8601), or None where the mark does not say.
    :param how: the mark: ``state Verified``, ``label approved``, ``property Status=Approved``.
    :param rows: for properties, the digest of the rows that hold the approval.
    :param author: account id of who wrote the approved text, None where that was not looked up.
    """

    version: int
    digest: str
    approver: str | None
    when: str | None
    how: str
    rows: str | None = None
    author: str | None = None

    def value(self) -> dict[str, Any]:
        """Return the approval as JSON."""
        return {
            "approver": self.approver,
            "author": self.author,
            "digest": self.digest,
            "how": self.how,
            "rows": self.rows,
            "version": self.version,
            "when": self.when,
        }

    @classmethod
    def from_value(cls, value: dict[str, Any] | None) -> Approved | None:
        """Return the approval kept as JSON, or None."""
        return None if value is None else cls(**value)


@dataclass(frozen=True)
class Verdict:
    """What is approved on a page now.

    :param approved: the text to publish; None when the page was never approved.
    :param findings: why that is not simply the current text, if it is not.
    :param cleared: the mark is absent now, so setting it again approves anew.
    """

    approved: Approved | None
    findings: tuple[Finding, ...] = ()
    cleared: bool = False


class History:
    """One page's versions and bodies, each read from Confluence at most once.

    :param current: the page as read now, with its body.
    """

    def __init__(self, confluence: ConfluenceClient, current: Page) -> None:
        self.current = current
        self._confluence = confluence
        self._pages: dict[int, Page] = {current.version.number: current}
        self._versions: list[PageVersion] | None = None

    @property
    def number(self) -> int:
        """Return the current version's number."""
        return self.current.version.number

    def versions(self) -> list[PageVersion]:
        """Return all versions, newest first."""
        if self._versions is None:
            found = {version.number: version for version in self._confluence.versions(self.current.id)}
            found.setdefault(self.number, self.current.version)
            self._versions = [found[number] for number in sorted(found, reverse=True)]
        return self._versions

    def page(self, number: int) -> Page:
        """Return the page at a version, with its body."""
        if number not in self._pages:
            self._pages[number] = self._confluence.page(self.current.id, version=number)
        return self._pages[number]

    def body(self, number: int) -> str:
        """Return the body at a version.

        :raises InvalidInput: when Confluence sent the page without one.
        """
        body = self.page(number).body
        if body is None:
            raise InvalidInput(f"page {self.current.id} version {number}: no body in storage format")
        return body

    def digest(self, number: int) -> str:
        """Return the digest of the canonical body at a version."""
        return storage.digest(self.body(number))


def state_version(state: ContentState, versions: list[PageVersion]) -> PageVersion | None:
    """Return the version that was made when the state was last changed.

    That is the newest one made at ``last_updated`` or at most :data:`STATE_TOLERANCE` before, else the oldest one
    made as shortly after, else the newest before it: an edit that follows within seconds is not taken for the
    approval. None when the state has no time or is older than every version.

    :param versions: newest first.
    """
    if state.last_updated is None:
        return None
    moment = state.last_updated
    before = next((version for version in versions if version.created <= moment), None)
    if before is not None and moment - before.created <= STATE_TOLERANCE:
        return before
    after = [version for version in versions if moment < version.created <= moment + STATE_TOLERANCE]
    return after[-1] if after else before


def by_state(mark: ApprovalMark, state: ContentState | None, history: History, known: Approved | None) -> Verdict:
    """Judge a page by its content state.

    :param known: the approval recorded by an earlier run.
    """
    how = f"state {mark.value}"
    if state is None or state.name != mark.value:
        found = f"its state is {state.name!r}" if state else "it has no state"
        return _not_approved(history, known, f"{found}, approved is {mark.value!r}")
    version = state_version(state, history.versions())
    if version is None:
        detail = "its state is set, but no version matches the time of the state: set the state again"
        return _not_approved(history, known, detail, kind="approval_time_unknown", cleared=False)
    digest = _digest(history, version, known)
    if known is not None and (known.version, known.digest) == (version.number, digest):
        author = known.author
    else:
        author = _author(history, version, digest, known)
    approved = Approved(version.number, digest, version.author_id, _iso(version.created), how, author=author)
    return _compare(history, approved)


def _digest(history: History, version: PageVersion, known: Approved | None) -> str:
    """Return the digest of a version's text; one that an earlier run approved is not read again, for it cannot change.

    Number, time and author are compared, because a page restored from elsewhere may use a number anew.
    """
    current = version.number == history.number
    if known is None or current or (known.version, known.when) != (version.number, _iso(version.created)):
        return history.digest(version.number)
    return known.digest if known.approver == version.author_id else history.digest(version.number)


def by_label(
    mark: ApprovalMark,
    present: bool,
    numbers: frozenset[int],
    history: History,
    known: Approved | None,
    cleared: bool,
) -> Verdict:
    """Judge a page by its label.

    :param present: whether the plain label is on the page.
    :param numbers: for a label with ``{version}``, the versions that labels on the page name.
    :param cleared: whether an earlier run saw the page without the label after it had been approved.
    """
    how = f"label {mark.value}"
    if VERSION_PLACEHOLDER in mark.value:
        named = [version.number for version in history.versions() if version.number in numbers] if numbers else []
        if not named:
            return _not_approved(history, known, f"no label {mark.value!r} names one of its versions")
        return _compare(history, Approved(named[0], history.digest(named[0]), None, None, how))
    if not present:
        return _not_approved(history, known, f"the label {mark.value!r} is not on it")
    if known is None or cleared:
        return Verdict(Approved(history.number, history.digest(history.number), None, None, how))
    return _compare(history, known)


def by_property(mark: ApprovalMark, history: History, known: Approved | None) -> Verdict:
    """Judge a page by a row of its page properties.

    The approval is the oldest version from which on, without a break, the row says so and no row changed. Later
    versions whose text outside the properties is the same are approved with it.
    """
    how = f"property {mark.row}={mark.value}"
    judged = _judged(mark, history)
    newest = next(judged, None)
    if newest is None:
        return _not_approved(history, known, _row_says(mark, history))
    first = _first_of_run(newest, judged, known)
    signed = next(version for version in history.versions() if version.number == first.number)
    approved = Approved(
        first.number, history.digest(first.number), signed.author_id, _iso(signed.created), how, first.rows
    )
    if newest.number != history.number:
        return _not_approved(history, approved, _row_says(mark, history))
    findings = []
    if newest.text != first.text:
        findings.append(_changed(history, approved))
    if _at_limit(history, first.number):
        detail = (
            f"only its newest {HISTORY_LIMIT} versions were read: version {first.number} counts as the approved one"
        )
        findings.append(Finding("history_too_long", history.current.id, detail))
    return Verdict(approved, tuple(findings))


def _author(history: History, approved: PageVersion, digest: str, known: Approved | None) -> str | None:
    """Return who wrote the text that a version carries: setting a state makes a version that changes no text."""
    author = approved.author_id
    for version in history.versions():
        if version.number >= approved.number:
            continue
        try:
            same = _digest(history, version, known) == digest
        except (InvalidInput, NotFound):
            same = False
        if not same:
            return author
        author = version.author_id
        if approved.number - version.number >= AUTHOR_LIMIT:
            return None
    return author


def _row_says(mark: ApprovalMark, history: History) -> str:
    found = storage.properties(history.body(history.number)).get(mark.row)
    said = f"it has no row {mark.row!r}" if found is None else f"row {mark.row!r} says {found[:60]!r}"
    return f"{said}, approved is {mark.value!r}"


def _at_limit(history: History, number: int) -> bool:
    versions = history.versions()
    return len(versions) > HISTORY_LIMIT and versions[HISTORY_LIMIT - 1].number == number


@dataclass(frozen=True)
class _Judged:
    number: int
    text: str
    rows: str


def _judged(mark: ApprovalMark, history: History) -> Iterator[_Judged]:
    """Yield the versions that carry the mark, newest first, until after the newest run of them."""
    started = False
    for looked, version in enumerate(history.versions()):
        if looked >= HISTORY_LIMIT:
            return
        try:
            body = history.body(version.number)
            marked = storage.properties(body).get(mark.row) == mark.value
        except InvalidInput:
            # an unreadable current text is reported by the caller; an unreadable older one breaks the run
            if version.number == history.number:
                raise
            marked = False
        if marked:
            started = True
            yield _Judged(version.number, *storage.approval_digests(body))
        elif started:
            return


def _first_of_run(newest: _Judged, older: Iterator[_Judged], known: Approved | None) -> _Judged:
    """Return the oldest version from which on the rows did not change; an approval already known ends the search."""
    first = newest
    for judged in older:
        if judged.rows != newest.rows:
            break
        first = judged
        if known is not None and (known.version, known.rows) == (judged.number, judged.rows):
            break
    return first


def _compare(history: History, approved: Approved) -> Verdict:
    if approved.version >= history.number:
        return Verdict(approved)
    try:
        same = history.digest(history.number) == approved.digest
    except InvalidInput as error:
        detail = f"version {history.number}: {error}; {served(approved)}"
        return Verdict(approved, (Finding("unreadable", history.current.id, detail),))
    return Verdict(approved, () if same else (_changed(history, approved),))


def _changed(history: History, approved: Approved) -> Finding:
    detail = f"version {history.number} differs from the approved version {approved.version}, which is published"
    return Finding("changed_since_approval", history.current.id, detail)


def _not_approved(
    history: History, known: Approved | None, why: str, *, kind: str = "not_approved", cleared: bool = True
) -> Verdict:
    return Verdict(known, (Finding(kind, history.current.id, f"{why}; {served(known)}"),), cleared=cleared)


def served(known: Approved | None) -> str:
    """Say what is published of a page whose current text is not approved."""
    if known is None:
        return "it was never approved and is left out"
    return f"its last approved version {known.version} is published"


def _iso(moment: datetime) -> str:
    return moment.isoformat()
