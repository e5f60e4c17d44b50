"""Reading a stored row as an answer: who said what about which task, in one canonical value.

Every underscore field of a row may be absent or null (old databases, ``db-in``), and the content may be stored as
text instead of bytes. What cannot be read is refused with the dataset, the example and the field in the message.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from include.annotation.marks import (
    Region,
    Relation,
    Segment,
    Span,
    image_size,
    label_of,
    regions_of,
    relations_of,
    segments_of,
    spans_of,
)
from include.annotation.served import Served
from include.annotation.tasks import CONTENT_KEYS, name_of, shown
from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import InvalidInput
from include.projects.model import Interface, Project
from include.systems.prodigy.content import annotator_of, parse_content, row_digest
from include.systems.prodigy.values import Row

__all__ = [
    "Answer",
    "AnswerReader",
    "AnswerValue",
    "read_answer",
]

DECISIONS = ("accept", "reject", "ignore")

_REMEMBERED = 1000
_NO_TEXT = frozenset(CONTENT_KEYS) - {"text"}
_BESIDE = (Interface.IMAGE,)
"""Interfaces whose answers show more than their task's id is made of."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class AnswerValue:
    """What an answer says, so that two answers say the same exactly when their values are equal.

    Picked options and marks count for ``accept`` only: with ``reject`` and ``ignore`` they are what happened to be on
    the screen, and stay in the stored row alone. ``accept`` without any option, or without any mark, is a value of its
    own ("none of them", "nothing to mark"), never a missing one.

    :param interface: how it was asked.
    :param answer: ``accept``, ``reject`` or ``ignore``.
    :param label: for ``textcat``, the label that was asked about.
    :param accepted: for ``choice``, the ids picked, sorted, numbers before strings.
    :param spans: for ``ner``, ``spans`` and ``relations``, (start, end, label) sorted; code points, the end exclusive.
        Those of ``ner`` do not overlap.
    :param regions: for ``image``, (label, shape, points); see :func:`include.annotation.marks.regions_of`.
    :param segments: for ``audio``, (start, end, label); see :func:`include.annotation.marks.segments_of`.
    :param relations: for ``relations``, (start and end of the head, start and end of the child, label), sorted.
    """

    interface: Interface
    answer: str
    label: str | None = None
    accepted: tuple[str | int, ...] = ()
    spans: tuple[Span, ...] = ()
    regions: tuple[Region, ...] = ()
    segments: tuple[Segment, ...] = ()
    relations: tuple[Relation, ...] = ()

    def canonical(self) -> dict[str, Any]:
        """Return the value as JSON without fractions: what is compared, counted and frozen."""
        value: dict[str, Any] = {"interface": str(self.interface), "answer": self.answer}
        if self.interface is Interface.TEXTCAT:
            value["label"] = self.label
        elif self.answer == "accept":
            value.update(self._marks())
        return value

    def _marks(self) -> dict[str, list[Any]]:
        if self.interface is Interface.CHOICE:
            return {"accept": list(self.accepted)}
        if self.interface is Interface.IMAGE:
            return {
                "regions": [[label, shape, [list(point) for point in points]] for label, shape, points in self.regions]
            }
        if self.interface is Interface.AUDIO:
            return {"segments": [list(segment) for segment in self.segments]}
        spans = [list(span) for span in self.spans]
        if self.interface is Interface.RELATIONS:
            return {"spans": spans, "relations": [list(relation) for relation in self.relations]}
        return {"spans": spans}


@dataclass(frozen=True)
class Answer:
    """One stored answer.

    :param row_digest: SHA-256 of the stored bytes, which shows later whether the row was changed.
    :param account: the annotator's name in Prodigy, or None for an unknown person.
    :param session: the session dataset it is linked to, or the one it names.
    :param time: when it was given, UTC, where the row says so.
    :param guideline: digest of the guideline release on the screen, None without a stamp.
    :param shown: what the annotator was shown; for an image also its ``width`` and ``height``, where the row has them.
    :param flagged: the annotator flagged it.
    :param stamped: the row carried our own task id, and it matched.
    """

    link_id: int
    example_id: int
    row_digest: str
    task_id: str
    value: AnswerValue
    account: str | None
    session: str | None
    time: datetime | None
    guideline: str | None
    guideline_number: int | None
    round: int
    view_id: str | None
    shown: dict[str, Any]
    labels_digest: str | None = None
    flagged: bool = False
    stamped: bool = False


