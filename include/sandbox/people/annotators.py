"""Annotators who label as a browser does: load the page, fetch tasks, post answers.

They decide by reading the text with simple rules. A few answers differ on purpose, so that two people sometimes
disagree: which ones follows from the text, the person and a seed, never from chance.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

__all__ = ["Annotator", "Labelled", "product_names", "slips", "ticket_topics"]

Task = dict[str, Any]
Decision = Callable[[Task], Task]
"""Takes a served task, returns what the annotator adds to it: ``accept`` or ``spans``, and ``answer``."""

TOPIC_WORDS: Mapping[str, tuple[str, ...]] = {
    "billing": ("invoice", "charge", "charged", "refund", "payment", "paid", "bill", "billed", "card", "price", "fee"),
    "delivery": ("delivery", "deliver", "delivered", "parcel", "courier", "shipping", "shipped", "package", "arrive"),
    "account": ("account", "password", "login", "log", "email", "profile", "username", "locked", "sign"),
}
"""A topic applies when one of its words occurs."""

MAKERS = (
    "Altiva",
    "Borealis",
    "Cindral",
    "Halvorsen",
    "Kestrel",
    "Lumora",
    "Norwick",
    "Ostrava",
    "Pellworm",
    "Quillon",
)
"""Invented makers of the sample reviews."""

MODEL = re.compile(r"(?=.*\d)[A-Z0-9][A-Za-z0-9-]*\Z")
"""A model name: begins with a capital or a digit, and has a digit (``X200``, ``Nova3``)."""

MAKER = re.compile(r"[A-Z][a-z]{3,}\Z")


@dataclass(frozen=True)
class Labelled:
    """What one annotator did: answers saved, batches, and seconds from first page to last answer."""

    answers: int
    batches: int
    seconds: float


class Annotator:
    """One person at one Prodigy page.

    :param name: the account, as in ``?session=<name>``.
    :param base_url: the server's address.
    :param decide: how this person answers.
    """

    def __init__(self, name: str, base_url: str, decide: Decision) -> None:
        self.name = name
        self.base_url = base_url.rstrip("/")
        self.decide = decide

    def open_page(self) -> str:
        """Load the page, which makes this person known to the server; return the session's name."""
        return str(self._call(f"/project/{quote(self.name)}")["session_id"])

    def fetch(self) -> tuple[str, list[Task]]:
        """Load the page and fetch a batch; return the session's name and the tasks."""
        session = self.open_page()
        return session, list(self._call("/get_session_questions", {"session_id": session})["tasks"])

    def give(self, session: str, answers: list[Task]) -> None:
        """Post answers, as the save button does."""
        self._call("/give_answers", {"answers": answers, "session_id": session})

    def label_batch(self) -> int:
        """Fetch one batch, answer all of it, save it; return how many."""
        session, tasks = self.fetch()
        if tasks:
            self.give(session, [{**task, **self.decide(task)} for task in tasks])
        return len(tasks)

    def label_until_done(self, max_wait: float = 5.0, *, pause: float = 0.2) -> Labelled:
        """Label until no task came for ``max_wait`` seconds. A server that restarts meanwhile is waited for."""
        began = last = time.monotonic()
        answers = batches = 0
        while time.monotonic() - last < max_wait:
            try:
                done = self.label_batch()
            except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
                if isinstance(error, urllib.error.HTTPError):
                    raise
                # Saved or not, the next page load tells: what was not saved is asked again.
                done = 0
            if done:
                answers += done
                batches += 1
                last = time.monotonic()
            else:
                time.sleep(pause)
        return Labelled(answers, batches, last - began)

    def _call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode("utf-8")
        request = urllib.request.Request(  # noqa: S310
            self.base_url + path, data=data, headers={"Content-Type": "application/json"} if data else {}
        )
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
            value = json.loads(reply.read())
        if not isinstance(value, dict):
            raise ValueError(f"{path}: expected an object, got {type(value).__name__}")
        return value


def slips(person: str, text: str, *, percent: int, seed: int = 0) -> bool:
    """Tell whether this person misjudges this text: so many in a hundred texts, the same ones every time."""
    digest = hashlib.sha256(f"{seed}\n{person}\n{text}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < percent


def ticket_topics(person: str, *, percent: int = 5, seed: int = 0) -> Decision:
    """Return how a person picks topics: those whose words occur, ``other`` if none does.

    A slip overlooks the last topic found (``other`` where it was the only one), or takes ``other`` for ``account``.
    """

    def decide(task: Task) -> Task:
        text = str(task.get("text", ""))
        words = set(re.findall(r"[a-z]+", text.lower()))
        offered = [option["id"] for option in task["options"]]
        topics = [topic for topic, cues in TOPIC_WORDS.items() if topic in offered and words & set(cues)]
        if slips(person, text, percent=percent, seed=seed):
            topics = topics[:-1] if topics else ["account"]
        return {"accept": topics or ["other"], "answer": "accept"}

    return decide


def product_names(person: str, *, percent: int = 0, seed: int = 0, makers: tuple[str, ...] = MAKERS) -> Decision:
    """Return how a person marks spans: known makers, and model names with the capitalised word before them.

    A slip overlooks the last span.
    """

    def decide(task: Task) -> Task:
        tokens = task["tokens"]
        spans = _spans(tokens, makers)
        if spans and slips(person, str(task.get("text", "")), percent=percent, seed=seed):
            spans = spans[:-1]
        return {"spans": spans, "answer": "accept"}

    return decide


def _spans(tokens: list[Task], makers: tuple[str, ...]) -> list[Task]:
    """Return the spans of a text, left to right and never overlapping."""
    spans: list[Task] = []
    for token in tokens:
        if token["text"] in makers:
            spans.append(_span(tokens, token["id"], token["id"], "MAKER"))
        elif MODEL.match(token["text"]) and not token["text"].isdigit():
            first = _name_before(tokens, token["id"], makers)
            spans.append(_span(tokens, first, token["id"], "PRODUCT"))
    return spans


def _name_before(tokens: list[Task], place: int, makers: tuple[str, ...]) -> int:
    """Return where a product's name begins: at a capitalised word before the model, no maker and no first word."""
    before = place - 1
    if before < 1:
        return place
    word = tokens[before]["text"]
    begins_sentence = tokens[before - 1]["text"] in (".", "!", "?")
    return before if MAKER.match(word) and word not in makers and not begins_sentence else place


def _span(tokens: list[Task], first: int, last: int, label: str) -> Task:
    return {
        "start": tokens[first]["start"],
        "end": tokens[last]["end"],
        "token_start": first,
        "token_end": last,
        "label": label,
    }
