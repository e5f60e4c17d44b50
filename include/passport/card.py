"""The dataset card: front matter that the Hugging Face hub reads, and sections for people, made of facts alone.

Vocabulary of the front matter: the dataset card specification of the Hugging Face hub. A section without a fact is
left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from include.datasets.manifest import Manifest
from include.passport.facts import ATTESTATION, UNSIGNED, DataFile, Facts, limitations

__all__ = ["dataset_card"]

_TASKS = {
    "textcat": "text-classification",
    "choice": "text-classification",
    "ner": "token-classification",
    "spans": "token-classification",
    "relations": "token-classification",
    "image": "object-detection",
    "audio": "audio-classification",
}
"""The hub's category by the project's interface."""

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)


def dataset_card(facts: Facts) -> str:
    """Return the card as Markdown."""
    title = f"{_plain_text(facts.project.title)}, version {facts.number}"
    parts = [
        f"---\n{yaml.safe_dump(_front(facts), sort_keys=False, allow_unicode=True)}---",
        f"# {title}",
        f"Dataset version `{facts.digest}` of the labelling project `{facts.project.name}`.",
    ]
    if facts.card.description:
        parts.append(_plain_text(facts.card.description))
    parts += [f"## {name}\n\n" + "\n".join(lines) for name, lines in _sections(facts) if lines]
    return "\n\n".join(parts) + "\n"


def _front(facts: Facts) -> dict[str, Any]:
    project, manifest = facts.project, facts.manifest
    front: dict[str, Any] = {
        "pretty_name": f"{project.title}, version {facts.number}",
        "license": project.release.licence,
        "language": [project.release.language],
        # The hub's word for people known by name, as opposed to a crowd.
        "annotations_creators": ["expert-generated"] if manifest.persons or manifest.adjudicators else [],
        "source_datasets": list(facts.card.source_datasets),
        "task_categories": [_TASKS[manifest.interface]] if manifest.interface in _TASKS else [],
        "size_categories": [_size_category(manifest.counts.rows)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": paths[0] if len(paths) == 1 else paths}
                    for split, paths in facts.data_paths()
                ],
            }
        ],
    }
    return {name: value for name, value in front.items() if value not in ([], None)}


def _sections(facts: Facts) -> Iterable[tuple[str, list[str]]]:
    card, manifest = facts.card, facts.manifest
    yield "Contents", _contents(facts)
    yield "Uses", _statements(card.use_cases)
    yield "Collection", [_plain_text(card.collection)] if card.collection else []
    yield "Annotation process", _process(manifest)
    yield "Agreement", _agreement(facts)
    yield "Who are the annotators", _people(facts)
    yield "Guideline", _guideline(facts)
    yield "Quality gates", _gates(facts)
    yield "Approvals", _approvals(manifest, facts.approvals)
    yield "Personal and Sensitive Information", _statements(card.sensitive_information)
    yield "Biases", _statements(card.biases)
    yield "Limitations", _statements([*limitations(facts), *card.limitations])
    yield "Maintenance", [_plain_text(card.maintenance)] if card.maintenance else []
    yield "Citation", _citation(card.citation)
    yield "Proof", _proof(facts)


def _contents(facts: Facts) -> list[str]:
    manifest = facts.manifest
    return [
        f"- {manifest.counts.rows} rows",
        "- answers: " + ", ".join(f"{count} {name}" for name, count in manifest.answers.items()),
        "",
        "| file | format | split | rows |",
        "|---|---|---|---|",
        *(_file_row(one) for one in facts.files),
        "",
        "| label | given |",
        "|---|---|",
        *(f"| {_cell(label)} | {count} |" for label, count in manifest.labels.items()),
    ]


def _file_row(file: DataFile) -> str:
    return f"| `{file.name}` | {file.format} | {file.split or '-'} | {'-' if file.rows is None else file.rows} |"


def _process(manifest: Manifest) -> list[str]:
    counts = manifest.counts
    return [
        f"- {manifest.rule.answers_per_task} answer(s) per task were asked for, interface `{manifest.interface}`",
        f"- rule `{manifest.rule.name}`: {manifest.rule.text}",
        f"- {counts.answers} answers to {counts.tasks} tasks: {counts.counted} count, {counts.losing} do not"
        + _reasons(manifest.losing_reasons),
        f"- on {counts.unanimous} rows everybody gave the value that counts, on {counts.split} somebody "
        f"did not, {counts.decided} rows were decided by a review or a final decision",
        f"- answered between {manifest.first_answer_at or 'unknown'} and {manifest.last_answer_at or 'unknown'}",
        *([f"- rests on version `{manifest.base.digest}`: {manifest.base.told}"] if manifest.base else []),
        f"- batch `{manifest.batch}`"
        + (
            f", closed by {manifest.closed_by.person}: {_plain_text(manifest.closed_by.reason)}"
            if manifest.closed_by
            else ""
        ),
    ]


def _agreement(facts: Facts) -> list[str]:
    agreement = facts.context.agreement
    if agreement is None or not agreement.coefficients:
        return []
    return [
        f"| coefficient | value | interval{f' ({_cell(agreement.level)})' if agreement.level else ''} | computed on |",
        "|---|---|---|---|",
        *(
            f"| {_cell(one.name)} | {one.value} | "
            f"{f'{one.low} to {one.high}' if one.low is not None else '-'} | {_cell(one.detail or '-')} |"
            for one in agreement.coefficients
        ),
        *([f"\nIntervals: {_plain_text(agreement.method)}."] if agreement.method else []),
    ]


def _people(facts: Facts) -> list[str]:
    manifest = facts.manifest
    lines = ["Nobody answered; every label was decided."]
    if manifest.persons:
        lines = [
            f"{len(manifest.persons)} persons, named by their id in the register `{manifest.register_digest}`:",
            "",
            "| person | answers that count | others |",
            "|---|---|---|",
            *(f"| {_cell(share.id)} | {share.counted} | {share.losing} |" for share in manifest.persons),
            *([f"\nDisputes were decided by {', '.join(manifest.adjudicators)}."] if manifest.adjudicators else []),
        ]
    demographics = _statements(facts.card.demographics)
    return [*lines, *(["", *demographics] if demographics else [])]


def _guideline(facts: Facts) -> list[str]:
    lines = []
    known = {one.digest: one for one in facts.context.guidelines}
    for share in facts.manifest.guidelines:
        name = (
            "an unknown release" if share.digest == "unknown" else f"release {share.number or '?'} (`{share.digest}`)"
        )
        release = known.get(share.digest)
        told = f", published {release.published_at} with {release.pages} page(s)" if release else ""
        lines.append(
            f"- {share.counted + share.losing} answers were given under {name}{told}; {share.counted} of them count"
        )
    return lines or ["No answer says under which guideline it was given."]


def _gates(facts: Facts) -> list[str]:
    lines = []
    for gate in facts.context.gates:
        failed = [one.name for one in gate.checks if not one.passed]
        told = "all met" if not failed else f"{len(failed)} with remarks: {_plain_text('; '.join(failed))}"
        looked = f" on {gate.rows} rows: {len(gate.checks)} checks, {told}" if gate.rows is not None else ""
        lines.append(f"- `{gate.suite}` passed{looked}")
    return lines


def _approvals(manifest: Manifest, approvals: Iterable[Mapping[str, Any]]) -> list[str]:
    columns = ("role", "person", "outcome", "meaning", "grade", "signature", "decided_at")
    rows = ["| " + " | ".join(_cell(one.get(key)) for key in columns) + " |" for one in approvals]
    if not rows:
        return [f"None is recorded here. Policy `{manifest.policy_digest}`."]
    return [
        f"Under policy `{manifest.policy_digest}`:",
        "",
        "| role | person | outcome | meaning | evidence | signature | at |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


def _citation(text: str | None) -> list[str]:
    if text is None:
        return []
    # Indented: code to Markdown, so BibTeX keeps its lines and nothing in it is markup.
    return [f"    {line}" for line in text.splitlines()]


def _proof(facts: Facts) -> list[str]:
    lines = [
        f"- unsigned: the installation that made it has no key; `{UNSIGNED}` says what the release binds"
        if facts.key_id is None
        else f"- `{ATTESTATION}` is signed by the key `{facts.key_id}`; ask whoever released it for that key"
    ]
    place = facts.context.ledger
    if place is not None:
        lines.append(f"- rests on the ledger `{place.ledger_id}` up to event {place.size}, hash `{place.hash}`")
    return [*lines, "- `labelops verify-release <this folder>` checks it offline, without any database"]


def _statements(lines: Iterable[str]) -> list[str]:
    return [f"- {_plain_text(line)}" for line in lines]


def _reasons(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return ""
    return " (" + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in reasons.items()) + ")"


def _cell(value: Any) -> str:
    return _plain_text("unknown" if value is None else str(value)).replace("|", "\\|")


def _plain_text(text: str) -> str:
    """Return text on one line that Markdown and a browser read as text."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("`", "'")


def _size_category(count: int) -> str:
    return next((name for bound, name in _SIZES if count < bound), "n>100M")