def read_answer(row: Row, project: Project, *, dataset: str | None = None) -> Answer:
    """Return the answer that a row of a project's dataset holds.

    :param dataset: the dataset it was read from, where that is not the project's answers.
    :raises InvalidInput: naming dataset, example, field, what was found and what is allowed.
    """
    dataset = dataset or project.answers
    where = f"{dataset}, example {row.example_id}"
    content = row.content or _parse(row.raw, where)
    labelops = _object(content, "labelops", where) or {}
    if labelops.get("invalid"):
        # Our recipe keeps an answer that it cannot vouch for, and says why: it counts as no answer.
        raise InvalidInput(f"{where}: labelops.invalid: set aside when it was saved: {labelops['invalid']!r:.400}")
    served = Served.read(labelops, where)
    seen = _located(where, shown, content)
    return Answer(
        link_id=row.link_id,
        example_id=row.example_id,
        row_digest=row_digest(row.raw),
        task_id=_checked_task_id(seen, labelops, project, where),
        value=_value(content, project, where),
        account=_account(content, row.session, dataset, where),
        session=row.session or _text(content, "_session_id", where),
        time=_time(content, where),
        guideline=served.guideline,
        guideline_number=served.guideline_number,
        round=served.round,
        view_id=_text(content, "_view_id", where),
        shown=_with_size(seen, content, project, where),
        labels_digest=served.labels_digest,
        flagged=content.get("flagged") is True,
        stamped="task_id" in labelops,
    )


