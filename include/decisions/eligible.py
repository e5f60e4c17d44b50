"""Whether there are people who may decide: known before anybody is asked, and told by name."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from include.people.register import Register
from include.projects.model import Project

__all__ = ["nobody_for"]


def nobody_for(project: Project, register: Register, now: datetime, barred: Collection[str] = ()) -> list[str]:
    """Return, as sentences, which people a project names or demands that the register does not have.

    :param barred: who may not decide on the version that is asked about.
    """
    problems = []
    if register.person(project.owner) is None:
        problems.append(f"owner: found {project.owner!r}; allowed: the id of a person in the register")
    free: set[str] = set()
    for demand in project.policy.approvals:
        holders = {one.id for one in register.holders(demand.role, project.name, now)}
        left = holders - set(barred)
        free |= left
        if len(left) < demand.minimum:
            has = f"{', '.join(sorted(holders))} had a hand in it or asked" if holders else "nobody has that role"
            problems.append(
                f"policy.approvals: {demand.minimum} {demand.role} must give their {demand.meaning}, and "
                f"{len(left)} could: {has}"
            )
    wanted = sum(demand.minimum for demand in project.policy.approvals)
    if not problems and len(free) < wanted:
        problems.append(
            f"policy.approvals: {wanted} different persons must decide, and only {', '.join(sorted(free))} could"
        )
    for name in ("escalation_role", "guard"):
        role = getattr(project.policy, name)
        if role is not None and not register.holders(role, project.name, now):
            problems.append(f"policy.{name}: found {role!r}, a role that nobody in the register has")
    return problems
