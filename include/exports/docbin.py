"""spaCy's ``DocBin`` files, label files and training configuration, in the layout of Prodigy's ``data-to-spacy``.

``train.spacy``, ``dev.spacy`` (and ``test.spacy``), ``labels/<component>.json``, ``config.cfg``. A part of more than
:data:`SHARD` rows is a folder of such files, which spaCy's ``Corpus`` reads as one, so memory does not grow with the
version. ``<part>.ids`` names the tasks of the documents, a line each, in their order.

What the annotators said becomes ``doc.ents`` (ner), ``doc.spans["sc"]`` (spans), ``doc.cats`` (textcat, choice) or
``doc.ents`` with ``doc._.rel`` (relations, in the shape of explosion/projects ``rel_component``: a dict of labels by
the first tokens of head and child).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from itertools import permutations
from typing import TYPE_CHECKING, Any

from include.base.errors import InvalidInput
from include.exports.output import Job, LeftOut
from include.exports.rows import accepted, labels_in, options_of, overlapping, text_of

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span

__all__ = ["SHARD", "SPAN_KEY", "component_of", "write"]

SHARD = 20_000
"""Rows in one file."""

SPAN_KEY = "sc"
"""The span group that spaCy's ``spancat`` reads by default."""

_RELATION = ("._.", "rel", None, None)
"""Where spaCy keeps the extension attribute ``doc._.rel``."""


def component_of(interface: str, multiple: bool) -> str:
    """Return the name of the spaCy component that learns an interface's answers.

    :param multiple: for ``choice``, whether more than one option may be picked.
    """
    if interface == "choice":
        return "textcat_multilabel" if multiple else "textcat"
    return {
        "textcat": "textcat_multilabel",
        "ner": "ner",
        "spans": "spancat",
        "relations": "ner",
    }[interface]


def write(job: Job) -> None:
    """Write the parts (``train`` where the version is not split), the label files and ``config.cfg``."""
    language = _language(job)
    component = component_of(job.interface, job.project.annotation.multiple)
    labels = job.labels(labels_in)
    maker = _Maker(job, labels, language)
    with ExitStack() as stack:
        bins = {part: _Bins(job, part or "train", maker.attributes, stack) for part in job.parts}
        for part, row in job.items():
            doc = job.made(maker.doc, row)
            if doc is not None:
                bins[part].add(doc, row["task_id"])
        for part, shards in bins.items():
            shards.close()
            job.took(part, shards.rows)
    _write_labels(job, component, labels)
    job.out.path("config.cfg").write_text(_config(job, language, component, bins), "utf-8")


class _Bins:
    """One part's documents, written whenever a shard is full."""

    def __init__(self, job: Job, name: str, attributes: tuple[str, ...], stack: ExitStack) -> None:
        self._out = job.out
        self._ids = stack.enter_context(job.out.path(f"{name}.ids").open("wb"))
        # Costs more than all the rest, so only where something is in it.
        self._user_data = job.interface == "relations"
        self._name = name
        self._attributes = attributes
        self._shards = 0
        self._bin = self._empty()
        self.rows = 0

    @property
    def place(self) -> str:
        """Return the file, or the folder, of the part."""
        return self._name if self._shards > 1 else f"{self._name}.spacy"

    def add(self, doc: Doc, task: str) -> None:
        self._bin.add(doc)
        self._ids.write(f"{task}\n".encode())
        self.rows += 1
        if len(self._bin) == SHARD:
            self._flush()

    def close(self) -> None:
        if len(self._bin) or not self._shards:
            self._flush()
        if self._shards == 1:
            self._out.rename(self._file(0), f"{self._name}.spacy")

    def _flush(self) -> None:
        self._out.path(self._file(self._shards), len(self._bin)).write_bytes(self._bin.to_bytes())
        self._shards += 1
        self._bin = self._empty()

    def _file(self, shard: int) -> str:
        return f"{self._name}/{shard:05}.spacy"

    def _empty(self) -> Any:
        from spacy.tokens import DocBin

        return DocBin(attrs=self._attributes, store_user_data=self._user_data)


