"""Handing an approved version over to training: the files, the dataset card, and what still forbids it.

``releases/<project>/v<N>-<digest12>/`` holds ``data.jsonl`` (which ``prodigy db-in`` takes as it is), ``data.parquet``,
``manifest.json``, ``approvals.json``, ``README.md`` (dataset card) and, last, ``checksums.json``. Then the pointer
``releases/<project>/current.json`` is moved. A folder with ``checksums.json`` is whole and is never written again; one
without it was interrupted and is completed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, Protocol

import yaml

from include.base.canonical import SHORT, canonical_json, digest_of, sha256_hex
from include.base.errors import InvalidInput, Refused
from include.base.store import Store, StorePath, atomic_write, read_json
from include.datasets.freeze import rows, verify_version
from include.datasets.manifest import Manifest
from include.datasets.values import utc_text
from include.exports import export, training_row
from include.governance.approval import is_unknown
from include.projects.model import Interface, Policy, Project

__all__ = [
    "DecisionLike",
    "Release",
    "completeness",
    "current_release",
    "mark_recalled",
    "policy_problems",
    "release_path",
    "training_rows",
    "write_release",
]

_BLOCK = 1024 * 1024
_FILES = ("data.jsonl", "data.parquet", "manifest.json", "approvals.json", "README.md")


@dataclass(frozen=True)
class Release:
    """A release in the store.

    :param created: whether this call wrote any file of it.
    :param files: size in bytes by file name.
    :param moved: whether this call moved the project's pointer to it.
    """

    path: StorePath
    created: bool
    files: Mapping[str, int]
    moved: bool = False


class DecisionLike(Protocol):
    """What is read of a decision (``include.governance.records.Decision``, or the judgement's own)."""

    @property
    def digest(self) -> str:
        """Return the digest decided on."""

    @property
    def subject(self) -> str:
        """Return the subject decided on."""

    @property
    def role(self) -> str:
        """Return the role acted in."""

    @property
    def outcome(self) -> str:
        """Return approve, reject, rework, …"""

    @property
    def counts(self) -> bool:
        """Return whether it satisfies a policy."""

    @property
    def person(self) -> str | None:
        """Return who decided."""

    @property
    def meaning(self) -> str:
        """Return what it stands for."""

    @property
    def grade(self) -> str:
        """Return its grade of evidence."""


def completeness(manifest: Manifest) -> int:
    """Return how many of 100 tasks are settled, rounded down: labelled, or ignored by everybody who was asked.

    Disputed and missing tasks are not settled.
    """
    counts = manifest.counts
    return 100 * (counts.rows + counts.ignored) // counts.tasks if counts.tasks else 0


def policy_problems(project: Project, manifest: Manifest, decisions: Iterable[DecisionLike]) -> list[str]:
    """Return, as sentences, everything that forbids the release of exactly this version; an empty list allows it.

    The policy pinned in the manifest is demanded, and the project's present one too where it has changed since: a
    policy loosened later loosens nothing that was frozen under it, and a tightened one holds at once.

    :param decisions: any decisions; those on other digests satisfy nothing.
    """
    everything = list(decisions)
    pinned = _pinned_policy(manifest)
    problems = _problems_under(pinned, manifest, everything, "")
    if project.policy.digest != manifest.policy_digest:
        known = set(problems)
        problems += [
            sentence
            for sentence in _problems_under(
                project.policy, manifest, everything, " (by the policy as changed since the version was frozen)"
            )
            if sentence.split(" (by the policy")[0].rstrip(".") + "." not in known
        ]
    return problems


def write_release(
    store: Store,
    project: Project,
    digest: str,
    number: int,
    manifest: Manifest,
    approvals: Sequence[Mapping[str, Any]],
    guideline: Mapping[str, Any] | None = None,
    *,
    edition: int = 1,
) -> Release:
    """Write the release of one version, and move the project's pointer to it last of all.

    Writing the same release again creates nothing; one that was interrupted is completed.

    :param number: the version's number in the project, from 1.
    :param approvals: the decisions it rests on, as JSON objects (role, person, decided_at, meaning, grade, …).
    :param edition: which release of this version it is, from 1: one that was recalled may be followed by another.
    :param guideline: the guideline release in force (``number``, ``digest``, …), for the card.
    :raises Refused: when the version in the store is not what its digest says.
    :raises InvalidInput: when files of the release hold other bytes.
    """
    if manifest.digest != digest:
        raise Refused(f"the manifest given is that of version {manifest.digest}, not of {digest}")
    problems = verify_version(store, project, digest)
    if problems:
        raise Refused(f"version {digest[:SHORT]} of {project.name} is not what was approved: " + "; ".join(problems))
    if number < 1:
        raise InvalidInput(f"version {digest[:SHORT]}: number: found {number}; allowed: 1 or more")
    folder = release_path(store, project, digest, number, edition)
    small = _small_files(project, digest, number, manifest, approvals, guideline)
    created = _write_files(store, project, digest, number, folder, small)
    sums = read_json(folder / "checksums.json")["files"]
    moved = store.move_pointer(
        store.at("releases", project.name, "current.json"),
        {"release": folder.name, "number": number, "digest": digest},
    )
    return Release(folder, created, {name: entry["bytes"] for name, entry in sums.items()}, moved)


def mark_recalled(
    store: Store, project: Project, folder: str, why: Mapping[str, Any], *, instead: str | None = None
) -> bool:
    """Mark a release as recalled, and point to another one, or to none, where the pointer was at it.

    :param why: who recalled it, when and why, as JSON.
    :param instead: folder of the release that stands now.
    :return: whether anything was written.
    """
    marked = store.write_new(store.at("releases", project.name, folder, "RECALLED.json"), canonical_json(why) + b"\n")
    place = store.at("releases", project.name, "current.json")
    if (store.pointer(place) or {}).get("release") != folder:
        return marked
    other = None if instead is None else _released(store, project, instead)
    return store.move_pointer(place, other or {"release": None, "number": None, "digest": None}) or marked


def _released(store: Store, project: Project, folder: str) -> dict[str, Any]:
    sums = read_json(store.at("releases", project.name, folder, "checksums.json"))
    return {"release": folder, "number": sums["number"], "digest": sums["version"]}


def current_release(store: Store, project: Project | str) -> dict[str, Any] | None:
    """Return the pointer to the project's current release (release, number, digest), or None."""
    return store.pointer(store.at("releases", project if isinstance(project, str) else project.name, "current.json"))


def release_path(store: Store, project: Project | str, digest: str, number: int, edition: int = 1) -> StorePath:
    """Return the folder of a release; ``edition`` counts how often the version was released."""
    name = project if isinstance(project, str) else project.name
    again = f".{edition}" if edition > 1 else ""
    return store.at("releases", name, f"v{number}-{digest[:SHORT]}{again}")


def training_rows(store: Store, project: Project | str, digest: str, number: int) -> Iterator[dict[str, Any]]:
    """Stream a version as Prodigy tasks with their final answer, sorted by task id.

    Each carries what was shown, the answer in the interface's own fields, ``meta`` with the task's id, and Prodigy's
    hashes (computed on what was shown, as when the task was made).
    """
    for row in rows(store, project, digest):
        yield training_row(row, number)


def _problems_under(policy: Policy, manifest: Manifest, decisions: list[DecisionLike], remark: str) -> list[str]:
    digest, short = manifest.digest, manifest.digest[:SHORT]
    problems = []
    exact = [one for one in decisions if one.digest == digest and one.subject == f"version:{digest}"]
    counting = [one for one in exact if one.counts]
    for demand in policy.approvals:
        persons = {
            one.person
            for one in counting
            if one.role == demand.role and one.outcome == "approve" and one.person and one.meaning == demand.meaning
            if policy.evidence == "asserted" or one.grade == "attested"
        }
        if len(persons) < demand.minimum:
            grade = "attested " if policy.evidence == "attested" else ""
            problems.append(
                f"Version {short} lacks {grade}{demand.meaning} by {demand.minimum} {demand.role}: "
                f"{len(persons)} found for exactly this digest{remark}."
            )
    approved_by: dict[str, set[str]] = {}
    demanded = {demand.role for demand in policy.approvals}
    for one in counting:
        if one.outcome == "approve" and one.person and one.role in demanded:
            approved_by.setdefault(one.person, set()).add(one.role)
    for person, roles in sorted(approved_by.items()):
        if len(roles) > 1:
            problems.append(
                f"{person} approved version {short} as {', '.join(sorted(roles))}; one person counts once{remark}."
            )
    problems += [
        f"{one.person or 'somebody'} decided {one.outcome} on version {short} as {one.role}{remark}."
        for one in counting
        if one.outcome in ("reject", "rework", "withdraw")
    ]
    if policy.four_eyes:
        hands = {share.id for share in manifest.persons} | set(manifest.adjudicators)
        both = sorted(hands & set(approved_by))
        problems += [f"{person} approved version {short} and had a hand in its labels{remark}." for person in both]
        strangers = sum(is_unknown(person) for person in hands)
        if strangers:
            problems.append(
                f"Version {short} holds answers of {strangers} person(s) whom the register does not know, so four eyes "
                f"cannot be shown{remark}."
            )
    if completeness(manifest) < policy.min_completeness_percent:
        problems.append(
            f"Version {short} is {completeness(manifest)} % complete ({manifest.counts.disputed} disputed, "
            f"{manifest.counts.missing} missing of {manifest.counts.tasks} tasks); the policy demands "
            f"{policy.min_completeness_percent} %{remark}."
        )
    if policy.require_guideline_stamp:
        unstamped = sum(share.counted for share in manifest.guidelines if share.digest == "unknown")
        if unstamped:
            problems.append(
                f"{unstamped} answers in version {short} do not say under which guideline they were given{remark}."
            )
    if not manifest.counts.rows:
        problems.append(f"Version {short} holds no row{remark}.")
    return problems


def _pinned_policy(manifest: Manifest) -> Policy:
    """Return the policy pinned in a manifest.

    :raises InvalidInput: when it is not a policy, or not the one whose digest is pinned beside it.
    """
    if digest_of(manifest.policy) != manifest.policy_digest:
        raise InvalidInput("manifest: policy: its digest is not policy_digest")
    try:
        return Policy.from_pinned(manifest.policy)
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"manifest: policy: {error}") from error


