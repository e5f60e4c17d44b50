"""Counts by annotator, answer, label and day: the databases count as Python does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from include.base.errors import InvalidInput
from include.sandbox.prodigy_schema import import_jsonl
from include.systems.prodigy import counting
from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.content import parse_content
from include.systems.prodigy.counting import counted, fields_of
from include.systems.prodigy.values import Counted
from tests.servers import ENGINES, prodigy_database
from tests.systems.prodigy.make import ANSWERS, answered, connect, run
from tests.systems.prodigy.test_hashes import rows_of


def plain_count(client: ProdigyClient, dataset: str) -> tuple[int, Counter[Counted]]:
    """Count what :meth:`rows` gives, one by one."""
    unreadable, groups = 0, Counter[Counted]()
    for row in client.rows(dataset):
        try:
            groups[counted(fields_of(parse_content(row.raw)), row.session, dataset)] += 1
        except InvalidInput:
            unreadable += 1
    return unreadable, groups


def test_counts_by_each_and_by_all(client: ProdigyClient, prodigy_url: str) -> None:
    rows = [answered(f"ticket {number}") for number in range(3)]
    rows += [answered("ticket 0", "ben", accept=["billing", "other"], _timestamp=1_700_100_000)]
    rows += [answered("ticket 1", "ben", answer="ignore", accept=[], _timestamp=None)]
    rows += [{"text": "spans", "spans": [{"label": "ORG"}, {"label": "PER"}, {"label": "ORG"}, {}], "answer": "accept"}]
    rows += [{"text": "binary", "label": "Ünicode 😀", "answer": "reject", "_session_id": "2024-05-01_10-00-00"}]
    import_jsonl(prodigy_url, ANSWERS, rows)
    counts = client.counts(ANSWERS)
    assert (counts.rows, counts.unreadable) == (7, 0)
    assert counts.by("annotator") == {("anna",): 3, ("ben",): 2, (None,): 2}
    assert counts.by("answer") == {("accept",): 5, ("reject",): 1, ("ignore",): 1}
    assert counts.by("label") == {
        ("billing",): 4,
        ("other",): 1,
        (None,): 1,
        ("ORG",): 1,
        ("PER",): 1,
        ("Ünicode 😀",): 1,
    }
    assert counts.by("day", "annotator") == {
        (date(2023, 11, 14), "anna"): 3,
        (date(2023, 11, 16), "ben"): 1,
        (None, "ben"): 1,
        (None, None): 2,
    }
    assert counts.by() == {(): 7}
    assert client.counts("absent").rows == 0


def test_the_linked_session_names_who_the_row_does_not(client: ProdigyClient, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, ANSWERS, [answered("ticket", "Ben"), answered("ticket", "ben")])
    for number in (1, 2):
        bare = json.dumps({"text": "ticket", "answer": "accept"}).encode()
        run(prodigy_url, "UPDATE example SET content = :c WHERE id = :id", c=bare, id=number)
    same = prodigy_url.startswith("mysql")
    # MariaDB's collation takes Ben and ben for one session name, so there only one exists.
    assert set(client.counts(ANSWERS).by("annotator")) == ({("Ben",)} if same else {("Ben",), ("ben",)})


@pytest.mark.parametrize(
    "bad", [b"\xff{", b"", b"[1]", b"3", b'{"answer":3}', b'{"answer":"accept"} x', b'{"label":[]}']
)
def test_one_bad_row_is_counted_and_breaks_nothing(
    client: ProdigyClient, prodigy_url: str, monkeypatch: pytest.MonkeyPatch, bad: bytes
) -> None:
    monkeypatch.setattr(counting, "RANGE", 4)
    import_jsonl(prodigy_url, ANSWERS, [answered(f"ticket {number}") for number in range(10)])
    run(prodigy_url, "UPDATE example SET content = :c WHERE id = 6", c=bad)
    counts = client.counts(ANSWERS)
    assert (counts.rows, counts.unreadable) == (10, 1)
    assert counts.by("annotator") == {("anna",): 9}


@pytest.mark.parametrize(
    "odd", [b'{"answer":"accept","x":NaN}', b'{"answer":"accept","x":"\\u0000"}', b'{"answer":"accept","x":"\\ud800"}']
)
def test_what_python_reads_and_the_server_does_not_is_counted(
    client: ProdigyClient, prodigy_url: str, odd: bytes
) -> None:
    import_jsonl(prodigy_url, ANSWERS, [answered("ticket"), answered("other")])
    run(prodigy_url, "UPDATE example SET content = :c WHERE id = 2", c=odd)
    assert client.counts(ANSWERS).by("answer") == {("accept",): 2}


def test_the_server_counts_what_it_can(
    client: ProdigyClient, prodigy_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if prodigy_url.startswith("sqlite"):
        pytest.skip("SQLite's rows are counted here")
    import_jsonl(prodigy_url, ANSWERS, [answered("ticket"), answered("other", "ben", _timestamp=1.7e9)])

    def unused(*given: Any, **more: Any) -> Any:
        raise AssertionError("the rows were read")

    monkeypatch.setattr(counting, "_read", unused)
    assert client.counts(ANSWERS).by("annotator") == {("anna",): 1, ("ben",): 1}


def test_a_real_export_is_counted_alike(client: ProdigyClient, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, ANSWERS, rows_of("pydata-ams-2023.jsonl"))
    counts = client.counts(ANSWERS)
    assert (counts.unreadable, counts.groups) == plain_count(client, ANSWERS)
    assert counts.rows == 3372
    assert len(counts.by("annotator")) == 42


WORDS = st.sampled_from(
    ["a", "A", "é", "e\u0301", "\u0000", "😀", 'q"', "\\", "null", "", "day1", "  a ", f"{ANSWERS}-anna"]
)
SCALARS = st.none() | st.booleans() | st.integers(-(10**10), 10**12) | WORDS | st.sampled_from([1.0, 1.5, 86399.99999])
LISTS = st.lists(SCALARS, max_size=3)
SPANS = st.lists(SCALARS | LISTS | st.fixed_dictionaries({}, optional={"label": SCALARS}), max_size=3)
CONTENT = st.fixed_dictionaries(
    {},
    optional={
        "_annotator_id": SCALARS,
        "_session_id": SCALARS,
        "versions": st.none() | LISTS,
        "answer": SCALARS | LISTS,
        "label": SCALARS | LISTS,
        "accept": SCALARS | LISTS | st.just({}),
        "spans": SCALARS | SPANS | st.just({"label": "x"}),
        "_timestamp": SCALARS | st.floats(allow_nan=False, allow_infinity=False) | st.just(1_700_000_000),
    },
)
RAW = st.builds(lambda value: json.dumps(value).encode(), CONTENT | LISTS | SCALARS) | st.binary(max_size=8)


@pytest.fixture(scope="module", params=ENGINES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One database for all examples of a property."""
    with prodigy_database(request, request.param, tmp_path_factory.mktemp("counts")) as url:
        yield url


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(RAW, max_size=6))
def test_the_databases_count_as_python_does(shared: str, contents: list[bytes]) -> None:
    client = connect(shared)
    with create_engine(shared, poolclass=NullPool).begin() as conn:
        for table in ("link", "example", "dataset"):
            conn.execute(text(f"DELETE FROM {table}"))
        conn.execute(
            text("INSERT INTO dataset VALUES (1, :name, 0, :meta, :session)"),
            {"name": ANSWERS, "meta": b"{}", "session": False},
        )
        for number, content in enumerate(contents, 1):
            conn.execute(text("INSERT INTO example VALUES (:id, 1, 1, :content)"), {"id": number, "content": content})
            conn.execute(text("INSERT INTO link VALUES (:id, :id, 1)"), {"id": number})
    counts = client.counts(ANSWERS)
    assert (counts.unreadable, counts.groups) == plain_count(client, ANSWERS)
    assert counts.rows == len(contents)
