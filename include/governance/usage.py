"""Which model used which dataset version: what a training pipeline reports, as an event of the ledger.

Labelops hands versions over and cannot see what is trained on them. So whoever runs the training says it, in the name
of a person: the same report twice is one event.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

from include.base.canonical import digest_of
from include.base.errors import InvalidInput
from include.governance.ledger import Ledger
from include.governance.records import Event, NewEvent, VersionRecord
from include.people.register import Register

__all__ = ["USED", "record_use", "use_key"]

USED = "model.used"
"""The action of the event."""

_LIMITS = {"model": 200, "model_version": 200, "location": 1000, "training_run": 300}


def use_key(digest: str, model: str, model_version: str) -> str:
    """Return the name under which one use is on the ledger once: this model version, this dataset version."""
    return digest_of([USED, digest, model, model_version])


def record_use(
    ledger: Ledger,
    register: Register,
    version: VersionRecord,
    *,
    model: str,
    model_version: str,
    actor: str,
    location: str = "",
    training_run: str = "",
    reason: str = "",
) -> tuple[Event, bool]:
    """Put on the ledger that a model was trained or evaluated on a dataset version.

    Whether the version was released is not asked: what happened is recorded, and the auditor's question ``without``
    lists every model that used what was not released.

    :param model: the model's name, as the model registry has it.
    :param model_version: which version of it was made.
    :param actor: id of the person of the register who answers for the training.
    :param location: where the model is; an address without user and password.
    :param training_run: the pipeline's own name of its run.
    :param reason: what it was used for, in words.
    :returns: the event, and whether it is new.
    :raises InvalidInput: naming the field, what was found and what is allowed.
    :raises Conflict: when this use is on the ledger with another person, place or run.
    """
    fields = {"model": model, "model_version": model_version, "location": location, "training_run": training_run}
    for name, value in fields.items():
        if not value.strip() and name in ("model", "model_version"):
            raise InvalidInput(f"{name}: it is empty; name the model as its registry does")
        if len(value) > _LIMITS[name]:
            raise InvalidInput(f"{name}: found {len(value)} characters; allowed: {_LIMITS[name]}")
    if _carries_secret(location):
        raise InvalidInput("location: it carries a user or a password; the ledger never forgets, so leave them out")
    person = register.person(actor)
    if person is None or not person.covers(datetime.now(UTC)):
        raise InvalidInput(f"actor: found {actor!r}; allowed: the id of a person who is in the register now")
    event = NewEvent(
        actor=actor,
        action=USED,
        project=version.project,
        subject=f"version:{version.digest}",
        digest_after=version.digest,
        reason=reason,
        body={**fields, "number": version.number},
    )
    return ledger.append(event, key=use_key(version.digest, model, model_version))


def _carries_secret(location: str) -> bool:
    try:
        return "@" in urlsplit(location).netloc
    except ValueError:
        return True
