"""Keeps the debug lines of the libraries below the clients out of every log: they hold queries and bodies."""

from __future__ import annotations

import logging

__all__ = ["quiet_libraries"]

NOISY = ("atlassian.rest_client", "urllib3.connectionpool")
"""The first logs request and reply bodies, the second the addresses with their queries, in which tokens may be."""


class _OnlyWarnings(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Let warnings and worse through."""
        return record.levelno >= logging.WARNING


def quiet_libraries() -> None:
    """Let only warnings of these libraries through; doing it twice does no harm.

    A filter and no level: Airflow may set levels anew when a task begins.
    """
    for name in NOISY:
        logger = logging.getLogger(name)
        if not any(isinstance(item, _OnlyWarnings) for item in logger.filters):
            logger.addFilter(_OnlyWarnings())
