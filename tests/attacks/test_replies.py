"""An outside system answers wrongly: with other types, with nothing, with what was, or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import URL

from include.annotation.answers import AnswerReader, read_answer
from include.base.errors import InvalidInput, InvalidReply, LabelopsError, RateLimited, Unavailable
from include.base.store import Store
from include.guidelines.sync import collect
from include.ingestion.parquet import read_parquet
from include.sandbox.http import App, Reply, Request, json_reply
from include.systems.confluence.client import ConfluenceClient
from include.systems.jira.client import JiraClient
from include.systems.opentext.client import OpenTextClient
from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.values import Row
from tests.annotation.test_reader import ROWS
from tests.contracts.test_confluence_operations import public
from tests.fuzz.answers import template
from tests.fuzz.replies import CALLS, SILENT, confluence, jira, opentext, played
from tests.guidelines.conftest import Sync, make_project
from tests.guidelines.fake_confluence import FakeConfluence
from tests.operators.test_operators import TaskInstance, context, home, lister
from tests.systems.prodigy.make import ANSWERS, connect

__all__ = ["home"]

KINDS = (ConfluenceClient, JiraClient, OpenTextClient)
GARBLED: dict[str, Any] = {
    "a list": [],
    "a number": 7,
    "an id that is an object": {"id": {}},
    "an id that is null": {"id": None, "key": None},
    "nothing": {},
}


def answering(app: App, method: str, ending: str, change: Callable[[Reply], Reply], times: int = 1) -> Any:
    """Return an answer in which the first requests of a kind are answered otherwise, after they were carried out."""
    left = times

    def answer(asked: Request) -> Reply:
        nonlocal left
        reply = played(app, asked)
        if left and asked.method == method and asked.path.endswith(ending):
            left -= 1
            return change(reply)
        return reply

    return answer


def saying(body: Any) -> Callable[[Reply], Reply]:
    return lambda reply: json_reply(body, reply.status)


def with_field(**fields: Any) -> Callable[[Reply], Reply]:
    return lambda reply: json_reply(json.loads(reply.body) | fields)


def numbered(number: int) -> Callable[[Reply], Reply]:
    def change(reply: Reply) -> Reply:
        row = json.loads(reply.body)
        return json_reply(row | {"version": row["version"] | {"number": number}})

    return change


# --- replies of other types ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_public_method_of_a_client_is_tried_with_wrong_replies(kind: type) -> None:
    assert public(kind) == set(CALLS[kind]) | SILENT[kind]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", {}),
        ("priority", "high"),
        ("assignments", 5),
        ("assignments", ["x"]),
        ("variables", {"a": 1}),
        ("variables", ["a"]),
        ("variables", [{"value": 1}]),
        ("name", {"text": "x"}),
        ("dueDate", 5),
        ("dueDate", "0001-01-01T00:00:00+14:00"),
        ("id", None),
    ],
)
def test_a_task_with_a_field_of_another_type_is_an_invalid_reply_that_names_it(field: str, value: Any) -> None:
    app, make, known = opentext()
    client = make(answering(app, "GET", known.task, with_field(**{field: value})))
    with pytest.raises(InvalidReply, match=rf"opentext: /workflow/v1/tasks/{known.task}: field `{field}`|`name`"):
        client.task(known.task)


@pytest.mark.parametrize("flavour", ["cloud", "datacenter"])
@pytest.mark.parametrize(
    ("field", "value"),
    [("_links", {"webui": [5]}), ("_links", 5), ("version", {"number": "2"}), ("title", {}), ("id", {}), ("status", 1)],
)
def test_a_page_with_a_field_of_another_type_is_an_invalid_reply_that_names_it(
    flavour: str, field: str, value: Any
) -> None:
    app, make, known = confluence(flavour)
    client = make(answering(app, "GET", known.page.id, with_field(**{field: value})))
    with pytest.raises(InvalidReply, match=rf"confluence: /.*{known.page.id}: field `(webui|number|{field})`"):
        client.page(known.page.id)


@pytest.mark.parametrize("state", [7, {"id": {}, "name": "Verified"}, {"id": 1, "name": {}}, "Verified"])
def test_a_content_state_of_another_type_is_an_invalid_reply(state: Any) -> None:
    app, make, known = confluence("cloud")
    client = make(answering(app, "GET", "/state", saying({"contentState": state})))
    with pytest.raises(InvalidReply):
        client.content_state(known.page.id)


@pytest.mark.parametrize("fields", [{"assignee": ["x"]}, {"labels": [{}]}, {"updated": 5}, {"status": {"name": None}}])
def test_an_issue_with_a_field_of_another_type_is_an_invalid_reply(fields: dict[str, Any]) -> None:
    app, make, known = jira("cloud")

    def change(reply: Reply) -> Reply:
        row = json.loads(reply.body)
        return json_reply(row | {"fields": row["fields"] | fields})

    with pytest.raises(InvalidReply, match="jira: an issue: field `"):
        make(answering(app, "GET", known.key, change)).issue(known.key)


@pytest.mark.parametrize("made", [partial(confluence, "cloud"), partial(jira, "cloud"), opentext])
def test_json_of_any_depth_and_half_characters_are_invalid_replies(made: Callable[[], Any]) -> None:
    app, make, _ = made()
    for body in (b"[" * 200_000, b'{"a":' * 200_000, b'{"accountId": "\\ud800", "_embedded": null}', b"9" * 5000):
        with pytest.raises(InvalidReply, match="expected whole JSON"):
            make(answering(app, "GET", "", lambda reply, body=body: Reply(200, body), times=99)).check()


@pytest.mark.parametrize("made", [partial(confluence, "cloud"), partial(jira, "cloud"), opentext])
def test_a_redirect_to_what_is_no_address_is_an_invalid_reply(made: Callable[[], Any]) -> None:
    app, make, _ = made()
    with pytest.raises(InvalidReply, match="redirected to what is no address"):
        make(answering(app, "GET", "", lambda reply: Reply(302, b"", {"Location": "http://["}), times=99)).check()


def tampered(folder: Path, statement: str) -> ProdigyClient:
    """Return a client of a database with three answers, in which somebody changed a cell by hand."""
    path = folder / "prodigy.db"
    path.write_bytes(template().read_bytes())
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()
    return connect(URL.create("sqlite", database=str(path)))


@pytest.mark.parametrize("content", ["7", "2.5", "4611686018427387904"])
def test_a_number_in_the_place_of_an_answer_is_one_unreadable_row(tmp_path: Path, content: str) -> None:
    client = tampered(tmp_path, f"update example set content = {content} where id = 2")
    assert [bool(row.content) for row in client.rows(ANSWERS)] == [True, False, True]
    assert client.counts(ANSWERS).unreadable == 1


@pytest.mark.parametrize(
    "statement",
    [
        "update example set input_hash = 'x'",
        "update example set task_hash = x'00'",
        "update dataset set created = 'x'",
        "update dataset set created = 9e18",
        "update dataset set name = x'00' where id = 2",
    ],
)
def test_a_cell_of_another_type_in_prodigys_tables_is_an_invalid_reply(tmp_path: Path, statement: str) -> None:
    client = tampered(tmp_path, statement)
    with pytest.raises(InvalidReply, match=r"Prodigy's database: .*: found"):
        list(chain(client.sessions(ANSWERS), client.rows(ANSWERS)))


@pytest.mark.parametrize("many", [False, True], ids=["alone", "among many"])
def test_a_label_that_is_half_a_character_is_refused_before_it_is_digested(many: bool) -> None:
    [of] = [of for of, _ in ROWS if of.annotation.interface == "ner"]
    content = {"text": "Acme", "spans": [{"start": 0, "end": 4, "label": "\ud800"}], "answer": "accept"}
    row = Row(7, 11, 0, 0, content, json.dumps(content).encode())
    with pytest.raises(InvalidInput, match=r"spans\[0\]\.label: found half of a surrogate pair"):
        AnswerReader(of).read(row) if many else read_answer(row, of)


# --- writes whose reply says nothing ---------------------------------------------------------------------------------


def written_or_not(app: App, ending: str, body: Any, *, carried_out: bool) -> Any:
    """Return an answer in which one POST is answered with a body that says nothing, carried out or not."""
    left = 1

    def answer(asked: Request) -> Reply:
        nonlocal left
        hit = left and asked.method == "POST" and asked.path.endswith(ending)
        if hit:
            left -= 1
            if carried_out:
                played(app, asked)
            return json_reply(body)
        return played(app, asked)

    return answer


@pytest.mark.parametrize("body", GARBLED.values(), ids=GARBLED)
@pytest.mark.parametrize("carried_out", [True, False], ids=["taken", "not taken"])
def test_a_comment_on_a_process_answered_with_nothing_is_there_once_in_the_end(body: Any, carried_out: bool) -> None:
    app, make, known = opentext()
    client = make(written_or_not(app, "/comments", body, carried_out=carried_out))
    if carried_out:
        assert client.add_comment(known.process, "twice").message == "twice"
    else:
        with pytest.raises(InvalidReply):
            client.add_comment(known.process, "twice")
        client.add_comment(known.process, "twice")
    assert [one.message for one in client.comments(known.process)] == ["once", "twice"]


@pytest.mark.parametrize("body", GARBLED.values(), ids=GARBLED)
@pytest.mark.parametrize("carried_out", [True, False], ids=["taken", "not taken"])
def test_a_start_answered_with_nothing_is_one_process_in_the_end(body: Any, carried_out: bool) -> None:
    app, make, known = opentext()
    client = make(written_or_not(app, "/process-instances", body, carried_out=carried_out))
    start = partial(client.start_process, known.key, name="V", business_key="k9", variables=known.variables)
    if not carried_out:
        with pytest.raises(Unavailable, match="was not confirmed"):
            start()
    process_id, _ = start()
    assert [one.id for one in client.processes(business_key="k9")] == [process_id]


@pytest.mark.parametrize("body", GARBLED.values(), ids=GARBLED)
def test_an_issue_answered_with_nothing_is_found_and_not_made_twice(body: Any) -> None:
    app, make, _ = jira("cloud")
    client = make(written_or_not(app, "/issue", body, carried_out=True))
    made, _ = client.create_issue("LAB", "Task", "New", "Text.", effect="cd" * 32)
    assert client.create_issue("LAB", "Task", "New", "Text.", effect="cd" * 32) == (made, False)
    assert len(list(client.search("project = LAB"))) == 2


@pytest.mark.parametrize("flavour", ["cloud", "datacenter"])
@pytest.mark.parametrize("change", [*map(saying, GARBLED.values()), numbered(7)], ids=[*GARBLED, "another version"])
def test_a_page_written_and_answered_with_nothing_is_read_before_it_is_judged(
    flavour: str, change: Callable[[Reply], Reply]
) -> None:
    app, make, known = confluence(flavour)
    client = make(answering(app, "PUT", known.top.id, change))
    page = client.update_page(client.page(known.top.id), body="<p>Two</p>")
    assert (page.version.number, page.body) == (known.top.version.number + 1, "<p>Two</p>")


@pytest.mark.parametrize(
    ("method", "times", "answer"),
    [("POST", 1, json_reply({})), ("GET", 2, json_reply({"exception": "no such process"}, 404))],
    ids=["nothing", "not there"],
)
def test_the_summary_of_a_release_is_on_its_process_after_one_wrong_answer(
    approved: Any, method: str, times: int, answer: Reply
) -> None:
    approved.release()
    app = approved.opentext.app
    app.fault("status", lambda asked: "/comments" in asked.path and asked.method == method, reply=answer, times=times)
    with suppress(LabelopsError):
        approved.report()
    approved.report()
    process = approved.events("release.requested")[-1].body["process_id"]
    told = [one.message for one in approved.opentext_client().comments(process)]
    assert sum(one.startswith("Lineage of dataset version 1") for one in told) == 1


# --- listings that fail for a moment ---------------------------------------------------------------------------------

AWAY = [
    Unavailable("the database is away"),
    RateLimited("too many", retry_after=9),
    Unavailable("locked"),
    TimeoutError(),
]


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
def test_a_listing_that_is_away_for_a_moment_costs_no_project_its_run(home: Any, error: Exception) -> None:
    listed = lister(product_names=[error], ticket_topics=["t1"])
    with pytest.raises(Unavailable, match="product_names could not be listed"):
        listed.execute(context())
    listed = lister(product_names=["p1"], ticket_topics=["t1"])
    found = listed.execute(context(TaskInstance(try_number=2)))
    assert [(one["subject"], one["error"]) for one in found] == [("p1", None), ("t1", None)]


def test_a_listing_that_stays_away_holds_nobody_up_a_second_time(home: Any) -> None:
    found = lister(product_names=[AWAY[0]], ticket_topics=["t1"]).execute(context(TaskInstance(try_number=2)))
    assert {one["project"]: bool(one["error"]) for one in found} == {"product_names": True, "ticket_topics": False}


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("try_number", [1, 2, 4])
def test_where_every_listing_is_away_the_list_is_tried_again_as_the_error_says(
    home: Any, error: Exception, try_number: int
) -> None:
    with pytest.raises(type(error)):
        lister(product_names=[error]).execute(context(TaskInstance(try_number=try_number), project=["product_names"]))


@pytest.mark.parametrize("error", [InvalidInput("a bad field"), KeyError("a mistake of ours")])
def test_a_listing_that_is_wrong_for_good_fails_alone_at_once(home: Any, error: Exception) -> None:
    found = lister(product_names=[error], ticket_topics=["t1"]).execute(context())
    assert [one["subject"] for one in found] == ["thing:product_names", "t1"]


def test_a_table_whose_place_breaks_off_is_no_bad_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    def broken(stream: Any, **_: Any) -> Any:
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(parquet, "ParquetFile", broken)
    with pytest.raises(ConnectionResetError):
        list(read_parquet(SimpleNamespace(route=None), None, None))  # type: ignore[arg-type]


# --- one reply that is old, or empty ---------------------------------------------------------------------------------


class Forgetful(FakeConfluence):
    """Answers one request of a kind as if nothing were there."""

    forgets = ""

    def _forgot(self, kind: str) -> bool:
        hit, self.forgets = self.forgets == kind, "" if self.forgets == kind else self.forgets
        return hit

    def content_state(self, page_id: str) -> Any:
        found = super().content_state(page_id)
        return None if self._forgot("state") else found

    def labels(self, page_id: str) -> list[str]:
        found = super().labels(page_id)
        return [] if self._forgot("labels") else found

    def pages_with_label(self, space_key: str, label: str) -> Iterator[str]:
        found = list(super().pages_with_label(space_key, label))
        return iter(found[:-1] if self._forgot("label listing") else found)

    def pages_in_space(self, space_id: str) -> Iterator[Any]:
        found = list(super().pages_in_space(space_id))
        return iter(found[:-1] if self._forgot("listing") else found)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def forgetful() -> Forgetful:
    space = Forgetful()
    space.write("1", "<p>why</p>", title="Guideline")
    space.write("2", "<p>early</p>", parent="1")
    return space


@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
def test_a_state_that_is_empty_in_one_reply_changes_nothing(forgetful: Forgetful, store: Store, first: bool) -> None:
    sync = Sync(forgetful, store, make_project())
    for page_id in ("1", "2"):
        forgetful.set_state(page_id, "Verified")
    if not first:
        sync.run()
        forgetful.write("2", "<p>late</p>")
        forgetful.set_state("2", "Verified")
    undisturbed = collect(sync.project, forgetful, store, sync.seen)
    forgetful.forgets = "state"
    disturbed = sync.run()
    assert forgetful.forgets == ""
    assert (disturbed.pages, disturbed.findings, disturbed.seen) == (undisturbed.pages, (), undisturbed.seen)


def test_a_state_that_stays_empty_for_a_run_is_found_by_the_next(
    forgetful: Forgetful, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the text was approved before and only its rendering is made anew."""
    for page_id in ("1", "2"):
        forgetful.set_state(page_id, "Verified")
    sync = Sync(forgetful, store, make_project())
    before = sync.run()
    sync.project = make_project(max_image_kilobytes=7)
    with monkeypatch.context() as stale:
        stale.setattr(forgetful, "content_state", lambda page_id: None)
        sync.run()
    after = sync.run()
    assert (after.pages, after.findings) == (before.pages, ())


