"""What a dataset version must show before it may be released: exactly the decisions that its policy demands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from include.base.canonical import SHORT, digest_of
from include.base.errors import InvalidInput
from include.datasets.manifest import Manifest
from include.governance.records import signed_enough
from include.people.register import is_unknown
from include.projects.model import Policy

__all__ = ["DecisionLike", "completeness", "pinned_policy", "pinned_problems", "unmet"]


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

    @property
    def signature(self) -> str:
        """Return its signature level."""


def completeness(manifest: Manifest) -> int:
    """Return how many of 100 tasks are settled, rounded down: labelled, or ignored by everybody who was asked.

    Disputed and missing tasks are not settled.
    """
    counts = manifest.counts
    return 100 * (counts.rows + counts.ignored) // counts.tasks if counts.tasks else 0


def pinned_problems(manifest: Manifest, decisions: Iterable[DecisionLike]) -> list[str]:
    """Return, as sentences, everything that forbids the release of exactly this version; an empty list allows it.

    Its policy is the one pinned in it, which was in force when people were asked: one loosened later loosens nothing.

    :param decisions: any decisions; those on other digests satisfy nothing.
    :raises InvalidInput: when the manifest's policy is not the one whose digest is pinned beside it.
    """
    policy, everything = pinned_policy(manifest), list(decisions)
    digest, short = manifest.digest, manifest.digest[:SHORT]
    problems = []
    exact = [one for one in everything if one.digest == digest and one.subject == f"version:{digest}"]
    counting = [one for one in exact if one.counts]
    for demand in policy.approvals:
        persons = {
            one.person
            for one in counting
            if one.role == demand.role and one.outcome == "approve" and one.person and one.meaning == demand.meaning
            if policy.evidence == "asserted" or one.grade == "attested"
            if policy.signature == "recorded" or signed_enough(one.signature, policy.signature)
        }
        if len(persons) < demand.minimum:
            grade = "attested " if policy.evidence == "attested" else ""
            grade += f"{policy.signature} " if policy.signature != "recorded" else ""
            problems.append(
                f"Version {short} lacks {grade}{demand.meaning} by {demand.minimum} {demand.role}: "
                f"{len(persons)} found for exactly this digest."
            )
    approved_by: dict[str, set[str]] = {}
    demanded = {demand.role for demand in policy.approvals}
    for one in counting:
        if one.outcome == "approve" and one.person and one.role in demanded:
            approved_by.setdefault(one.person, set()).add(one.role)
    for person, roles in sorted(approved_by.items()):
        if len(roles) > 1:
            problems.append(f"{person} approved version {short} as {', '.join(sorted(roles))}; one person counts once.")
    problems += [
        f"{one.person or 'somebody'} decided {one.outcome} on version {short} as {one.role}."
        for one in counting
        if one.outcome in ("reject", "rework", "withdraw")
    ]
    if policy.four_eyes:
        both = sorted(manifest.hands & set(approved_by))
        problems += [f"{person} approved version {short} and had a hand in its labels." for person in both]
    return [*problems, *unmet(manifest)]


def unmet(manifest: Manifest) -> list[str]:
    """Return, as sentences, what forbids the release of a version whatever people decide: it is known before they do.

    :raises InvalidInput: as :func:`pinned_problems`.
    """
    policy, short = pinned_policy(manifest), manifest.digest[:SHORT]
    problems = []
    strangers = sum(is_unknown(person) for person in manifest.hands) if policy.four_eyes else 0
    if strangers:
        problems.append(
            f"Version {short} holds answers of {strangers} person(s) whom the register does not know, so four eyes "
            "cannot be shown."
        )
    if completeness(manifest) < policy.min_completeness_percent:
        problems.append(
            f"Version {short} is {completeness(manifest)} % complete ({manifest.counts.disputed} disputed, "
            f"{manifest.counts.missing} missing of {manifest.counts.tasks} tasks); the policy demands "
            f"{policy.min_completeness_percent} %."
        )
    if policy.require_guideline_stamp:
        unstamped = sum(share.counted for share in manifest.guidelines if share.digest == "unknown")
        if unstamped:
            problems.append(f"{unstamped} answers in version {short} do not say under which guideline they were given.")
    if not manifest.counts.rows:
        problems.append(f"Version {short} holds no row.")
    return problems


def pinned_policy(manifest: Manifest) -> Policy:
    """Return the policy pinned in a manifest.

    :raises InvalidInput: when it is not a policy, or not the one whose digest is pinned beside it.
    """
    if digest_of(manifest.policy) != manifest.policy_digest:
        raise InvalidInput("manifest: policy: its digest is not policy_digest")
    try:
        return Policy.from_pinned(manifest.policy)
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"manifest: policy: {error}") from error
