"""Real projects' tasks through the recipe: text classification and named entities, and other database engines."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from include.annotation.answers import read_answer
from include.annotation.served import labels_digest
from include.annotation.tasks import build_task
from include.projects.load import load_project
from include.projects.model import Interface
from include.sandbox.people.annotators import Annotator, product_names, ticket_topics
from include.settings import ROOT
from include.systems.prodigy.values import Row
from tests.annotation import make
from tests.prodigy_kit.conftest import FAKE, RECIPES, Shop, healthy, wait_for

DEFINITIONS = ROOT / "include" / "projects" / "definitions"


def project_of(name: str) -> Any:
    return load_project(DEFINITIONS, name)


def task_of(project: Any, text: str) -> dict[str, Any]:
    source = {"file": "sample.jsonl", "record": "1", "sha256": "0" * 64}
    return build_task(project, content={"text": text}, meta={"source": "sample.jsonl"}, sources=[source])


def serve(shop: Shop, project: Any, interface: str, labels: tuple[str, ...], *more: str) -> None:
    command = [
        *(sys.executable, "-m", "prodigy", "labelops.serve", project.name, "--publication", str(shop.publication)),
        *("--labels", ",".join(labels), "--interface", interface, "-F", str(RECIPES)),
        *more,
    ]
    process = shop.spawn(command, "serve.log")
    wait_for(lambda: healthy(shop.url) or process.poll() is not None, what="server")


def answers(shop: Shop, project: Any) -> list[Any]:
    """Return the saved answers as the sync reads them."""
    found = shop.query(
        "SELECT l.id, e.id, e.input_hash, e.task_hash, e.content FROM dataset d JOIN link l ON l.dataset_id=d.id "
        "JOIN example e ON e.id=l.example_id WHERE d.name=? ORDER BY l.id",
        project.name,
    )
    return [
        read_answer(Row(link, example, first, second, {}, content), project)
        for link, example, first, second, content in found
    ]


def test_named_entities_from_inbox_to_answer(shop: Shop) -> None:
    project = project_of("product_names")
    shop.publish("Names", labels=("PRODUCT", "MAKER"))
    shop.add(project.inbox, [task_of(project, "The Glow X200 by Borealis broke."), task_of(project, "Nothing here.")])
    serve(shop, project, "ner", ("PRODUCT", "MAKER"))
    anna = Annotator("anna", shop.url, product_names("anna"))
    assert anna.label_batch() == 2
    first, second = answers(shop, project)
    assert first.value.spans == ((4, 13, "PRODUCT"), (17, 25, "MAKER"))
    assert second.value.spans == ()
    assert (first.account, first.round, first.stamped, first.guideline_number) == ("anna", 1, True, 1)


def test_spans_outside_the_text_or_the_labels_are_flagged(shop: Shop) -> None:
    project = project_of("product_names")
    shop.publish("Names", labels=("PRODUCT", "MAKER"))
    shop.add(project.inbox, [task_of(project, "The Glow X200 broke.")])
    serve(shop, project, "ner", ("PRODUCT", "MAKER"))
    anna = Annotator("anna", shop.url, product_names("anna"))
    session, (task,) = anna.fetch()
    spans = [{"start": 4, "end": 900, "label": "PRODUCT"}, {"start": 4, "end": 8, "label": "COLOUR"}]
    anna.give(session, [{**task, "spans": spans, "answer": "accept"}])
    reasons = " ".join(shop.rows(project.name)[0]["labelops"]["invalid"])
    assert "4:900 is outside the text" in reasons
    assert "COLOUR" in reasons


def test_choice_tasks_built_by_ingestion_are_read_back_as_answers(shop: Shop) -> None:
    project = project_of("ticket_topics")
    shop.publish("Topics", labels=project.annotation.labels)
    shop.add(project.inbox, [task_of(project, "My parcel is late, I want a refund")])
    serve(shop, project, "choice", project.annotation.labels)
    Annotator("anna", shop.url, ticket_topics("anna", percent=0)).label_batch()
    (answer,) = answers(shop, project)
    assert answer.value.accepted == ("billing", "delivery")


def test_one_label_accept_or_reject(shop: Shop) -> None:
    project = project_of("ticket_topics")
    annotation = project.annotation.model_copy(
        update={"interface": Interface.TEXTCAT, "labels": ("urgent",), "multiple": False}
    )
    project = project.model_copy(update={"annotation": annotation})
    shop.publish("Urgent?", labels=("urgent",))
    shop.add(project.inbox, [task_of(project, "Help now"), task_of(project, "Some day")])
    serve(shop, project, "textcat", ("urgent",))
    decide = {"Help now": "accept", "Some day": "reject"}
    Annotator("anna", shop.url, lambda task: {"answer": decide[task["text"]]}).label_batch()
    assert [(row["label"], row["answer"]) for row in shop.rows(project.name)] == [
        ("urgent", "accept"),
        ("urgent", "reject"),
    ]


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The kit's file as Prodigy loads it, over the fake."""
    monkeypatch.syspath_prepend(str(FAKE))
    monkeypatch.setenv("PRODIGY_HOME", str(tmp_path))
    spec = importlib.util.spec_from_file_location("labelops_recipes", RECIPES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "labelops_recipes", module)
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name == "prodigy" or name.startswith("prodigy.")]:
        del sys.modules[name]


