"""What is told about the annotation of one dataset version: agreement with its intervals, and the account.

Numbers are text of three digits, so that a summary can be kept, digested and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from include.agreement.accounting import Accounting
from include.base.errors import InvalidInput

__all__ = ["Part", "Quality", "Score", "score_name", "spelled"]

_NAMES = {
    "krippendorff_alpha": "Krippendorff's alpha (nominal)",
    "gwet_ac": "Gwet's AC1",
    "percent_agreement": "Percent agreement",
    "span_f1_exact": "Span F1 (exact)",
    "span_f1_partial": "Span F1 (partial)",
    "span_f1_type": "Span F1 (type only)",
    "span_f1_iou": "Region F1 (IoU ≥ 0.5)",
    "token_alpha": "Krippendorff's alpha (tokens)",
}


def score_name(name: str) -> str:
    """Return what a score is called on a page."""
    return _NAMES.get(name, name)


@dataclass(frozen=True)
class Score:
    """One number with its interval.

    :param name: ``krippendorff_alpha``, ``gwet_ac``, ``percent_agreement``, ``span_f1_exact``, …
    :param value: three digits after the point; None where it is not defined, and ``reason`` says why.
    :param low, high: the interval; None where there is none.
    :param units: units with at least two ratings, on which it rests.
    """

    name: str
    value: str | None
    low: str | None = None
    high: str | None = None
    units: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Part:
    """The scores of one label, or of one annotator against the others.

    :param ratings: how often the label was given, or how many ratings the annotator gave.
    """

    name: str
    ratings: int
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Quality:
    """What was measured of a version.

    :param classes: what a rating is, in words.
    :param mapping: what counts as a rating (``AnswerMapping.canonical()``).
    :param repeats: which of one annotator's answers to a unit counts.
    :param confidence: percent.
    :param ratings, unrated, repeated, earlier: what became of the answers, see ``units.Notes``.
    :param labels, persons: those with the most ratings; ``more_labels`` and ``more_persons`` are not listed.
    :param guidelines: the units by the guideline release their answers were given under (``several``: under different
        ones; ``unknown``: not said), where there is more than one.
    :param answers_by_day: day (UTC, ISO 8601) → answers, as far as they have a time.
    """

    version: str
    classes: str
    mapping: Mapping[str, str]
    repeats: str
    seed: int
    resamples: int
    confidence: int
    units: int
    ratings: int
    unrated: int
    repeated: int
    earlier: int
    scores: tuple[Score, ...]
    labels: tuple[Part, ...]
    more_labels: int
    persons: tuple[Part, ...]
    more_persons: int
    guidelines: tuple[Part, ...]
    answers_by_day: Mapping[str, int]
    accounting: Accounting

    def score(self, name: str) -> Score:
        """Return the score of that name over everything.

        :raises KeyError: where there is none.
        """
        for one in self.scores:
            if one.name == name:
                return one
        raise KeyError(name)

    def as_json(self) -> dict[str, Any]:
        """Return the summary as JSON, without fractions."""
        return {**asdict(self), "accounting": self.accounting.as_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Quality:
        """Return the summary that :meth:`as_json` wrote.

        :raises InvalidInput: when it is none.
        """
        try:
            return cls(
                **{
                    **value,
                    "scores": _scores(value["scores"]),
                    "labels": _parts(value["labels"]),
                    "persons": _parts(value["persons"]),
                    "guidelines": _parts(value["guidelines"]),
                    "accounting": Accounting.from_json(value["accounting"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise InvalidInput(f"quality of a version: not a summary ({type(error).__name__}: {error})") from error


def spelled(number: float | None) -> str | None:
    """Return a number with three digits after the point, None for None. Nothing is negative zero."""
    if number is None:
        return None
    text = f"{number:.3f}"
    return "0.000" if text == "-0.000" else text


def _scores(value: Any) -> tuple[Score, ...]:
    return tuple(Score(**one) for one in value)


def _parts(value: Any) -> tuple[Part, ...]:
    return tuple(Part(**{**one, "scores": _scores(one["scores"])}) for one in value)
