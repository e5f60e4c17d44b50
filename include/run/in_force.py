"""Under which register and policy work goes on: kept by digest, so that what was in force at an act is known later."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from include.base.errors import InvalidInput
from include.governance.records import SERVICE, Event
from include.people.register import Register
from include.projects.model import Policy, Project, relaxations, set_aside
from include.run.run import Run, short

__all__ = ["policy_changer", "registers_since", "requesters", "take_policy", "take_register", "under_policy"]


def take_register(run: Run) -> None:
    """Put on the ledger that work goes on under the register as its file has it now, where that is new.

    :raises InvalidInput: naming who stood in the register before and does not now: a person who left keeps their entry,
        or nobody could say any more whose their labels and decisions were.
    """
    before, register = run.last("register", "register.in_force"), run.register
    if before is not None and before.digest_after == register.digest:
        return
    if before is not None:
        _refuse_vanished(run, before)
    _take(run, "register", "", "register", before, run.keep(register.as_kept()))


def _refuse_vanished(run: Run, before: Event) -> None:
    earlier = _register(run, before)
    gone = sorted(set(earlier.ids) - set(run.register.ids)) if earlier is not None else []
    if gone:
        raise InvalidInput(
            f"register: persons: {', '.join(gone)} stood in the register in force since {before.time:%Y-%m-%d %H:%M} "
            "UTC and is not there any more; whoever left keeps their entry, with `valid_until`, under the same id"
        )


def registers_since(run: Run, moment: datetime | None) -> list[Register]:
    """Return the registers that were in force from a moment on (ever, for None), and the one of this run."""
    events: list[Event] = []
    for event in run.ledger.events(subject="register", actions=["register.in_force"]):
        if moment is not None and event.time <= moment:
            events.clear()
        events.append(event)
    return [*filter(None, (_register(run, event) for event in events)), run.register]


def _register(run: Run, event: Event) -> Register | None:
    """Return the register that an event put into force, None for one of before they were kept."""
    if event.digest_after == run.register.digest:
        return run.register  # the ordinary case: nothing is read for it
    kept = _kept(run, event)
    return None if kept is None else Register.from_kept(kept)


def take_policy(run: Run, project: Project) -> Project:
    """Put a project's policy, as its file has it now, into force where it is new and may be; return the project under
    the policy that is in force.

    Where the policy in force names a ``guard``, a new one waits until somebody of that role, who did not make it, has
    accepted it (the run parameter ``accept_policy``); until then work goes on under the one before.

    :raises InvalidInput: when a policy that differs does not say who changed it and why.
    """
    policy, before = project.policy, _policy_event(run, project)
    if before is not None and before.digest_after == policy.digest:
        return project
    old = None if before is None else _policy(run, before)
    if before is not None:
        _must_be_told(run, policy, before)
    if old is not None and old.guard is not None and not _accepted(run, project, policy):
        _propose(run, project, policy, old)
        return project.model_copy(update={"policy": old})
    _take(run, "policy", project.name, _subject(project), before, run.keep(policy.pinned()), policy)
    relaxed = relaxations(old, policy) if old is not None else []
    who = f"{policy.changed_by}, because {policy.reason}"
    told = [("policy relaxed", f"{one} ({who})") for one in relaxed]
    told += [("promise set aside", f"{one} (policy {short(policy.digest)})") for one in set_aside(policy)]
    run.findings(project.name, _subject(project), told)
    return project


def under_policy(run: Run, project: Project) -> Project:
    """Return the project under the policy that is in force, whatever its file says since; writes nothing."""
    event = _policy_event(run, project)
    if event is None or event.digest_after == project.policy.digest:
        return project
    found = _policy(run, event)
    return project if found is None else project.model_copy(update={"policy": found})


def requesters(run: Run, project: Project) -> set[str]:
    """Return who asks by a run: the person who triggered it, and whoever made the project's policy what it is."""
    return {one for one in (run.requester(), policy_changer(run, project)) if one is not None}


def policy_changer(run: Run, project: Project) -> str | None:
    """Return who made the policy in force what it is, None where nobody is named: that person counts as requester."""
    event = _policy_event(run, project)
    return None if event is None or event.actor == SERVICE else event.actor


def _subject(project: Project) -> str:
    return f"policy:{project.name}"


def _policy_event(run: Run, project: Project) -> Event | None:
    return run.last(_subject(project), "policy.in_force")


def _policy(run: Run, event: Event) -> Policy | None:
    kept = _kept(run, event)
    return None if kept is None else Policy.from_pinned(kept)


def _kept(run: Run, event: Event) -> Any:
    """Return what an event put into force, None for one of before that was kept."""
    digest = event.digest_after or ""
    return run.store.get_value(digest) if run.store.has_object(digest) else None


def _must_be_told(run: Run, policy: Policy, before: Event) -> None:
    since = f"the one in force since {before.time:%Y-%m-%d %H:%M} UTC is another ({short(before.digest_after or '')})"
    if policy.changed_by is None or policy.reason is None:
        raise InvalidInput(f"policy: {since}; say who changed it (`changed_by`, a person's id) and why (`reason`)")
    if run.register.person(policy.changed_by) is None:
        raise InvalidInput(f"policy: changed_by: found {policy.changed_by!r}; allowed: a person in the register")
    if (policy.changed_by, policy.reason) == (before.actor, before.reason):
        raise InvalidInput(f"policy: {since}, and `reason` is still that of the change before; say why this time")


def _accepted(run: Run, project: Project, policy: Policy) -> bool:
    last = run.last(_subject(project), "policy.accepted", "policy.in_force")
    return last is not None and last.action == "policy.accepted" and last.digest_after == policy.digest


def _propose(run: Run, project: Project, policy: Policy, old: Policy) -> None:
    run.keep(policy.pinned())
    told = [policy.digest, policy.changed_by, policy.reason]
    body = {"guard": old.guard, "relaxes": relaxations(old, policy)}
    named = {"actor": policy.changed_by or SERVICE, "reason": policy.reason or "", "after": policy.digest}
    run.note("policy.proposed", project.name, _subject(project), key=told, body=body, **named)
    who = f"policy {short(policy.digest)} by {policy.changed_by}"
    waits = f"{who} waits until a {old.guard} accepts it (`accept_policy`)"
    run.finding(project.name, _subject(project), "policy waits", waits)


def _take(
    run: Run, kind: str, project: str, subject: str, before: Event | None, digest: str, policy: Policy | None = None
) -> None:
    run.log.info("The %s in force%s is now %s.", kind, f" for {project}" if project else "", short(digest))
    run.note(
        f"{kind}.in_force",
        project,
        subject,
        key=[before.seq if before else 0, digest],
        actor=(policy.changed_by if policy else None) or SERVICE,
        reason=(policy.reason if policy else None) or "",
        before=before.digest_after if before else None,
        after=digest,
        body={"object": digest},
    )
