"""What a database driver's errors mean."""

from __future__ import annotations

from typing import Any

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    LabelopsError,
    NotFound,
    OutsideError,
    Unavailable,
)

__all__ = ["SYSTEM", "Again", "database_error", "unlike"]

SYSTEM = "prodigy"


class Again(Unavailable):
    """The whole transaction was undone (a deadlock, a name just taken) and may be run again from its start."""


_POSTGRES_LATER = ("08", "40", "53", "55", "57")
"""Classes of SQLSTATE: connection, rollback, resources, state (locks), operator intervention."""

_MYSQL: dict[int, type[OutsideError]] = {
    **dict.fromkeys((1044, 1045, 1142, 1143, 1227, 1290, 1370, 1698, 1836), AuthError),
    1049: NotFound,
    **dict.fromkeys((1054, 1146), InvalidReply),
    # 1452: the dataset that is linked to was dropped meanwhile.
    **dict.fromkeys((1213, 1452), Again),
    **dict.fromkeys((1040, 1053, 1205, 1927, 2002, 2003, 2006, 2013), Unavailable),
}


def database_error(error: Exception, right: str) -> LabelopsError:
    """Return what a driver's error means.

    :param right: what was being done, named when permission was denied.
    """
    cause = getattr(error, "orig", None) or error
    # Only the first line: a driver may add the statement, or the row that failed.
    said = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    kind = _kind(error, cause, said)
    if kind is InvalidInput:
        return InvalidInput(f"Prodigy's database refused a value: {said}")
    if kind is AuthError:
        return AuthError(
            f"Prodigy's database: the right to {right} is missing, or the login is wrong: {said}", system=SYSTEM
        )
    return kind(f"Prodigy's database: {said}", system=SYSTEM)


def _kind(error: Exception, cause: Any, said: str) -> type[Any]:
    module = type(cause).__module__.partition(".")[0]
    if module == "sqlite3":
        return _sqlite_kind(said)
    if module == "psycopg":
        return _postgres_kind(getattr(cause, "sqlstate", None), said)
    if module == "pymysql":
        code = cause.args[0] if cause.args and isinstance(cause.args[0], int) else None
        if code in (1153, 1406, 1264):
            return InvalidInput
        if code == 1062:
            return Conflict
        # 0: PyMySQL found its own connection closed.
        return Unavailable if code in (None, 0) else _MYSQL.get(code, InvalidReply)
    return Unavailable if getattr(error, "connection_invalidated", False) else InvalidReply


def _sqlite_kind(said: str) -> type[OutsideError]:
    for words, kind in (
        (("unable to open",), NotFound),
        (("locked", "busy", "disk i/o", "disk is full"), Unavailable),
        (("readonly",), AuthError),
        (("unique constraint",), Conflict),
    ):
        if any(word in said.lower() for word in words):
            return kind
    return InvalidReply


def _postgres_kind(state: str | None, said: str) -> type[Any]:
    if state is None:
        # libpq gives no code for a failed connection, only words.
        lower = said.lower()
        if any(
            word in lower
            for word in ("authentication failed", "pg_hba.conf", "no password", "role ", "permission denied")
        ):
            return AuthError
        return NotFound if "does not exist" in lower else Unavailable
    # 23503: the dataset that is linked to was dropped meanwhile.
    if state in ("40001", "40P01", "23503"):
        return Again
    if state == "42501" or state.startswith("28") or state == "25006":
        return AuthError
    if state == "3D000":
        return NotFound
    if state == "23505":
        return Conflict
    if state.startswith("22"):
        return InvalidInput
    return Unavailable if state.startswith(_POSTGRES_LATER) else InvalidReply


def unlike(where: str, column: str, expected: str, found: object) -> InvalidReply:
    """Return the error for a cell of another type, which SQLite lets anybody write into any column."""
    told = f"Prodigy's database: {where}: {column}: found {type(found).__name__}; allowed: {expected}"
    return InvalidReply(told, system=SYSTEM)