class AnswerReader:
    """Reads many rows of one dataset as :func:`read_answer` does, in about half the time or less.

    Options, stamps, accounts and values repeat from row to row: each is checked when it is first met. Whatever is out
    of the ordinary is left to :func:`read_answer`, and so is every refusal.

    :param dataset: the dataset that the rows are of, where that is not the project's answers.
    """

    def __init__(self, project: Project, *, dataset: str | None = None) -> None:
        self._project = project
        self._dataset = dataset or project.answers
        self._name = b"[" + canonical_json(project.name) + b","
        self._options: dict[bytes, tuple[list[dict[str, Any]], bytes]] = {}
        self._stamps: dict[bytes, Served] = {}
        self._values: dict[tuple[Any, ...], AnswerValue] = {}
        self._accounts: dict[tuple[Any, ...], str | None] = {}

    def read(self, row: Row) -> Answer:
        """Return the answer that a row holds.

        :raises InvalidInput: naming dataset, example, field, what was found and what is allowed.
        """
        try:
            found = self._read(row)
        except (TypeError, ValueError, KeyError, OverflowError, OSError, InvalidInput):
            found = None
        return read_answer(row, self._project, dataset=self._dataset) if found is None else found

    def _read(self, row: Row) -> Answer | None:
        """Return the answer in a row of the ordinary kind, None or an error for any other."""
        content = row.content
        labelops = content.get("labelops")
        labelops = {} if labelops is None else labelops
        if type(labelops) is not dict or labelops.get("invalid") or self._project.annotation.interface in _BESIDE:
            return None
        if not _NO_TEXT.isdisjoint(content):
            return None
        # The pieces are those of the canonical JSON of what `shown` gives.
        label, options, text = content.get("label"), content.get("options"), content.get("text")
        if type(text) is not str or (label is not None and type(label) is not str):
            return None
        seen: dict[str, Any] = {"text": text}
        pieces = []
        if label is not None:
            seen["label"] = label
            pieces.append(b'"label":' + orjson.dumps(label))
        options_key = b""
        if options is not None:
            # Marshalling tells 1, 1.0 and true apart, which are equal as keys.
            options_key = marshal.dumps(options, 2)
            known = self._options.get(options_key)
            if known is None:
                spelled = shown({"text": "", "options": options})["options"]
                known = spelled, b'"options":' + canonical_json(spelled)
                _remember(self._options, options_key, known)
            seen["options"] = known[0]
            pieces.append(known[1])
        pieces.append(b'"text":' + orjson.dumps(text))
        computed = sha256_hex(self._name + b"{" + b",".join(pieces) + b"}]")
        stamped = labelops.get("task_id")
        if stamped is not None and stamped != computed:
            return None
        stamp_key = marshal.dumps(labelops.get("served"), 2)
        served = self._stamps.get(stamp_key)
        if served is None:
            served = Served.read(labelops, "")
            _remember(self._stamps, stamp_key, served)
        annotator, named, view_id = content.get("_annotator_id"), content.get("_session_id"), content.get("_view_id")
        for name in (annotator, named, view_id):
            if name is not None and type(name) is not str:
                return None
        who = (annotator, row.session, named, content.get("versions") is None)
        if who in self._accounts:
            account = self._accounts[who]
        else:
            account = _account(content, row.session, self._dataset, "")
            _remember(self._accounts, who, account)
        time = content.get("_timestamp")
        if time is not None and type(time) is not int and type(time) is not float:
            return None
        answer = Answer.__new__(Answer)
        # A frozen dataclass sets its fields one by one, which takes longer than all of the above.
        answer.__dict__.update(
            link_id=row.link_id,
            example_id=row.example_id,
            row_digest=sha256_hex(row.raw),
            task_id=computed,
            value=self._value(content, options_key),
            account=account,
            session=row.session or named or None,
            time=None if time is None else datetime.fromtimestamp(time, UTC),
            guideline=served.guideline,
            guideline_number=served.guideline_number,
            round=served.round,
            view_id=view_id or None,
            shown=seen,
            labels_digest=served.labels_digest,
            flagged=content.get("flagged") is True,
            stamped="task_id" in labelops,
        )
        return answer

    def _value(self, content: Mapping[str, Any], options_key: bytes) -> AnswerValue:
        interface = self._project.annotation.interface
        if interface is Interface.CHOICE:
            picked: Any = marshal.dumps(content.get("accept"), 2)
        elif interface is Interface.TEXTCAT:
            picked = content.get("label")
        else:
            return _value(content, self._project, "")
        key = (content.get("answer"), options_key, picked)
        value = self._values.get(key)
        if value is None:
            value = _value(content, self._project, "")
            _remember(self._values, key, value)
        return value


def _remember(memory: dict[Any, Any], key: Any, value: Any) -> None:
    if len(memory) >= _REMEMBERED:
        memory.clear()
    memory[key] = value


def _parse(raw: bytes, where: str) -> dict[str, Any]:
    return _located(where, parse_content, raw)


def _located(where: str, read: Any, value: Any) -> Any:
    try:
        return read(value)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from error


def _checked_task_id(seen: Mapping[str, Any], labelops: Mapping[str, Any], project: Project, where: str) -> str:
    computed = _located(where, lambda content: name_of(project.name, content), seen)
    stamped = labelops.get("task_id")
    if stamped is None:
        return computed
    if not isinstance(stamped, str) or not _DIGEST.match(stamped):
        raise InvalidInput(f"{where}: labelops.task_id: found {stamped!r:.80}; allowed: a SHA-256 in hex")
    if stamped != computed:
        raise InvalidInput(
            f"{where}: labelops.task_id: found {stamped}, but what the row shows has the id {computed}: the content "
            "was changed after the task was made, or the row belongs to another project"
        )
    return computed


def _account(content: Mapping[str, Any], linked: str | None, dataset: str, where: str) -> str | None:
    annotator = _text(content, "_annotator_id", where)
    named = _text(content, "_session_id", where)
    return annotator_of(annotator, linked, named, dataset, review=content.get("versions") is not None)


