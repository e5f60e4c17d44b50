"""Answers for the tests of this folder."""

from __future__ import annotations

from typing import Any

from include.agreement.given import Given
from include.base.canonical import digest_of


def choice(*picked: str | int, answer: str = "accept") -> dict[str, Any]:
    value: dict[str, Any] = {"interface": "choice", "answer": answer}
    return {**value, "accept": list(picked)} if answer == "accept" else value


def binary(answer: str = "accept") -> dict[str, Any]:
    return {"interface": "textcat", "answer": answer, "label": "ad"}


def ner(*spans: tuple[int, int, str], answer: str = "accept") -> dict[str, Any]:
    value: dict[str, Any] = {"interface": "ner", "answer": answer}
    return {**value, "spans": [list(span) for span in spans]} if answer == "accept" else value


def given(unit: str, person: str, value: dict[str, Any], **more: Any) -> Given:
    return Given(unit, person, value, **{"row": digest_of([unit, person, value, str(more)]), **more})
