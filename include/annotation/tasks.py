"""Making tasks for an inbox, and naming them by what the annotator is shown."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

import orjson

from include.annotation.tokens import tokenize
from include.base.canonical import digest_of, sha256_hex
from include.base.errors import InvalidInput
from include.projects.model import Interface, Project
from include.systems.prodigy.hashes import set_hashes

__all__ = ["CONTENT_KEYS", "MEDIA_KEYS", "build_task", "name_of", "shown", "task_id"]

CONTENT_KEYS = ("text", "image", "audio", "video", "html", "input")
"""The keys whose value the annotator sees as the thing to label."""

MEDIA_KEYS = ("image", "audio", "video")
"""Those of them that hold a reference to a file, or the file itself as a ``data:`` address."""

_TOKENISED = (Interface.NER, Interface.SPANS, Interface.RELATIONS)

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")

_OPTION_KEYS = ("id", "text", "html", "image")
_OPTION_SET = frozenset(_OPTION_KEYS)

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

_BESIDE_SIGNED = frozenset(
    (
        *("awsaccesskeyid", "googleaccessid", "key-pair-id", "policy"),
        *("se", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "st", "sv", "sip"),
    )
)
"""What else stands in such addresses, beside the signature, in those of Amazon, Google and Azure."""


def shown(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the annotator is shown and asked: the content, ``label``, and ``options`` in their order.

    Answers, spans, tokens, ``meta``, hashes and anything else that can change between serving and saving is left
    out, so a task and its answer show the same. Text is kept code point by code point: two texts that differ only
    in Unicode normalisation, case or white space are two tasks.

    A file comes with the SHA-256 of its bytes as ``image_sha256``, ``audio_sha256`` or ``video_sha256``, where the task
    has it. One that the task holds as a ``data:`` address is not repeated: it is shown as ``sha256:<digest>``. What
    signs an address, and makes it expire, is left out: foreign rows may hold such, :func:`build_task` refuses it.

    :raises InvalidInput: when there is no content, or ``options`` has a shape that Prodigy cannot show, or a file's
        digest is none, or is not that of the bytes.
    """
    found: dict[str, Any] = {key: task[key] for key in CONTENT_KEYS if task.get(key) is not None}
    if not found:
        raise InvalidInput(f"a task shows nothing: it has none of {', '.join(CONTENT_KEYS)}")
    if len(found) > 1 or "text" not in found:
        for key in MEDIA_KEYS:
            if key in found:
                found.update(_shown_media(key, found[key], task.get(f"{key}_sha256")))
    if task.get("label") is not None:
        found["label"] = task["label"]
    if task.get("options") is not None:
        found["options"] = _shown_options(task["options"])
    return found


def _shown_media(key: str, reference: Any, digest: Any) -> dict[str, Any]:
    name = f"{key}_sha256"
    if digest is not None and not (isinstance(digest, str) and _DIGEST.match(digest)):
        raise InvalidInput(f"{name}: found {digest!r:.80}; allowed: a SHA-256 in hex")
    if not isinstance(reference, str) or not reference.startswith("data:"):
        kept = _unsigned(reference) if isinstance(reference, str) and "?" in reference else reference
        return {key: kept} if digest is None else {key: kept, name: digest}
    found = sha256_hex(_data_bytes(key, reference))
    if digest is not None and digest != found:
        raise InvalidInput(f"{name}: found {digest}, but the bytes in {key} have the SHA-256 {found}")
    return {key: f"sha256:{found}", name: found}


def _unsigned(reference: str) -> str:
    """Return an address without the parameters that sign it; one that is not signed as it is."""
    try:
        if not _signing(reference):
            return reference
        parts = urlsplit(reference)
    except ValueError:
        return reference
    kept = [
        piece
        for piece in parts.query.split("&")
        if not (name := piece.partition("=")[0].lower()).startswith(("x-amz-", "x-goog-"))
        and name not in _SIGNED
        and name not in _BESIDE_SIGNED
    ]
    return parts._replace(query="&".join(kept)).geturl()


def _signing(reference: str) -> list[str]:
    """Return the parameters of an address that say that it is signed or expires."""
    parameters = parse_qsl(urlsplit(reference).query, keep_blank_values=True)
    return sorted({found.lower() for found, _ in parameters} & _SIGNED)


def _data_bytes(key: str, address: str) -> bytes:
    """Return the bytes that a ``data:`` address (RFC 2397) holds."""
    kind, comma, body = address.partition(",")
    try:
        if not comma:
            raise ValueError("no comma")
        return base64.b64decode(body, validate=True) if kind.endswith(";base64") else unquote_to_bytes(body)
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(f"{key}: not a usable data: address ({error})") from None


def _shown_options(options: Any) -> list[dict[str, Any]]:
    if not isinstance(options, (list, tuple)):
        raise InvalidInput(f"options: found {type(options).__name__}; allowed: a list of objects with an id")
    for place, option in enumerate(options):
        if not (type(option) is dict or isinstance(option, Mapping)) or option.get("id") is None:
            raise InvalidInput(f"options[{place}]: allowed: an object with an id and a text")
    return [
        option
        if type(option) is dict and _OPTION_SET.issuperset(option) and None not in option.values()
        else {key: option[key] for key in _OPTION_KEYS if option.get(key) is not None}
        for option in options
    ]