def _small_files(
    project: Project,
    digest: str,
    number: int,
    manifest: Manifest,
    approvals: Sequence[Mapping[str, Any]],
    guideline: Mapping[str, Any] | None,
) -> dict[str, bytes]:
    listed = sorted((_jsonable(approval) for approval in approvals), key=digest_of)
    return {
        "manifest.json": manifest.content(),
        "approvals.json": canonical_json(
            {
                "version": {"project": project.name, "number": number, "digest": digest},
                "policy_digest": manifest.policy_digest,
                "approvals": listed,
            }
        ),
        "README.md": _card(project, digest, number, manifest, listed, guideline).encode("utf-8"),
    }


def _write_files(
    store: Store, project: Project, digest: str, number: int, folder: StorePath, small: Mapping[str, bytes]
) -> bool:
    if (folder / "checksums.json").exists():
        _check_whole(folder, small)
        return False
    for name in ("jsonl", "parquet"):
        export(lambda: rows(store, project, digest), project, name, folder, number=number)
    for name, content in small.items():
        store.write_new(folder / name, content)
    sums = {name: _measure(folder / name) for name in _FILES}
    atomic_write(
        folder / "checksums.json", canonical_json({"version": digest, "number": number, "files": sums}) + b"\n"
    )
    return True


def _check_whole(folder: StorePath, small: Mapping[str, bytes]) -> None:
    """Refuse a finished release whose files changed, or that was made of other facts."""
    sums = read_json(folder / "checksums.json")
    listed = sums.get("files") if isinstance(sums, dict) else None
    if not isinstance(listed, dict) or set(listed) != set(_FILES):
        raise InvalidInput(f"{folder / 'checksums.json'}: files: allowed: one entry for each of {', '.join(_FILES)}")
    for name in _FILES:
        place = folder / name
        if not place.exists():
            raise InvalidInput(f"{place}: is missing from a finished release")
        if _measure(place) != listed[name]:
            raise InvalidInput(f"{place}: its bytes differ from checksums.json; a release is never written again")
    # The card is prose about these two: what it says of the guideline in force, or how, may have changed since.
    for name in ("manifest.json", "approvals.json"):
        if bytes((folder / name).read_bytes()) != small[name]:
            raise InvalidInput(f"{folder / name}: already holds other bytes; a release is never written again")


