"""Checking a release folder alone: without our database, without a secret, without a network.

What is found is a sentence that says what is wrong and where. What cannot be known from the folder alone is said as a
remark: an unsigned release, or one signed by a key that nobody vouched for, may have been made anew as a whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.base.canonical import SHORT, digest_of
from include.base.configuration import parse_yaml
from include.base.errors import InvalidInput
from include.base.reading import JSON_BYTES, json_lines, parse_json, read_at_most, read_json
from include.base.signing import PublicKey, read_public_key
from include.base.store import measure
from include.datasets.conditions import pinned_policy, pinned_problems
from include.datasets.manifest import Manifest, parse_manifest
from include.exports import SPLITS
from include.exports.output import REPORT
from include.passport.dsse import IN_TOTO, read_envelope
from include.passport.facts import ATTESTATION, CARD, CHECKSUMS, CROISSANT, KEY, LINEAGE, RECALLED, UNSIGNED
from include.passport.recount import Tally, recount
from include.passport.statement import read_statement
from include.projects.model import set_aside

__all__ = ["Verdict", "verify"]

_NAME = re.compile(r"v\d+-[0-9a-f]{12}(\.\d+)?\Z")
_BLOCK = 1024 * 1024
_PLAIN = {"manifest.json", "approvals.json", CARD}
"""Files of every release; the rest of a passport came later."""


@dataclass(frozen=True)
class Verdict:
    """What the check of a folder came to.

    :param problems: sentences, each about something that is not as it was released; none where it is sound.
    :param remarks: sentences about what the folder alone cannot show.
    :param project: of the release, "" where the folder does not say.
    :param signature: ``pinned`` (by the key given), ``own`` (by the key in the folder), ``none``, or ``bad``.
    """

    folder: str
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    project: str = ""
    number: int = 0
    digest: str = ""
    rows: int = 0
    files: int = 0
    signature: str = "none"
    key_id: str = ""
    persons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True)
class _Decision:
    """A decision as ``approvals.json`` has it; what is missing is empty and satisfies nothing."""

    digest: str
    subject: str
    role: str
    outcome: str
    counts: bool
    person: str | None
    meaning: str
    grade: str
    signature: str


@dataclass
class _Check:
    """One check of one folder, in the making."""

    folder: Path
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    signature: str = "none"
    key_id: str = ""

    def wrong(self, sentence: str) -> None:
        self.problems.append(sentence)

    def path(self, name: str) -> Path:
        return self.folder.joinpath(*name.split("/"))

    def content(self, name: str) -> bytes:
        return read_at_most(self.path(name), JSON_BYTES)


def verify(folder: Path, pinned: PublicKey | None = None) -> Verdict:
    """Check a release folder.

    :param pinned: the key that must have signed it, got from whoever released it by another way than the folder.
    :raises InvalidInput: when the folder is no release (there is none, or it holds no ``checksums.json`` that could be
        read), or when a file in it cannot be read.
    """
    try:
        return _verify(folder, pinned)
    except OSError as error:
        raise InvalidInput(f"{error.filename or folder}: cannot be read ({error.strerror})") from error


def _verify(folder: Path, pinned: PublicKey | None) -> Verdict:
    if not folder.is_dir():
        raise InvalidInput(f"{folder}: there is no such folder")
    if not (folder / CHECKSUMS).is_file():
        raise InvalidInput(f"{folder}: holds no {CHECKSUMS}: it is no release, or one that was never finished")
    check = _Check(folder)
    sums = _read_sums(folder / CHECKSUMS)
    measured = _check_files(check, sums["files"])
    manifest = _check_manifest(check, sums, measured)
    decisions = _check_approvals(check, manifest, sums)
    _check_statement(check, sums, measured, manifest, pinned)
    rows = 0
    if manifest is not None:
        rows = _check_rows(check, manifest, measured)
        _check_descriptions(check, sums, measured, manifest)
    _check_name(check, sums)
    if (folder / RECALLED).exists():
        check.wrong(_recalled(folder / RECALLED))
    return Verdict(
        folder=str(folder),
        problems=tuple(check.problems),
        remarks=tuple(check.remarks),
        project=manifest.project if manifest else "",
        number=sums["number"],
        digest=sums["version"],
        rows=rows,
        files=len(measured),
        signature=check.signature,
        key_id=check.key_id,
        persons=tuple(dict.fromkeys(f"{one.person} ({one.role})" for one in decisions if one.person and one.counts)),
    )


def _read_sums(place: Path) -> dict[str, Any]:
    sums = read_json(place)
    files = sums.get("files") if isinstance(sums, dict) else None
    sound = (
        isinstance(files, dict)
        and isinstance(sums.get("version"), str)
        and type(sums.get("number")) is int
        and all(isinstance(one, dict) and isinstance(one.get("sha256"), str) for one in files.values())
        and not any(part in ("", ".", "..") or "\\" in part for name in files for part in name.split("/"))
    )
    if not sound:
        raise InvalidInput(f"{place}: allowed: version, number, and files with the sha256 and bytes of each")
    return dict(sums)


def _check_files(check: _Check, listed: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Measure every file, hold it against ``checksums.json``, and return the SHA-256 of each that is there."""
    there = _files_in(check.folder)
    measured = {}
    for name, entry in sorted(listed.items()):
        path = there.get(name)
        if path is None:
            check.wrong(f"{name} is listed in {CHECKSUMS} and is not in the folder.")
            continue
        if path.is_symlink():
            check.wrong(f"{name} is a link to somewhere else, not a file of the release.")
            continue
        try:
            found = measure(path)
        except InvalidInput:
            check.wrong(f"{name} is no regular file.")
            continue
        measured[name], size = found.sha256, found.size
        if measured[name] != entry["sha256"]:
            told = f"; {size} bytes, not {entry.get('bytes')}" if size != entry.get("bytes") else ""
            check.wrong(
                f"{name} was changed: its SHA-256 is {measured[name][:SHORT]}, {CHECKSUMS} says "
                f"{entry['sha256'][:SHORT]}{told}."
            )
        elif size != entry.get("bytes"):
            check.wrong(f"{CHECKSUMS} says that {name} has {entry.get('bytes')} bytes; it has {size}.")
    for name in sorted(set(there) - set(listed) - {CHECKSUMS, RECALLED}):
        check.wrong(f"{name} is in the folder and not in {CHECKSUMS}: it is no part of the release.")
    for name in sorted(_PLAIN - set(listed)):
        check.wrong(f"{CHECKSUMS} does not list {name}, which every release has.")
    return measured


