"""Answers for the tests of this folder."""

from __future__ import annotations

from functools import partial
from typing import Any

from include.agreement.breakdown import whole
from include.agreement.coefficients import Agreement
from include.agreement.given import Given
from include.agreement.statistics import Name, Weights
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


def agreement(name: Name, codes: Any, values: Any = None, weights: Weights = None) -> Agreement:
    return whole(name, codes, values, weights=weights).agreement


percent_agreement = partial(agreement, "percent_agreement")
cohen_kappa = partial(agreement, "cohen_kappa")
scott_pi = partial(agreement, "scott_pi")
fleiss_kappa = partial(agreement, "fleiss_kappa")
conger_kappa = partial(agreement, "conger_kappa")
krippendorff_alpha = partial(agreement, "krippendorff_alpha")
gwet_ac = partial(agreement, "gwet_ac")
brennan_prediger = partial(agreement, "brennan_prediger")
