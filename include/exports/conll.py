"""CoNLL-2003 with IOB2 tags: four columns (token, part of speech, chunk, entity), one token a line, UTF-8.

A document begins with ``-DOCSTART- -X- -X- O`` and is one sentence, as nobody marked sentences. Part of speech and
chunk are ``-X-``. A tag is ``B-<label>`` on a span's first token, ``I-<label>`` on its others, else ``O`` (Tjong Kim
Sang and De Meulder 2003, with IOB2 tags as distributed since). Tokens are the task's own, or else the ones that tasks
are made with here, so the annotators' spans begin and end where tokens do.

Columns are separated by white space, so a token of white space alone has no line, and white space within a token is
``_``. ``<part>.ids`` names the task of each document, a line each.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from include.annotation.tokens import tokenize
from include.base.errors import InvalidInput
from include.exports.output import Job, LeftOut
from include.exports.rows import accepted, overlapping, text_of

__all__ = ["write"]

_BEGIN = "-DOCSTART- -X- -X- O\n\n"


def write(job: Job) -> None:
    """Write ``<part>.conll``, ``<part>.ids`` and ``labels.txt``."""
    names = {part: f"{part or 'data'}.conll" for part in job.parts}
    labels = job.labels(lambda row: [str(label) for _, _, label in row["value"].get("spans", ())])
    for label in labels:
        if any(map(str.isspace, label)):
            raise InvalidInput(f"label {label!r}: holds white space, which separates the columns of CoNLL-2003")
    job.out.path("labels.txt").write_text("".join(f"{label}\n" for label in labels), "utf-8")
    counts = dict.fromkeys(job.parts, 0)
    with ExitStack() as stack:
        files = {part: stack.enter_context(job.out.path(name).open("wb")) for part, name in names.items()}
        ids = {part: stack.enter_context(job.out.path(f"{part or 'data'}.ids").open("wb")) for part in job.parts}
        for part, row in job.items():
            lines = job.made(partial(_lines, job), row)
            if lines is not None:
                files[part].write((_BEGIN + "".join(lines) + "\n").encode("utf-8"))
                ids[part].write(f"{row['task_id']}\n".encode())
                counts[part] += 1
    for part, name in names.items():
        job.out.set_rows(name, counts[part])
        job.took(part, counts[part])


def _lines(job: Job, row: Mapping[str, Any]) -> list[str]:
    """Return the lines of one document."""
    text = text_of(row)
    if text is None:
        raise LeftOut("no_text")
    if not accepted(row):
        raise LeftOut("rejected", "the answer says nothing of the text's spans")
    spans = [(int(start), int(end), str(label)) for start, end, label in row["value"]["spans"]]
    if overlapping(spans):
        raise LeftOut("overlapping_spans", "a token has one tag")
    tokens = row["shown"].get("tokens") or tokenize(text)
    tags = _tags(tokens, spans)
    lines, inside = [], ""
    for token, tag in zip(tokens, tags, strict=True):
        word = str(token["text"])
        if word.isspace():
            # The span goes on behind it, or begins there.
            inside = tag if tag.startswith("B-") else inside
            continue
        if inside and tag == f"I-{inside[2:]}":
            tag = inside
        inside = ""
        word = "".join("_" if character.isspace() else character for character in word)
        if word == "-DOCSTART-":
            raise LeftOut("document_mark", "a token is -DOCSTART-, which begins a document")
        lines.append(f"{word} -X- -X- {tag}\n")
    if not lines:
        raise LeftOut("no_token")
    for start, end, _ in spans:
        if text[start:end].isspace():
            job.out.note(row["task_id"], "white_space_span", f"{start}-{end} has no token with a line")
    return lines


def _tags(tokens: list[dict[str, Any]], spans: list[tuple[int, int, str]]) -> list[str]:
    """Return a tag for each token."""
    starts = {int(token["start"]): place for place, token in enumerate(tokens)}
    ends = {int(token["end"]): place for place, token in enumerate(tokens)}
    tags = ["O"] * len(tokens)
    for start, end, label in spans:
        if start not in starts or end not in ends:
            raise LeftOut("misaligned_span", f"{start}-{end} does not begin and end with a token")
        first, last = starts[start], ends[end]
        tags[first : last + 1] = [f"B-{label}"] + [f"I-{label}"] * (last - first)
    return tags