def _measure(place: StorePath) -> dict[str, Any]:
    size = 0

    def blocks(content: IO[bytes]) -> Iterator[bytes]:
        nonlocal size
        while block := content.read(_BLOCK):
            size += len(block)
            yield block

    with place.open("rb") as content:
        return {"sha256": sha256_hex(blocks(content)), "bytes": size}


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(inner) for inner in value]
    return value


def _card(
    project: Project,
    digest: str,
    number: int,
    manifest: Manifest,
    approvals: list[dict[str, Any]],
    guideline: Mapping[str, Any] | None,
) -> str:
    """Return the dataset card: Hugging Face front matter, and sections made of facts alone.

    Vocabulary of the front matter: the dataset card specification of the Hugging Face hub.
    """
    front = {
        "pretty_name": f"{project.title}, version {number}",
        "license": project.release.licence,
        "language": [project.release.language],
        # The hub's word for people known by name, as opposed to a crowd.
        "annotations_creators": ["expert-generated"],
        "task_categories": [
            "token-classification" if project.annotation.interface is Interface.NER else "text-classification"
        ],
        "size_categories": [_size_category(manifest.counts.rows)],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data.parquet"}]}],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {_plain_text(project.title)}, version {number}",
        f"Dataset version `{digest}` of the labelling project `{project.name}`.",
        _section("Contents", _contents(project, manifest)),
        _section("Annotation process", _process(manifest)),
        _section("Who are the annotators", _people(manifest)),
        _section("Guideline", _guideline(manifest, guideline)),
        _section("Approvals", _approvals(manifest, approvals)),
        _section("Limitations", _limitations(manifest)),
    ]
    return "\n\n".join(parts) + "\n"