def task_id(project_name: str, task: Mapping[str, Any]) -> str:
    """Return the task's name: the SHA-256 over the project and the canonical form of what is :func:`shown`.

    :raises InvalidInput: when nothing is shown, or the content holds what has no canonical bytes: a fraction,
        or half of a surrogate pair.
    """
    return name_of(project_name, shown(task))


def name_of(project_name: str, content: Mapping[str, Any]) -> str:
    """Return the name of the task of a project that shows ``content``; see :func:`task_id`."""
    if _is_plain(content):
        try:
            return sha256_hex(orjson.dumps([project_name, content], option=orjson.OPT_SORT_KEYS))
        except orjson.JSONEncodeError:
            pass
    try:
        return digest_of([project_name, content])
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidInput(f"the content of a task of {project_name!r} has no canonical form: {error}") from error


def _is_plain(content: Mapping[str, Any]) -> bool:
    """Tell whether content has the shape of nearly all tasks, whose canonical JSON orjson writes: no fractions."""
    for value in content.values():
        if type(value) is list:
            for option in value:
                if type(option) is not dict:
                    return False
                for one in option.values():
                    if type(one) is not str and type(one) is not int:
                        return False
        elif type(value) is not str:
            return False
    return type(content) is dict


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

    :param content: ``{"text": …}``, or ``{"image": reference, "image_sha256": digest}``, the same with ``audio`` and
        ``video``. A reference must keep working for as long as the answers are kept; a project of the interface
        ``image`` or ``audio`` needs the digest of the file's bytes too, which of a ``data:`` address is worked out.
    :param meta: what Prodigy shows beside the task, such as the source.
    :param sources: the records the task was made from: ``{"file", "record", "sha256"}`` each.
    :param priority: higher is served first; left out when None.
    :raises InvalidInput: for content that cannot be shown in the project's interface.
    """
    _check_content(project, content)
    asked = {**content, **_question(project)}
    seen = _located(project.name, asked)
    # The digest of a data: address, which was not given.
    asked.update((key, value) for key, value in seen.items() if key not in asked)
    hashed = set_hashes(seen, overwrite=True)
    labelops: dict[str, Any] = {
        "task_id": name_of(project.name, seen),
        "project": project.name,
        "sources": [_source(project, source) for source in sources],
    }
    if priority is not None:
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise InvalidInput(f"{project.name}: priority: found {priority!r}; allowed: a whole number")
        labelops["priority"] = priority
    task = dict(asked)
    if project.annotation.interface in _TOKENISED:
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


def _located(name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return shown(task)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: content.{error}") from error


def _check_content(project: Project, content: Mapping[str, Any]) -> None:
    name = project.name
    digests = {f"{key}_sha256" for key in MEDIA_KEYS if key in content}
    foreign = sorted(str(key) for key in content if key not in CONTENT_KEYS and key not in digests)
    if foreign:
        raise InvalidInput(f"{name}: content: found {', '.join(foreign)}; allowed: {', '.join(CONTENT_KEYS)}")
    for key, value in content.items():
        if not isinstance(value, str) or not value.strip():
            kind = "an empty string" if isinstance(value, str) else type(value).__name__
            raise InvalidInput(f"{name}: content.{key}: found {kind}; allowed: a string that is not blank")
    if not content:
        raise InvalidInput(f"{name}: content: found nothing; allowed: {', '.join(CONTENT_KEYS)}")
    _check_fits(project, content)
    for key in MEDIA_KEYS:
        if key in content:
            _refuse_expiring(name, key, content[key])


_NEEDED: dict[Interface, tuple[str, tuple[str, ...]]] = {
    Interface.NER: ("named entities", ("text",)),
    Interface.SPANS: ("spans", ("text",)),
    Interface.RELATIONS: ("relations", ("text",)),
    Interface.IMAGE: ("regions of an image", ("image",)),
    Interface.AUDIO: ("segments of a recording", ("audio", "video")),
}


def _check_fits(project: Project, content: Mapping[str, Any]) -> None:
    needed = _NEEDED.get(project.annotation.interface)
    if needed is None:
        return
    what, keys = needed
    there = [key for key in keys if key in content]
    if len(there) != 1:
        raise InvalidInput(
            f"{project.name}: content: found {', '.join(content)}; allowed for {what}: {' or '.join(keys)}"
        )
    for key in there:
        if key in MEDIA_KEYS and f"{key}_sha256" not in content and not content[key].startswith("data:"):
            raise InvalidInput(
                f"{project.name}: content.{key}_sha256: found nothing; allowed: the SHA-256 of the file's bytes, "
                "by which a file that was exchanged behind its address is noticed"
            )


def _refuse_expiring(name: str, key: str, reference: str) -> None:
    if reference.startswith("data:"):
        return
    try:
        signed = _signing(reference)
    except ValueError as error:
        # What urlsplit says repeats the address.
        raise InvalidInput(f"{name}: content.{key}: not an address; allowed: a reference that keeps working") from error
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
