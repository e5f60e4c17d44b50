"""Real projects' tasks through the recipe: text classification and named entities, and other database engines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from include.annotation.answers import read_answer
from include.annotation.tasks import build_task
from include.projects.load import load_project
from include.projects.model import Interface
from include.sandbox.people.annotators import Annotator, product_names, ticket_topics
from include.settings import ROOT
from include.systems.prodigy import Row
from tests.prodigy_kit.conftest import FAKE, RECIPES, Shop, healthy, wait_for

DEFINITIONS = ROOT / "include" / "projects" / "definitions"


def project_of(name: str) -> Any:
    return load_project(DEFINITIONS, name)


def task_of(project: Any, text: str) -> dict[str, Any]:
    source = {"file": "sample.jsonl", "record": "1", "sha256": "0" * 64}
    return build_task(project, content={"text": text}, meta={"source": "sample.jsonl"}, sources=[source])


def serve(shop: Shop, project: Any, interface: str, labels: tuple[str, ...]) -> None:
    command = [
        *(sys.executable, "-m", "prodigy", "labelops.serve", project.name, "--publication", str(shop.publication)),
        *("--labels", ",".join(labels), "--interface", interface, "-F", str(RECIPES)),
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