def _contents(project: Project, manifest: Manifest) -> list[str]:
    lines = [
        f"- {manifest.counts.rows} rows in `data.jsonl` (Prodigy's format) and `data.parquet` (the same rows, typed)",
        "- answers: " + ", ".join(f"{count} {name}" for name, count in manifest.answers.items()),
        "",
        "| label | given |",
        "|---|---|",
        *(f"| {_cell(label)} | {count} |" for label, count in manifest.labels.items()),
    ]
    return lines


def _process(manifest: Manifest) -> list[str]:
    counts = manifest.counts
    return [
        f"- {manifest.rule.answers_per_task} answer(s) per task were asked for, interface `{manifest.interface}`",
        f"- rule `{manifest.rule.name}`: {manifest.rule.text}",
        f"- {counts.answers} answers to {counts.tasks} tasks: {counts.counted} count, {counts.losing} do not"
        + _reasons(manifest.losing_reasons),
        f"- agreement: on {counts.unanimous} rows everybody gave the value that counts, on {counts.split} somebody "
        f"did not, {counts.decided} rows were decided by a review or a final decision",
        f"- answered between {manifest.first_answer_at or 'unknown'} and {manifest.last_answer_at or 'unknown'}",
        f"- batch `{manifest.batch}`"
        + (
            f", closed by {manifest.closed_by.person}: {_plain_text(manifest.closed_by.reason)}"
            if manifest.closed_by
            else ""
        ),
    ]


def _people(manifest: Manifest) -> list[str]:
    if not manifest.persons:
        return ["Nobody answered; every label was decided."]
    return [
        f"{len(manifest.persons)} persons, named by their id in the register `{manifest.register_digest}`:",
        "",
        "| person | answers that count | others |",
        "|---|---|---|",
        *(f"| {_cell(share.id)} | {share.counted} | {share.losing} |" for share in manifest.persons),
        *([f"\nDisputes were decided by {', '.join(manifest.adjudicators)}."] if manifest.adjudicators else []),
    ]


def _guideline(manifest: Manifest, guideline: Mapping[str, Any] | None) -> list[str]:
    lines = []
    if guideline:
        lines.append(f"Release {guideline.get('number', '?')} (`{guideline.get('digest', 'unknown')}`) is in force.")
    for share in manifest.guidelines:
        name = (
            "an unknown release" if share.digest == "unknown" else f"release {share.number or '?'} (`{share.digest}`)"
        )
        lines.append(f"- {share.counted + share.losing} answers were given under {name}, {share.counted} of them count")
    return lines or ["No answer says under which guideline it was given."]


def _approvals(manifest: Manifest, approvals: list[dict[str, Any]]) -> list[str]:
    if not approvals:
        return [f"None is recorded here. Policy `{manifest.policy_digest}`."]
    return [
        f"Under policy `{manifest.policy_digest}`:",
        "",
        "| role | person | outcome | meaning | evidence | at |",
        "|---|---|---|---|---|---|",
        *(
            "| "
            + " | ".join(_cell(one.get(key)) for key in ("role", "person", "outcome", "meaning", "grade", "decided_at"))
            + " |"
            for one in approvals
        ),
    ]


def _limitations(manifest: Manifest) -> list[str]:
    counts = manifest.counts
    lines = [f"- {completeness(manifest)} % of the batch's {counts.tasks} tasks are settled"]
    for count, what in (
        (counts.disputed, "tasks are left out because the answers dispute each other"),
        (counts.missing, "tasks are left out because answers are missing"),
        (counts.ignored, "tasks are left out because everybody ignored them"),
    ):
        if count:
            lines.append(f"- {count} {what}")
    unknown = sum(share.counted for share in manifest.guidelines if share.digest == "unknown")
    if unknown:
        lines.append(f"- {unknown} answers that count do not say under which guideline they were given")
    strangers = sum(is_unknown(share.id) for share in manifest.persons)
    if strangers:
        lines.append(f"- {strangers} of the annotators are not in the register")
    never = [label for label, count in manifest.labels.items() if not count]
    if never:
        lines.append(f"- never given: {', '.join(_plain_text(label) for label in never)}")
    return lines


def _section(title: str, lines: list[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines)


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
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for bound, name in bounds if count < bound), "1M<n<10M")