def _time(content: Mapping[str, Any], where: str) -> datetime | None:
    found = content.get("_timestamp")
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise InvalidInput(f"{where}: _timestamp: found {found!r:.60}; allowed: seconds since 1970, or null")
    try:
        return datetime.fromtimestamp(found, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidInput(f"{where}: _timestamp: found {found!r}; allowed: seconds since 1970, or null") from error


def _value(content: Mapping[str, Any], project: Project, where: str) -> AnswerValue:
    answer = content.get("answer")
    if answer not in DECISIONS:
        raise InvalidInput(f"{where}: answer: found {answer!r:.60}; allowed: {', '.join(DECISIONS)}")
    annotation = project.annotation
    interface = annotation.interface
    if interface is Interface.TEXTCAT:
        return AnswerValue(interface, answer, label=label_of(content.get("label"), f"{where}: label"))
    if interface is Interface.CHOICE:
        accepted = _accepted(content, project, where)
        return AnswerValue(interface, answer, accepted=accepted if answer == "accept" else ())
    if interface is Interface.NER:
        spans = spans_of(content, where)
        return AnswerValue(interface, answer, spans=spans if answer == "accept" else ())
    if answer != "accept":
        return AnswerValue(interface, answer)
    labels = annotation.labels
    if interface is Interface.IMAGE:
        return AnswerValue(interface, answer, regions=regions_of(content, where, labels=labels))
    if interface is Interface.AUDIO:
        return AnswerValue(interface, answer, segments=segments_of(content, where, labels=labels))
    spans = spans_of(content, where, overlap=True, labels=labels)
    if interface is Interface.SPANS:
        return AnswerValue(interface, answer, spans=spans)
    relations = relations_of(content, spans, where, labels=annotation.relation_labels)
    return AnswerValue(interface, answer, spans=spans, relations=relations)


def _with_size(seen: dict[str, Any], content: Mapping[str, Any], project: Project, where: str) -> dict[str, Any]:
    if project.annotation.interface is not Interface.IMAGE:
        return seen
    size = image_size(content, where)
    return seen if size is None else {**seen, "width": size[0], "height": size[1]}


def _accepted(content: Mapping[str, Any], project: Project, where: str) -> tuple[str | int, ...]:
    if content.get("options") is None:
        raise InvalidInput(f"{where}: options: found none; allowed: the list of options that was shown")
    known: list[str | int] = [option["id"] for option in content["options"]]
    for n, option in enumerate(known):
        if type(option) is not str and type(option) is not int:
            _option_id(option, f"{where}: options[{n}].id")
    if len(set(known)) != len(known):
        raise InvalidInput(f"{where}: options: an id is there twice, so the answer can mean either")
    found = content.get("accept")
    if found is None:
        return ()
    if not isinstance(found, list):
        raise InvalidInput(f"{where}: accept: found {type(found).__name__}; allowed: a list of option ids")
    picked: list[str | int] = found
    for place, value in enumerate(found):
        if type(value) is not str and type(value) is not int:
            _option_id(value, f"{where}: accept[{place}]")
    strange = [value for value in picked if value not in known]
    if strange:
        raise InvalidInput(f"{where}: accept: found {strange[0]!r:.60}; allowed: {', '.join(map(repr, known))}")
    if len(set(picked)) != len(picked):
        raise InvalidInput(f"{where}: accept: an id is there twice; allowed: each once")
    if len(picked) > 1 and not project.annotation.multiple:
        raise InvalidInput(
            f"{where}: accept: found {len(picked)} ids; allowed: one, as the project says multiple: false"
        )
    if len(picked) < 2:
        return tuple(picked)
    return tuple(sorted(picked, key=lambda value: (isinstance(value, str), value)))


def _option_id(found: Any, field: str) -> str | int:
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise InvalidInput(f"{field}: found {found!r:.60}; allowed: a string or a whole number")
    return found


def _object(content: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any] | None:
    found = content.get(key)
    if found is not None and not isinstance(found, Mapping):
        raise InvalidInput(f"{where}: {key}: found {type(found).__name__}; allowed: an object")
    return found


def _text(content: Mapping[str, Any], key: str, where: str) -> str | None:
    found = content.get(key)
    if found is not None and not isinstance(found, str):
        raise InvalidInput(f"{where}: {key}: found {found!r:.60}; allowed: a string, or null")
    return found or None
