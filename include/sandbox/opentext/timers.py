"""When a timer of a model is due: ISO 8601 dates, durations and repetitions, counted from a clock that is handed in.

``PT30M``, ``P1Y2M3DT4H``, ``P2W``; ``2026-11-30T09:00:00Z`` (without a zone: UTC); ``R3/PT10M``, ``R/P1D``,
``R2/2026-11-30T09:00:00Z/PT1H``. Months and years are those of the calendar. Cron expressions, which the real engine
also reads in a cycle, are refused.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from include.base.errors import InvalidInput

__all__ = ["KINDS", "Schedule", "read_schedule"]

KINDS = ("timeDate", "timeDuration", "timeCycle")

_DURATION = re.compile(
    r"P(?=\d|T\d)(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:[.,]\d+)?)S)?)?\Z"
)
_CYCLE = re.compile(r"R(?P<times>\d*)/(?:(?P<start>[^P/][^/]*)/)?(?P<every>P[^/]*)\Z")


@dataclass(frozen=True)
class Schedule:
    """When a timer fires.

    :param first: seconds since the epoch of the first time.
    :param every: the duration between two times, as written; "" where it fires once.
    :param times: how often in all; -1 for ever.
    """

    first: float
    every: str = ""
    times: int = 1

    def after(self, due: float) -> float:
        """Return the time that follows ``due``."""
        return _later(due, self.every)


def read_schedule(kind: str, text: str, now: float) -> Schedule:
    """Return when a timer that is reached now fires.

    :param kind: one of :data:`KINDS`.
    :raises InvalidInput: the text is none of that kind.
    """
    text = text.strip()
    if kind == "timeDuration":
        return Schedule(_later(now, text))
    if kind == "timeDate":
        # The real engine's date may also be a duration that an expression has put there.
        return Schedule(_later(now, text) if text.startswith("P") else _moment(text))
    found = _CYCLE.match(text)
    if found is None:
        raise InvalidInput(
            f"timer: found the cycle {text!r}; allowed: R<times>/<duration>, R<times>/<start>/<duration>"
        )
    times = int(found["times"]) if found["times"] else -1
    if _later(now, found["every"]) <= now:
        raise InvalidInput(f"timer: the cycle {text!r} repeats without a pause")
    first = _moment(found["start"]) if found["start"] else _later(now, found["every"])
    return Schedule(first, found["every"], times)


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"timer: found the date {text!r}; allowed: ISO 8601, like 2026-11-30T09:00:00Z") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _later(start: float, text: str) -> float:
    found = _DURATION.match(text)
    if found is None:
        raise InvalidInput(f"timer: found the duration {text!r}; allowed: ISO 8601, like PT30M or P3D")
    parts = {name: float((value or "0").replace(",", ".")) for name, value in found.groupdict().items()}
    moment = datetime.fromtimestamp(start, UTC)
    months = moment.month - 1 + int(parts["months"]) + 12 * int(parts["years"])
    year, month = moment.year + months // 12, months % 12 + 1
    if year > 9999:
        raise InvalidInput(f"timer: the duration {text!r} is longer than any calendar")
    moment = moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))
    rest = {name: parts[name] for name in ("weeks", "days", "hours", "minutes", "seconds")}
    return (moment + timedelta(**rest)).timestamp()