JOINING = {"relations": ("--relation-labels", "MADE_BY")}


@pytest.mark.parametrize("kind", sorted(make.PROJECTS))
@pytest.mark.proves("every interface is served, saved and read back")
def test_marks_from_inbox_to_answer(shop: Shop, kind: str) -> None:
    project, labels = make.PROJECTS[kind], make.PROJECTS[kind].annotation.labels
    shop.publish("Marks", labels=labels)
    shop.add(project.inbox, [make.task(kind)])
    serve(shop, project, kind, labels, *JOINING.get(kind, ()))
    with urllib.request.urlopen(shop.url + "/project", timeout=10) as reply:
        served = json.loads(reply.read())
    assert served["view_id"] == project.view_id
    assert served["config"]["labels"] == list(project.annotation.relation_labels or labels)
    assert served["config"].get("relations_span_labels") == (list(labels) if kind == "relations" else None)
    Annotator("anna", shop.url, lambda task: {"answer": "accept", **make.MARKS[kind]}).label_batch()
    assert "invalid" not in shop.rows(project.name)[0]["labelops"]
    (answer,) = answers(shop, project)
    assert answer.value.canonical() == {"interface": kind, "answer": "accept", **make.VALUES[kind]}
    assert answer.labels_digest == labels_digest(project.annotation.all_labels)
    assert (answer.account, answer.stamped) == ("anna", True)


@pytest.mark.parametrize(
    ("kind", "marks", "words"),
    [
        ("spans", {"spans": [{**make.MAKER, "end": 900}]}, ["0:900 is outside the text of 18"]),
        ("spans", {"spans": [{**make.MAKER, "label": "COLOUR"}]}, ["labels not in the list: COLOUR"]),
        ("image", {"spans": [{**make.RECT, "label": "CAT"}]}, ["labels not in the list: CAT"]),
        ("image", {"spans": [make.RECT], "width": 20, "height": 90}, ["outside the image of 20 x 90"]),
        ("image", {"spans": [{"label": "CAR", "type": "rect", "x": 1}]}, ["neither points nor"]),
        ("image", {"spans": [{"label": "CAR", "type": "polygon", "points": [[1, 1]]}]}, ["1 point(s)"]),
        ("image", {"spans": [{"label": "CAR", "type": "polygon", "points": [[1]]}]}, ["points are malformed"]),
        ("audio", {"audio_spans": [{**make.SPEECH, "end": 0.1}]}, ["segment 0.5:0.1 does not end after"]),
        ("audio", {"audio_spans": ["x"]}, ["audio_spans is malformed"]),
        ("relations", {"relations": [{**make.MADE, "head": 44}]}, ["relation's head 44 is no token"]),
        ("relations", {"relations": [{**make.MADE, "label": "OWNS"}]}, ["relation labels not in the list: OWNS"]),
        ("relations", {"relations": 3}, ["relations is malformed"]),
    ],
)
def test_a_mark_that_cannot_be_is_flagged(recipes: Any, kind: str, marks: dict[str, Any], words: list[str]) -> None:
    annotation = make.PROJECTS[kind].annotation
    job = recipes.Job("product_names", make.PROJECTS[kind].view_id, annotation.labels, 1, 1, 1.0)
    job = dataclasses.replace(job, relation_labels=annotation.relation_labels)
    dispenser = object.__new__(recipes.Dispenser)
    dispenser.job = job
    good = {**make.answered(kind), "answer": "accept"}
    assert dispenser._value_problems(good, annotation.labels) == []
    found = dispenser._value_problems({**good, **marks}, annotation.labels)
    assert [word for word in words if not any(word in reason for reason in found)] == []


def test_relation_labels_go_with_relations_alone(recipes: Any, tmp_path: Path) -> None:
    for interface, joining in (("relations", ""), ("ner", "OF")):
        with pytest.raises(ValueError, match=r"--relation-labels .*: needed for --interface relations, and for no"):
            recipes.serve("p", str(tmp_path), "A", interface=interface, relation_labels=joining)


@pytest.mark.server
def test_the_database_on_the_other_engines(prodigy_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = make_url(prodigy_url)
    kind = {"sqlite": "sqlite", "postgresql": "postgresql", "mysql": "mysql"}[url.get_backend_name()]
    options: dict[str, Any] = {"user": url.username, "password": url.password, "host": url.host, "port": url.port}
    options["dbname"] = url.database
    if kind == "sqlite":
        place = Path(str(url.database))
        options = {"name": place.name, "path": str(place.parent)}
    monkeypatch.syspath_prepend(str(FAKE))
    monkeypatch.setenv("PRODIGY_HOME", str(tmp_path))
    from prodigy.components.db import connect

    database = connect(kind, options)
    try:
        database.add_dataset("reviews")
        database.add_dataset("reviews-anna", session=True)
        row = {"text": "Käse \U0001f600", "_input_hash": -5, "_task_hash": 2**31 - 1}
        database.add_examples([row], datasets=["reviews", "reviews-anna"])
        assert database.get_dataset_examples("reviews") == [row]
        assert (database.datasets, database.sessions) == (["reviews"], ["reviews-anna"])
        assert database.count_dataset("reviews-anna") == 1
    finally:
        database.close()
        for name in [name for name in sys.modules if name == "prodigy" or name.startswith("prodigy.")]:
            del sys.modules[name]
