"""The terms of an ask: what was in force when people were asked decides, whatever the files say later."""

from __future__ import annotations

from typing import Any

from include.bpmn.mapping import ProcessMapping
from include.governance.records import Event
from include.projects.model import Policy, Project
from include.run.run import Run

__all__ = ["keep_terms", "mapping_of", "people_release", "policy_of"]


def keep_terms(run: Run, project: Project, mapping: ProcessMapping, policy: Policy) -> dict[str, Any]:
    """Keep the terms in the store and return what the event of the request says of them."""
    return {
        "policy": run.keep(policy.pinned()),
        "mapping": run.keep(mapping.model_dump(mode="json")),
        "orchestrator": project.release.orchestrator,
    }


def policy_of(run: Run, requested: Event) -> Policy:
    """Return the policy that people were asked under."""
    return Policy.from_pinned(run.store.get_value(requested.body["policy"]))


def mapping_of(run: Run, requested: Event, today: ProcessMapping) -> ProcessMapping:
    """Return what the process meant when people were asked; today's for a request of before that was kept."""
    digest = requested.body.get("mapping")
    return today if digest is None else ProcessMapping.model_validate(run.store.get_value(digest))


def people_release(project: Project, asked: Event | None) -> bool:
    """Tell whether people in OpenText release a version: the project says so, or said so when approvers were asked.

    :param asked: the request for the version's approval, None where nobody was asked.
    """
    at_the_ask = None if asked is None else asked.body.get("orchestrator")
    return "opentext" in (project.release.orchestrator, at_the_ask)
