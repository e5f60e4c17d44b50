"""Whether a process under our business key is one that we started: the key is no secret, and anybody may use it."""

from __future__ import annotations

from datetime import datetime, timedelta

from include.people.register import Register
from include.systems.opentext.values import ProcessStart

__all__ = ["CLOCKS", "why_foreign"]

CLOCKS = timedelta(minutes=5)
"""How far the service's clock may differ from ours."""


def why_foreign(start: ProcessStart, model: str, register: Register, asked: datetime | None) -> str:
    """Return why a process is none of ours, an empty string where nothing speaks against it.

    What the service does not tell (model, starter, time) speaks neither for nor against it.

    :param model: key of the model that we start.
    :param asked: when we first set out to start it, None for requests of before that was kept.
    """
    if start.model and start.model != model:
        return f"its model is {start.model!r}, and {model!r} is asked"
    if start.account and not register.is_service("opentext", start.account):
        return "it was started by an account that is no service of the register"
    if asked is not None and start.time is not None and start.time < asked - CLOCKS:
        return f"it was started at {start.time:%Y-%m-%d %H:%M} UTC, before anybody was asked"
    return ""
