"""When a task is tried again: decided by what went wrong, never by luck."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryPolicy
from airflow.sdk.definitions.retry_policy import RetryDecision

from include.base.errors import (
    AuthError,
    Conflict,
    Fenced,
    InvalidInput,
    LabelopsError,
    LedgerBehind,
    NotFound,
    RateLimited,
    Refused,
    Unavailable,
    Unsupported,
)

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

__all__ = ["LabelopsRetryPolicy", "may_pass"]

_USELESS = (AuthError, Fenced, InvalidInput, LedgerBehind, NotFound, Refused, Unsupported)


def may_pass(error: BaseException) -> bool:
    """Tell whether an error is one that trying again may cure: a system that is away, locked, or answered wrongly."""
    return isinstance(error, (LabelopsError, OSError)) and not isinstance(error, _USELESS)


class LabelopsRetryPolicy(RetryPolicy):
    """Retry what may pass, at the time the system asked for; fail at once what cannot.

    ``retries`` of the task stays the ceiling. An unknown error is retried by the task's own settings.

    :param longest: the longest wait that a system's ``Retry-After`` may ask for, in seconds.
    """

    def __init__(self, longest: int = 3600) -> None:
        self.longest = longest

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by the type of the error."""
        if isinstance(exception, (RateLimited, Unavailable)) and exception.retry_after is not None:
            delay = timedelta(seconds=min(exception.retry_after, self.longest))
            return RetryDecision.retry(delay=delay, reason="the system asked for a pause")
        if isinstance(exception, (RateLimited, Unavailable, Conflict)):
            return RetryDecision.retry(reason=f"{type(exception).__name__} may pass")
        if isinstance(exception, _USELESS):
            return RetryDecision.fail(reason=f"{type(exception).__name__} does not pass by itself")
        if isinstance(exception, LabelopsError):
            return RetryDecision.retry(reason=type(exception).__name__)
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return the policy's one number."""
        return {"longest": self.longest}
