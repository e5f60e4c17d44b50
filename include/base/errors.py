"""The errors that an outside system, a file or a rule can cause, told apart by what can be done about them."""

from __future__ import annotations

__all__ = [
    "AuthError",
    "Conflict",
    "Fenced",
    "InvalidInput",
    "InvalidReply",
    "LabelopsError",
    "LedgerBehind",
    "NotFound",
    "OutsideError",
    "RateLimited",
    "Refused",
    "Unavailable",
    "Unsupported",
]


class LabelopsError(Exception):
    """Whatever this project raises on purpose. The message says what was found and what to do."""


class OutsideError(LabelopsError):
    """An outside system did not do what was asked.

    :param system: ``confluence``, ``opentext``, ``prodigy``, …
    :param status: the HTTP status, where there was one.
    :param retry_after: seconds the system asked us to wait, or None where it did not say.
    """

    def __init__(
        self, message: str, *, system: str = "", status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.system = system
        self.status = status
        self.retry_after = retry_after


class AuthError(OutsideError):
    """The credential was refused, or lacks a right (which one is in the message). Trying again is useless."""


class NotFound(OutsideError):
    """The thing asked for is not there, and the credential was shown to work."""


class Conflict(OutsideError):
    """Somebody else changed or holds the thing: read again, then decide."""


class RateLimited(OutsideError):
    """Too many requests."""


class Unavailable(OutsideError):
    """The system cannot be reached or is failing; later may be better. The request may or may not have taken effect."""


class InvalidReply(OutsideError):
    """The system answered something that its contract does not allow."""


class Unsupported(OutsideError):
    """This flavour or version of the system cannot do what was asked."""


class InvalidInput(LabelopsError):
    """A file, page, row or parameter is malformed. The message names file, line, field, found and allowed."""


class Refused(LabelopsError):
    """A rule forbids the step (missing approval, four eyes, changed digest). Trying again changes nothing."""


class Fenced(LabelopsError):
    """A newer try has taken this effect over: stop, and write nothing more."""


class LedgerBehind(LabelopsError):
    """The ledger is shorter than its outside checkpoint, or differs from it: recover it before anything writes."""
