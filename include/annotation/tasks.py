"""Making tasks for an inbox, and naming them by what the annotator is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from include.annotation.hashes import set_hashes
from include.annotation.tokens import tokenize
from include.base.canonical import digest_of
from include.base.errors import InvalidInput
from include.projects.model import Interface, Project

__all__ = ["CONTENT_KEYS", "build_task", "shown", "task_id"]

CONTENT_KEYS = ("text", "image", "audio", "video", "html", "input")
"""The keys whose value the annotator sees as the thing to label."""

_OPTION_KEYS = ("id", "text", "html", "image")

_SIGNED = frozenset(
    {
        "x-amz-signature",
        "x-goog-signature",
        "x-amz-expires",
        "x-goog-expires",
        "signature",
        "sig",
        "expires",
        "token",
    }
)
"""Query parameters (lower case) of addresses that stop working after a while."""


def shown(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the annotator is shown and asked: the content, ``label``, and ``options`` in their order.

    Answers, spans, tokens, ``meta``, hashes and anything else that can change between serving and saving is left
    out, so a task and its answer show the same. Text is kept code point by code point: two texts that differ only
    in Unicode normalisation, case or white space are two tasks.

    :raises InvalidInput: when there is no content, or ``options`` has a shape that Prodigy cannot show.
    """
    found: dict[str, Any] = {key: task[key] for key in CONTENT_KEYS if task.get(key) is not None}
    if not found:
        raise InvalidInput(f"a task shows nothing: it has none of {', '.join(CONTENT_KEYS)}")
    if task.get("label") is not None:
        found["label"] = task["label"]
    if task.get("options") is not None:
        found["options"] = _shown_options(task["options"])
    return found


def _shown_options(options: Any) -> list[dict[str, Any]]:
    if not isinstance(options, (list, tuple)):
        raise InvalidInput(f"options: found {type(options).__name__}; allowed: a list of objects with an id")
    for place, option in enumerate(options):
        if not isinstance(option, Mapping) or option.get("id") is None:
            raise InvalidInput(f"options[{place}]: allowed: an object with an id and a text")
    return [{key: option[key] for key in _OPTION_KEYS if option.get(key) is not None} for option in options]


def task_id(project_name: str, task: Mapping[str, Any]) -> str:
    """Return the task's name: the SHA-256 over the project and the canonical form of what is :func:`shown`.

    :raises InvalidInput: when nothing is shown, or the content holds what has no canonical bytes: a fraction,
        or half of a surrogate pair.
    """
    content = shown(task)
    try:
        return digest_of([project_name, content])
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidInput(f"the content of a task of {project_name!r} has no canonical form: {error}") from error


def build_task(
    project: Project,
    *,
    content: Mapping[str, Any],
    meta: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    priority: int | None = None,
) -> dict[str, Any]:
    """Return the task that goes into a project's inbox.

    Options, label and tokens are added by the project's interface. Prodigy's hashes are computed on the content with
    its label or options alone, before ``meta``, tokens and ``labelops`` are added: so a changed provenance never
    makes an answered task look new.

    :param content: ``{"text": …}``, or ``{"image": reference}``, ``{"audio": reference}``; a media reference must
        keep working for as long as the answers are kept, and should name the bytes by their digest.
    :param meta: what Prodigy shows beside the task, such as the source.
    :param sources: the records the task was made from: ``{"file", "record", "sha256"}`` each.
    :param priority: higher is served first; left out when None.
    :raises InvalidInput: for content that cannot be shown in the project's interface.
    """
    _check_content(project, content)
    asked = {**content, **_question(project)}
    hashed = set_hashes(asked, overwrite=True)
    labelops: dict[str, Any] = {
        "task_id": task_id(project.name, asked),
        "project": project.name,
        "sources": [_source(project, source) for source in sources],
    }
    if priority is not None:
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise InvalidInput(f"{project.name}: priority: found {priority!r}; allowed: a whole number")
        labelops["priority"] = priority
    task = dict(asked)
    if project.annotation.interface is Interface.NER:
        task["tokens"] = tokenize(content["text"])
    task["meta"] = dict(meta)
    task["_input_hash"] = hashed["_input_hash"]
    task["_task_hash"] = hashed["_task_hash"]
    task["_view_id"] = project.view_id
    task["labelops"] = labelops
    return task


def _question(project: Project) -> dict[str, Any]:
    annotation = project.annotation
    if annotation.interface is Interface.TEXTCAT:
        return {"label": annotation.labels[0]}
    if annotation.interface is Interface.CHOICE:
        return {"options": [{"id": label, "text": label} for label in annotation.labels]}
    return {}


def _check_content(project: Project, content: Mapping[str, Any]) -> None:
    name = project.name
    foreign = sorted(str(key) for key in content if key not in CONTENT_KEYS)
    if foreign:
        raise InvalidInput(f"{name}: content: found {', '.join(foreign)}; allowed: {', '.join(CONTENT_KEYS)}")
    for key, value in content.items():
        if not isinstance(value, str) or not value.strip():
            kind = "an empty string" if isinstance(value, str) else type(value).__name__
            raise InvalidInput(f"{name}: content.{key}: found {kind}; allowed: a string that is not blank")
    if not content:
        raise InvalidInput(f"{name}: content: found nothing; allowed: {', '.join(CONTENT_KEYS)}")
    if project.annotation.interface is Interface.NER and "text" not in content:
        raise InvalidInput(f"{name}: content: found {', '.join(content)}; allowed for named entities: text")
    for key in ("image", "audio", "video"):
        if key in content:
            _refuse_expiring(name, key, content[key])


def _refuse_expiring(name: str, key: str, reference: str) -> None:
    if reference.startswith("data:"):
        return
    try:
        parameters = parse_qsl(urlsplit(reference).query, keep_blank_values=True)
    except ValueError as error:
        raise InvalidInput(f"{name}: content.{key}: not a usable reference ({error})") from error
    signed = sorted({found.lower() for found, _ in parameters} & _SIGNED)
    if signed:
        raise InvalidInput(
            f"{name}: content.{key}: the address is signed and will expire (it carries {', '.join(signed)}); "
            "allowed: a reference that keeps working"
        )


def _source(project: Project, source: Mapping[str, Any]) -> dict[str, Any]:
    missing = [key for key in ("file", "record", "sha256") if source.get(key) is None]
    if missing:
        raise InvalidInput(
            f"{project.name}: a source lacks {', '.join(missing)}; it has {', '.join(source) or 'nothing'}"
        )
    return dict(source)