def test_labels_that_are_empty_in_one_reply_let_no_later_text_be_approved(forgetful: Forgetful, store: Store) -> None:
    for page_id in ("1", "2"):
        forgetful.label(page_id, "approved")
    sync = Sync(forgetful, store, make_project({"by": "label", "value": "approved"}))
    sync.run()
    forgetful.write("2", "<p>nobody approved this</p>")
    forgetful.forgets = "labels"
    for _ in range(2):
        found = sync.run()
        assert [page.version for page in found.pages] == [1, 1]
        assert [finding.kind for finding in found.findings] == ["changed_since_approval"]


@pytest.mark.parametrize("approved", [{"by": "label", "value": "approved"}, {"by": "state", "value": "Verified"}])
def test_a_listing_that_lacks_a_page_once_removes_nothing_and_approves_nothing(
    forgetful: Forgetful, store: Store, approved: dict[str, Any]
) -> None:
    for page_id in ("1", "2"):
        forgetful.set_state(page_id, "Verified")
        forgetful.label(page_id, "approved")
    sync = Sync(forgetful, store, make_project(approved))
    before = sync.run()
    forgetful.write("2", "<p>nobody approved this</p>")
    forgetful.forgets = "listing"
    with pytest.raises(Unavailable, match="the listing of space LAB lacks page 2, which is there"):
        sync.run()
    after = sync.run()
    assert [(page.page_id, page.version) for page in after.pages] == [
        (one.page_id, one.version) for one in before.pages
    ]