class _Maker:
    """Turns rows into documents, and reports what does not fit."""

    def __init__(self, job: Job, labels: list[str], language: str) -> None:
        self._job = job
        self._labels = labels
        self._language = language
        self._made = 0
        self._nlp = blank(language, job.project.name)
        entities = job.interface in ("ner", "relations")
        self.attributes = ("ORTH", "ENT_IOB", "ENT_TYPE") if entities else ("ORTH",)

    def doc(self, row: Mapping[str, Any]) -> Doc:
        """Return a row's document.

        :raises LeftOut: when the row cannot be one.
        """
        text = text_of(row)
        if text is None:
            raise LeftOut("no_text")
        if self._job.interface != "textcat" and not accepted(row):
            raise LeftOut("rejected", "the answer says nothing of the labels")
        if row["value"]["answer"] not in ("accept", "reject"):
            raise LeftOut("ignored")
        doc = self._tokens(row, text)
        if doc is None:
            raise LeftOut("tokens_differ", "the task's tokens do not make up its text")
        return {
            "textcat": self._label,
            "choice": self._options,
            "ner": self._entities,
            "spans": self._groups,
            "relations": self._relations,
        }[self._job.interface](doc, row)

    def _tokens(self, row: Mapping[str, Any], text: str) -> Doc | None:
        """Return the text in the task's own tokens, or else in those of spaCy's blank language."""
        from spacy.tokens import Doc

        self._made += 1
        if self._made % SHARD == 0:  # the vocabulary keeps every word it has seen
            self._nlp = blank(self._language, self._job.project.name)
        tokens = row["shown"].get("tokens")
        if not tokens:
            return self._nlp.make_doc(text)
        words = [str(token["text"]) for token in tokens]
        doc = Doc(self._nlp.vocab, words=words, spaces=[bool(token.get("ws", True)) for token in tokens])
        if doc.text == text:
            return doc
        # Some tools say of the last token that a space follows.
        doc = Doc(self._nlp.vocab, words=words, spaces=[*(bool(token.get("ws", True)) for token in tokens[:-1]), False])
        return doc if doc.text == text else None

    def _label(self, doc: Doc, row: Mapping[str, Any]) -> Doc:
        doc.cats = {str(row["value"]["label"]): 1.0 if accepted(row) else 0.0}
        return doc

    def _options(self, doc: Doc, row: Mapping[str, Any]) -> Doc:
        picked = {str(option) for option in row["value"]["accept"]}
        if not picked and not self._job.project.annotation.multiple:
            raise LeftOut("no_option", "exactly one label is true in spaCy's textcat")
        shown = set(options_of(row)) or set(self._labels)
        doc.cats = {label: 1.0 if label in picked else 0.0 for label in self._labels if label in shown | picked}
        return doc

    def _entities(self, doc: Doc, row: Mapping[str, Any]) -> Doc:
        if overlapping(row["value"]["spans"]):
            raise LeftOut("overlapping_spans", "a token belongs to one entity")
        found, lost = self._aligned(doc, row)
        if not lost:
            doc.set_ents(found, default="outside")
            return doc
        taken = {token.i for span in found for token in span}
        # A token that such a span cuts is neither in an entity nor outside: training must not learn from it.
        cut = [
            doc[token.i : token.i + 1]
            for token in doc
            if token.i not in taken and any(token.idx < end and start < token.idx + len(token) for start, end in lost)
        ]
        doc.set_ents(found, missing=cut, default="outside")
        problem = _misaligned(lost)
        self._job.out.note(row["task_id"], problem.reason, problem.detail)
        return doc

    def _groups(self, doc: Doc, row: Mapping[str, Any]) -> Doc:
        found, lost = self._aligned(doc, row)
        if lost:  # nothing can be unknown here, so the row would teach that nothing is there
            raise _misaligned(lost)
        doc.spans[SPAN_KEY] = found
        return doc

    def _relations(self, doc: Doc, row: Mapping[str, Any]) -> Doc:
        if overlapping(row["value"]["spans"]):
            raise LeftOut("overlapping_spans", "a token belongs to one entity")
        found, lost = self._aligned(doc, row)
        if lost:  # nothing can be unknown here, so the row would teach that nothing is there
            raise _misaligned(lost)
        doc.set_ents(found, default="outside")
        heads = {(span.start_char, span.end_char): span.start for span in found}
        said: dict[tuple[int, int], set[str]] = {}
        for head_start, head_end, child_start, child_end, label in row["value"].get("relations", ()):
            head, child = heads.get((head_start, head_end)), heads.get((child_start, child_end))
            if head is None or child is None:
                raise LeftOut("relation_without_span", "head or child is not a marked span")
            said.setdefault((head, child), set()).add(str(label))
        names = sorted({label for labels in said.values() for label in labels})
        user_data: dict[Any, Any] = doc.user_data
        user_data[_RELATION] = {
            pair: {label: 1.0 if label in said.get(pair, ()) else 0.0 for label in names}
            for pair in permutations(sorted(heads.values()), 2)
        }
        return doc

    def _aligned(self, doc: Doc, row: Mapping[str, Any]) -> tuple[list[Span], list[tuple[int, int]]]:
        """Return the spans that begin and end with a token, and where the others are, in code points."""
        found, lost = [], []
        for start, end, label in sorted(map(tuple, row["value"]["spans"])):
            span = doc.char_span(start, end, label=str(label), alignment_mode="strict")
            if span is not None:
                found.append(span)
            else:
                lost.append((start, end))
        return found, lost