def _files_in(folder: Path) -> dict[str, Path]:
    """Return all that is in a folder but the folders in it, by its name from there, however deep they go."""
    found, waiting = {}, [folder]
    while waiting:
        for path in waiting.pop().iterdir():
            if path.is_dir() and not path.is_symlink():
                waiting.append(path)
            else:
                found[path.relative_to(folder).as_posix()] = path
    return found


def _check_manifest(check: _Check, sums: Mapping[str, Any], measured: Mapping[str, str]) -> Manifest | None:
    """Return the manifest if it can be read; its digest must be the version's."""
    found = measured.get("manifest.json")
    if found is None:
        return None
    if found != sums["version"]:
        check.wrong(
            f"manifest.json is that of version {found[:SHORT]}, but the release says that it is version "
            f"{sums['version'][:SHORT]}."
        )
    try:
        return parse_manifest(check.content("manifest.json"), "manifest.json")
    except InvalidInput as error:
        check.wrong(f"{error}.")
        return None


def _check_approvals(check: _Check, manifest: Manifest | None, sums: Mapping[str, Any]) -> list[_Decision]:
    """Hold the decisions against the policy that is pinned in the manifest."""
    try:
        value = parse_json(check.content("approvals.json"), "approvals.json")
        version, listed = value["version"], [dict(one) for one in value["approvals"]]
        about = (version["project"], version["number"], version["digest"], value["policy_digest"])
    except OSError:
        return []  # said before: the file is missing
    except InvalidInput as error:
        check.wrong(f"{error}.")
        return []
    except (KeyError, TypeError, ValueError):
        check.wrong("approvals.json: allowed: version, policy_digest, and approvals, a list of decisions.")
        return []
    decisions = [_decision(one) for one in listed]
    if manifest is None:
        return decisions
    digest = manifest.digest
    expected = (manifest.project, sums["number"], digest, manifest.policy_digest)
    for name, found, wanted in zip(("project", "number", "version", "policy"), about, expected, strict=True):
        if found != wanted:
            check.wrong(
                f"approvals.json is about {name} {str(found)[:SHORT]}, the release is of {str(wanted)[:SHORT]}."
            )
    for one in decisions:
        if one.digest != digest:
            check.wrong(
                f"approvals.json: the decision of {one.person or 'nobody known'} as {one.role} is about "
                f"{one.digest[:SHORT] or 'no version'}, not about this version."
            )
    try:
        check.problems += [f"approvals.json: {one}" for one in pinned_problems(manifest, decisions)]
        check.remarks += [f"{one[0].upper()}{one[1:]}." for one in set_aside(pinned_policy(manifest))]
    except InvalidInput as error:
        check.wrong(f"{error}.")
    return decisions


