"""How simulated annotators decide; how they talk to the server is tested with the kit."""

from __future__ import annotations

from typing import Any

import pytest

from include.annotation.tokens import tokenize
from include.sandbox.people.annotators import product_names, slips, ticket_topics

TOPICS = ("billing", "delivery", "account", "other")


def ticket(text: str) -> dict[str, Any]:
    return {"text": text, "options": [{"id": topic, "text": topic} for topic in TOPICS]}


def review(text: str) -> dict[str, Any]:
    return {"text": text, "tokens": tokenize(text)}


def marked(text: str) -> list[tuple[str, str]]:
    spans = product_names("anna")(review(text))["spans"]
    return [(span["label"], text[span["start"] : span["end"]]) for span in spans]


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        ("Please refund the second charge on my card", ["billing"]),
        ("The courier left the parcel outside", ["delivery"]),
        ("I cannot log in with my password", ["account"]),
        ("My parcel is late, I want a refund", ["billing", "delivery"]),
        ("Do you sell gift wrapping?", ["other"]),
    ],
)
def test_topics_follow_from_the_words(text: str, topics: list[str]) -> None:
    assert ticket_topics("anna", percent=0)(ticket(text)) == {"accept": topics, "answer": "accept"}


def test_topics_that_are_not_offered_are_not_picked() -> None:
    task = {"text": "refund my parcel", "options": [{"id": "delivery", "text": ""}, {"id": "other", "text": ""}]}
    assert ticket_topics("anna", percent=0)(task)["accept"] == ["delivery"]


def test_slips_are_about_as_many_as_asked_differ_by_person_and_never_by_chance() -> None:
    texts = [f"ticket {number}" for number in range(1000)]
    anna = [slips("anna", text, percent=10) for text in texts]
    ben = [slips("ben", text, percent=10) for text in texts]
    assert 60 <= sum(anna) <= 140
    assert anna != ben
    assert anna == [slips("anna", text, percent=10) for text in texts]
    assert not any(slips("anna", text, percent=0) for text in texts)
    assert all(slips("anna", text, percent=100) for text in texts)


def test_a_slip_overlooks_the_last_topic() -> None:
    decide = ticket_topics("anna", percent=100)
    assert decide(ticket("My parcel is late, I want a refund"))["accept"] == ["billing"]
    assert decide(ticket("Please refund me"))["accept"] == ["other"]
    assert decide(ticket("Do you sell gift wrapping?"))["accept"] == ["account"]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("I bought the Lumora Glow X200 last week.", [("MAKER", "Lumora"), ("PRODUCT", "Glow X200")]),
        ("The X200 by Borealis broke.", [("PRODUCT", "X200"), ("MAKER", "Borealis")]),
        ("Altiva X9 is fine, 20 people say so.", [("MAKER", "Altiva"), ("PRODUCT", "X9")]),
        ("Nothing to mark here.", []),
    ],
)
def test_spans_follow_from_the_tokens(text: str, spans: list[tuple[str, str]]) -> None:
    assert marked(text) == spans


def test_span_offsets_agree_with_their_tokens() -> None:
    task = review("I bought the Lumora Glow X200 last week.")
    for span in product_names("anna")(task)["spans"]:
        first, last = task["tokens"][span["token_start"]], task["tokens"][span["token_end"]]
        assert (span["start"], span["end"]) == (first["start"], last["end"])


def test_a_slip_overlooks_the_last_span() -> None:
    task = review("The X200 by Borealis broke.")
    assert [span["label"] for span in product_names("anna", percent=100)(task)["spans"]] == ["PRODUCT"]