def _misaligned(lost: list[tuple[int, int]]) -> LeftOut:
    places = ", ".join(f"{start}-{end}" for start, end in lost)
    return LeftOut("misaligned_span", f"{places}: does not begin and end with a token")


def blank(language: str, project: str) -> Language:
    """Return spaCy's blank pipeline of a language.

    :raises InvalidInput: for a language that spaCy has no tokens for, or whose tokens need another package.
    """
    import spacy

    try:
        return spacy.blank(language)
    except ImportError as error:
        raise InvalidInput(
            f"{project}: release.language: found {language!r}; allowed: a language of spaCy whose packages are "
            "installed, such as en, de or xx"
        ) from error


def _language(job: Job) -> str:
    """Return the primary part of the project's language tag (``de`` of ``de-AT``)."""
    return job.project.release.language.split("-")[0].split("_")[0].lower()


def _write_labels(job: Job, component: str, labels: list[str]) -> None:
    job.out.write_json(f"labels/{component}.json", _entity_moves(labels) if component == "ner" else labels)
    if job.interface == "relations":
        found: set[str] = set()
        for row in job.rows():
            found.update(str(relation[4]) for relation in row["value"].get("relations", ()))
        job.out.write_json("labels/relation_extractor.json", job.relation_labels(found))


def _entity_moves(labels: list[str]) -> dict[str, dict[str, int]]:
    """Return labels as spaCy's entity recogniser takes them: by move (missing, begin, in, last, unit, out)."""
    marked = dict.fromkeys(labels, 1)
    return {"0": {}, "1": marked, "2": marked, "3": marked, "4": {**marked, "": 1}, "5": {"": 1}}


def _config(job: Job, language: str, component: str, bins: Mapping[str, _Bins]) -> str:
    """Return spaCy's default training configuration for a component, on these files (paths from this folder)."""
    from spacy.cli.init_config import init_config

    config = init_config(lang=language, pipeline=[component], optimize="efficiency", gpu=False)
    train, dev = bins.get("train") or bins.get(""), bins.get("dev")
    config["paths"]["train"] = train.place if train is not None else None
    config["paths"]["dev"] = dev.place if dev is not None else None
    config["initialize"]["components"] = {
        component: {"labels": {"@readers": "spacy.read_labels.v1", "path": f"labels/{component}.json"}}
    }
    return str(config.to_str()) + "\n"