def _decision(value: Mapping[str, Any]) -> _Decision:
    def text(name: str) -> str:
        return str(value.get(name) or "")

    return _Decision(
        digest=text("digest"),
        subject=text("subject"),
        role=text("role"),
        outcome=text("outcome"),
        counts=value.get("counts") is True,
        person=text("person") or None,
        meaning=text("meaning"),
        grade=text("grade"),
        signature=text("signature") or "recorded",
    )


def _check_statement(
    check: _Check,
    sums: Mapping[str, Any],
    measured: Mapping[str, str],
    manifest: Manifest | None,
    pinned: PublicKey | None,
) -> None:
    """Check the signature, and that the statement is about exactly these files."""
    if ATTESTATION in measured:
        content = _signed_content(check, pinned)
        name = ATTESTATION
    elif UNSIGNED in measured:
        content, name = _read(check, UNSIGNED), UNSIGNED
        check.remarks.append("The release is unsigned: whoever can write files could have made all of it anew.")
    else:
        content, name = None, ""
        if "passport" in sums or {CROISSANT, LINEAGE} & set(measured):
            check.wrong(f"The release's statement is gone: neither {ATTESTATION} nor {UNSIGNED} is there.")
        else:
            check.remarks.append(
                "The release was made before there was a passport: nothing in it is signed, so whoever can write files "
                "could have made all of it anew."
            )
    if pinned is not None and check.signature == "none":
        check.wrong(f"The release is not signed, but the key {pinned.key_id[:SHORT]} was demanded.")
    if content is not None:
        _check_subjects(check, content, name, measured, manifest, sums)


def _read(check: _Check, name: str) -> bytes | None:
    try:
        return check.content(name)
    except InvalidInput as error:
        check.wrong(f"{error}.")
        return None


def _signed_content(check: _Check, pinned: PublicKey | None) -> bytes | None:
    """Return what the envelope holds, whoever signed it; None where it cannot be read."""
    check.signature = "bad"
    try:
        envelope = read_envelope(check.content(ATTESTATION), ATTESTATION)
    except InvalidInput as error:
        check.wrong(f"{error}.")
        return None
    if envelope.payload_type != IN_TOTO:
        check.wrong(f"{ATTESTATION}: payloadType: found {envelope.payload_type!r}; allowed: {IN_TOTO!r}.")
        return None
    own = None
    try:
        own = read_public_key(check.content(KEY), KEY)
    except (InvalidInput, OSError) as error:
        check.wrong(f"The public key beside the signature cannot be read: {error}.")
    if pinned is not None:
        check.key_id = pinned.key_id
        if envelope.signed_by(pinned):
            check.signature = "pinned"
            if own is not None and own.raw != pinned.raw:
                check.wrong(f"{KEY} holds the key {own.key_id[:SHORT]}, which did not sign the release.")
        else:
            by = f" It is signed by the key {own.key_id[:SHORT]}." if own and envelope.signed_by(own) else ""
            check.wrong(f"{ATTESTATION} is not signed by the key {pinned.key_id[:SHORT]} that was given.{by}")
    elif own is not None:
        check.key_id = own.key_id
        if envelope.signed_by(own):
            check.signature = "own"
            check.remarks.append(
                f"The signature is by the key in the folder ({own.key_id[:SHORT]}), which anybody could have put "
                "there: give the key of whoever released it with --public-key."
            )
        else:
            check.wrong(f"{ATTESTATION} is not signed by the key in {KEY}: it was changed, or the key was.")
    return envelope.payload


