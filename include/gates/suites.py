"""What each gate demands, as data. Nothing here imports Great Expectations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from include.base.errors import InvalidInput
from include.projects.model import Interface, Project

__all__ = ["SUITES", "Check", "Suite", "suite_for"]

Kind = Literal["not_null", "unique", "between", "length_between", "matches", "in_set", "row_count", "count_where"]
DIGEST = r"^[0-9a-f]{64}$"
INT32 = {"min_value": -(2**31), "max_value": 2**31 - 1}


@dataclass(frozen=True)
class Check:
    """One demand on a column.

    :param kind: which expectation: the value checks ignore missing values (``not_null`` is its own check);
        ``row_count`` and ``count_where`` look at the whole batch; the second and later rows of a value fail ``unique``.
    :param column: a key; ``a.b`` reaches into objects, ``a|b`` takes the first one that is there.
    :param args: ``min_value``/``max_value`` (inclusive), ``regex`` or ``value_set``.
    :param severity: ``critical``, or ``warning``, which never stops anything.
    :param on_failure: ``stop`` the item, ``set_aside`` the failing rows and go on, or only ``report``.
    :param where: ``(column, value)``: only rows with that value are looked at.
    """

    kind: Kind
    column: str
    description: str
    args: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["critical", "warning"] = "critical"
    on_failure: Literal["stop", "set_aside", "report"] = "stop"
    where: tuple[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.severity == "warning" and self.on_failure != "report":
            raise InvalidInput(f"check {self.description!r}: a warning can only `report`, found {self.on_failure!r}")

    @property
    def expected(self) -> str:
        """Return what is expected, in words."""
        low, high = self.args.get("min_value"), self.args.get("max_value")
        limits = " and ".join(
            f"at {word} {limit}" for word, limit in (("least", low), ("most", high)) if limit is not None
        )
        words = {
            "not_null": "a value",
            "unique": "no value twice",
            "between": f"a number, {limits}",
            "length_between": f"a text of {limits} characters",
            "matches": f"a text matching {self.args.get('regex')}",
            "in_set": f"{' or '.join(map(_told, self.args.get('value_set', ())))}",
            "row_count": f"rows: {limits}",
            "count_where": f"rows with this value: {limits}",
        }[self.kind]
        return words + (f" (where {self.where[0]} is {_told(self.where[1])})" if self.where else "")


def _told(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Suite:
    """A named list of checks. ``id_column`` names a row in results."""

    name: str
    checks: tuple[Check, ...]
    id_column: str = "row_id"


def suite_for(name: str, project: Project | None = None, parameters: Mapping[str, Any] | None = None) -> Suite:
    """Return a suite with the project's limits in it.

    :param parameters: limits that differ from the project's, by name (``max_page_kilobytes``, …).
    :raises InvalidInput: for an unknown suite or parameter, naming what is allowed.
    """
    if name not in SUITES:
        raise InvalidInput(f"suite: found {name!r}; allowed: {', '.join(sorted(SUITES))}")
    limits = _limits(project)
    unknown = sorted(set(parameters or {}) - set(limits))
    if unknown:
        raise InvalidInput(f"suite {name}: parameters: found {', '.join(unknown)}; allowed: {', '.join(limits)}")
    return SUITES[name](project, {**limits, **(parameters or {})})


def _limits(project: Project | None) -> dict[str, Any]:
    guideline = project.confluence.guideline if project else None
    return {
        "max_page_kilobytes": guideline.max_page_kilobytes if guideline else 512,
        "max_image_kilobytes": guideline.max_image_kilobytes if guideline else 4096,
        "max_record_kilobytes": project.source.max_record_kilobytes if project else 256,
        "max_report_kilobytes": 2048,
        "min_rows": 1,
    }


def _named(column: str = "row_id") -> tuple[Check, ...]:
    return (
        Check("not_null", column, "every row is named"),
        Check("unique", column, "no row is there twice"),
    )


def _most(column: str, description: str, most: int) -> Check:
    return Check("between", column, description, {"max_value": most})


def _warning(kind: Kind, column: str, description: str, args: Mapping[str, Any]) -> Check:
    return Check(kind, column, description, args, severity="warning", on_failure="report")


def _guideline_pages(project: Project | None, limits: Mapping[str, Any]) -> Suite:
    approved = ("approved", True)
    return Suite(
        "guideline_pages",
        (
            *_named(),
            Check("not_null", "title", "every page has a title"),
            Check("count_where", "approved", "at least one page is approved", {"min_value": 1}, where=approved),
            Check("in_set", "readable", "every page of the tree can be read", {"value_set": (True,)}),
            _warning("in_set", "approved", "every page of the tree is approved", {"value_set": (True,)}),
            Check("not_null", "sections_missing_count", "required sections were looked for"),
            _most("sections_missing_count", "every required section is there", 0),
            Check("between", "includes_missing", "every included text is there", {"max_value": 0}, where=approved),
            Check("between", "images_unresolved", "every image is there", {"max_value": 0}, where=approved),
            _most("html_kilobytes", "no page is too large", limits["max_page_kilobytes"]),
            _most("largest_image_kilobytes", "no image is too large", limits["max_image_kilobytes"]),
            Check("not_null", "text_characters", "every page was measured"),
            Check("between", "text_characters", "no published page is empty", {"min_value": 1}, where=approved),
            _warning("between", "unknown_macros", "every macro is known", {"max_value": 0}),
        ),
    )


_TOKENS = (("tokens", "tokens"),)
_NEEDED: dict[Interface, tuple[tuple[str, str], ...]] = {
    Interface.TEXTCAT: (("label", "label"),),
    Interface.CHOICE: (("options", "options"),),
    Interface.NER: _TOKENS,
    Interface.SPANS: _TOKENS,
    Interface.RELATIONS: _TOKENS,
    Interface.IMAGE: (("image", "image"), ("image_sha256", "digest")),
    Interface.AUDIO: (("audio|video", "recording"), ("audio_sha256|video_sha256", "digest")),
}
"""The columns that a task of each interface must have, and what is in them."""


def _raw_tasks(project: Project | None, limits: Mapping[str, Any]) -> Suite:
    name = "labelops.task_id"
    length = {"min_value": 1, "max_value": limits["max_record_kilobytes"] * 1024}
    bounded = "texts are neither empty nor too long"
    checks = [
        Check("row_count", "", "there is something to add", {"min_value": limits["min_rows"]}),
        Check("not_null", name, "every task has its id"),
        Check("matches", name, "a task id is a SHA-256", {"regex": DIGEST}),
        Check("unique", name, "no task is there twice", on_failure="set_aside"),
        Check("not_null", "text|image|audio|video|html", "every task shows something", on_failure="set_aside"),
        Check("length_between", "text", bounded, length, on_failure="set_aside"),
        Check("not_null", "labelops.sources", "every task knows its source"),
    ]
    for key in ("_input_hash", "_task_hash"):
        checks += [
            Check("not_null", key, f"every task has its {key}"),
            Check("between", key, f"{key} fits 32 bits", INT32),
        ]
    if project:
        annotation = project.annotation
        checks += [
            Check("not_null", "labelops.project", "every task names its project"),
            Check("in_set", "labelops.project", "tasks are of this project", {"value_set": (project.name,)}),
            Check("not_null", "_view_id", "every task names its interface"),
            Check("in_set", "_view_id", "tasks are for the project's interface", {"value_set": (project.view_id,)}),
        ]
        for column, what in _NEEDED[annotation.interface]:
            checks.append(Check("not_null", column, f"every task has its {what}"))
            if what == "digest":
                checks.append(Check("matches", column, "a file's digest is a SHA-256", {"regex": DIGEST}))
        if annotation.interface is Interface.TEXTCAT:
            checks.append(Check("in_set", "label", "the label is the project's", {"value_set": annotation.labels}))
    return Suite("raw_tasks", tuple(checks), id_column=name)


def _version_rows(name: str) -> Callable[[Project | None, Mapping[str, Any]], Suite]:
    def build(project: Project | None, limits: Mapping[str, Any]) -> Suite:
        verdicts = {"value_set": ("accept", "reject")}
        return Suite(
            name,
            (
                Check("row_count", "", "the version holds something", {"min_value": limits["min_rows"]}),
                Check("not_null", "task_id", "every row names its task"),
                Check("matches", "task_id", "a task id is a SHA-256", {"regex": DIGEST}),
                Check("unique", "task_id", "one label for each task"),
                Check("not_null", "value", "every row has a label"),
                Check("in_set", "value", "every label is an accepted or a rejected answer", verdicts),
                Check("not_null", "labels_unknown", "every row's labels were compared with the project's"),
                _most("labels_unknown", "every label is the project's", 0),
                Check("not_null", "persons", "every row says who labelled it"),
                Check("between", "persons", "every row was labelled by somebody", {"min_value": 1}),
            ),
            id_column="task_id",
        )

    return build


def _report(project: Project | None, limits: Mapping[str, Any]) -> Suite:
    return Suite(
        "report",
        (
            *_named(),
            Check("not_null", "digest", "every version has its digest"),
            Check("matches", "digest", "a digest is a SHA-256", {"regex": DIGEST}),
            Check("unique", "digest", "no version is listed twice"),
            Check("not_null", "state", "every version has a state"),
            Check("between", "rows", "no version is empty", {"min_value": 1}),
            _warning("between", "persons", "every version was labelled by somebody", {"min_value": 1}),
            _most("body_kilobytes", "the page is not too large", limits["max_report_kilobytes"]),
        ),
    )


SUITES: dict[str, Callable[[Project | None, Mapping[str, Any]], Suite]] = {
    "guideline_pages": _guideline_pages,
    "raw_tasks": _raw_tasks,
    "version_rows": _version_rows("version_rows"),
    "release_rows": _version_rows("release_rows"),
    "report": _report,
}
"""Every suite by name."""