def _check_subjects(
    check: _Check,
    content: bytes,
    name: str,
    measured: Mapping[str, str],
    manifest: Manifest | None,
    sums: Mapping[str, Any],
) -> None:
    try:
        said = read_statement(content, name)
    except InvalidInput as error:
        check.wrong(f"{error}.")
        return
    subjects = {str(one["name"]): str(one["digest"]["sha256"]) for one in said["subject"]}
    versions = {subject: subjects.pop(subject) for subject in list(subjects) if subject.startswith("dataset-version:")}
    for subject, sha256 in sorted(subjects.items()):
        if subject not in measured:
            check.wrong(f"{name} vouches for {subject}, which is not in the folder.")
        elif measured[subject] != sha256:
            check.wrong(
                f"{subject} is not the file that {name} vouches for: its SHA-256 is {measured[subject][:SHORT]}, "
                f"not {sha256[:SHORT]}."
            )
    unbound = {ATTESTATION, KEY} if name == ATTESTATION else {UNSIGNED}
    for extra in sorted(set(measured) - set(subjects) - unbound):
        check.wrong(f"{name} does not vouch for {extra}.")
    if manifest is None:
        return
    if list(versions.values()) != [manifest.digest]:
        told = ", ".join(one[:SHORT] for one in versions.values()) or "no version"
        check.wrong(f"{name} is about {told}, the manifest is that of version {manifest.digest[:SHORT]}.")
    _check_predicate(check, said["predicate"], name, manifest, sums)


def _check_predicate(
    check: _Check, predicate: Mapping[str, Any], name: str, manifest: Manifest, sums: Mapping[str, Any]
) -> None:
    version = predicate.get("version")
    told = version if isinstance(version, dict) else {}
    facts = {
        "policyDigest": (predicate.get("policyDigest"), manifest.policy_digest),
        "registerDigest": (predicate.get("registerDigest"), manifest.register_digest),
        "version.digest": (told.get("digest"), manifest.digest),
        "version.project": (told.get("project"), manifest.project),
        "version.number": (told.get("number"), sums["number"]),
        "version.edition": (told.get("edition"), sums.get("edition", 1)),
    }
    for place, (found, expected) in facts.items():
        if found != expected:
            check.wrong(f"{name}: predicate.{place} is {str(found)[:64]}, the release is of {str(expected)[:64]}.")
    try:
        approvals = parse_json(check.content("approvals.json"), "approvals.json")["approvals"]
        told = Counter(str(one["digest"]) for one in predicate["approvals"])
        found = Counter(digest_of(one) for one in approvals)
    except (OSError, InvalidInput, KeyError, TypeError):
        return  # said before
    if told != found:
        check.wrong(f"approvals.json does not hold the {told.total()} decisions that {name} binds.")


def _check_rows(check: _Check, manifest: Manifest, measured: Mapping[str, str]) -> int:
    """Count rows, answers and labels in the data again; return the rows of the data."""
    left_out = _left_out(check, measured)
    tallies: dict[str, Tally] = {}
    for kind, names in _data_files(measured).items():
        tally = Tally()
        try:
            for name in names:
                tally += recount(check.path(name), name, manifest.interface)
        except InvalidInput as error:
            check.wrong(f"{error}.")
            continue
        tallies[kind] = tally
        check.problems += [f"{', '.join(names)}: {one}" for one in _count_problems(tally, manifest, left_out)]
    if not tallies:
        check.remarks.append("No data file in a format that can be counted is there, so rows were not counted again.")
        return 0
    first = next(iter(tallies))
    for kind, tally in tallies.items():
        if tally.content != tallies[first].content:
            check.wrong(f"The {kind} and the {first} files do not hold the same labels for the same tasks.")
    return tallies[first].rows


def _count_problems(tally: Tally, manifest: Manifest, left_out: int) -> Iterator[str]:
    """Say what a tally and the manifest do not agree on; rows that the split left out may be missing anywhere."""
    if tally.rows + left_out != manifest.counts.rows:
        more = f", {left_out} more are told to be left out" if left_out else ""
        yield f"{tally.rows} rows{more}; the manifest says {manifest.counts.rows}."
    for what, found, expected in (
        ("labels given", tally.labels, Counter(manifest.labels)),
        ("answers", tally.answers, Counter(manifest.answers)),
    ):
        if found - expected or (not left_out and +found != +expected):
            yield f"the {what} are {_counts(found)}; the manifest says {_counts(expected)}."


def _left_out(check: _Check, measured: Mapping[str, str]) -> int:
    """Return how many rows the report beside the tables tells to be in none of them."""
    if REPORT not in measured:
        return 0
    try:
        return sum(line["left_out"] is True for line in json_lines(check.path(REPORT), REPORT))
    except (InvalidInput, KeyError):
        check.wrong(f"{REPORT}: allowed: one JSON object a line, with left_out.")
        return 0


def _data_files(measured: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the files that hold all rows, by format: one, or one for each part."""
    kinds: dict[str, list[str]] = {}
    for name in measured:
        for kind in ("jsonl", "parquet"):
            if name in {f"{part}.{kind}" for part in ("data", *SPLITS)}:
                kinds.setdefault(kind, []).append(name)
    return kinds


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "none"


def _check_descriptions(
    check: _Check, sums: Mapping[str, Any], measured: Mapping[str, str], manifest: Manifest
) -> None:
    """Hold card and Croissant against what they describe."""
    if CARD in measured:
        for sentence in _card_problems(check.path(CARD), measured, sums):
            check.wrong(sentence)
    if CROISSANT in measured:
        for sentence in _croissant_problems(check.path(CROISSANT), measured, manifest):
            check.wrong(sentence)
    elif "passport" in sums:
        check.wrong(f"{CROISSANT} is missing from the passport.")


def _card_problems(place: Path, measured: Mapping[str, str], sums: Mapping[str, Any]) -> Iterator[str]:
    try:
        _, front, body = read_at_most(place, JSON_BYTES).decode("utf-8").split("---\n", 2)
        named = [
            path
            for config in parse_yaml(front, CARD).value["configs"]
            for one in config["data_files"]
            for path in ([one["path"]] if isinstance(one["path"], str) else one["path"])
        ]
    except (InvalidInput, ValueError, KeyError, TypeError):
        yield f"{CARD} is no dataset card: its front matter cannot be read."
        return
    for path in named:
        if path not in measured:
            yield f"{CARD} names the data file {path}, which is not in the release."
    if sums["version"] not in body:
        yield f"{CARD} does not name version {sums['version'][:SHORT]}."


def _croissant_problems(place: Path, measured: Mapping[str, str], manifest: Manifest) -> Iterator[str]:
    try:
        value = read_json(place)
        files = {str(one["contentUrl"]): str(one["sha256"]) for one in value["distribution"]}
        identifier = value["identifier"]
    except (InvalidInput, KeyError, TypeError):
        yield f"{CROISSANT} is no description of this release: it names no files."
        return
    if identifier != f"sha256:{manifest.digest}":
        yield f"{CROISSANT} describes {str(identifier)[:19]}, not version {manifest.digest[:SHORT]}."
    for name, sha256 in sorted(files.items()):
        if measured.get(name) != sha256:
            yield f"{CROISSANT}: {name} is not in the release with SHA-256 {sha256[:SHORT]}."


def _recalled(place: Path) -> str:
    try:
        value = read_json(place)
        told = f" by {value['by']} at {value['at']}: {value['reason']}"
    except (InvalidInput, KeyError, TypeError):
        told = ""
    return f"{RECALLED}: the release was recalled and must not be used any more{told}."


def _check_name(check: _Check, sums: Mapping[str, Any]) -> None:
    again = f".{sums['edition']}" if sums.get("edition", 1) != 1 else ""
    expected = f"v{sums['number']}-{sums['version'][:SHORT]}{again}"
    name = check.folder.resolve().name
    if name == expected:
        return
    if _NAME.match(name):
        check.wrong(f"The folder is called {name}, but what it holds is the release {expected}.")
    else:
        check.remarks.append(f"The folder is called {name}; the release in it is {expected}.")
