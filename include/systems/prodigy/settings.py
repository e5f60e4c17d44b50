"""Where Prodigy's database is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from include.base.errors import InvalidInput

__all__ = ["Settings", "read_settings"]

_MYSQL = {"unix_socket", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_cert", "ssl_verify_identity", "ssl_disabled"}

OPTIONS = {
    "sqlite": {"path"},
    "postgresql": {"sslmode", "sslrootcert", "sslcert", "sslkey", "options", "application_name"},
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
"""What a connection's ``extra`` may hold beside the ``engine``."""


@dataclass(frozen=True)
class Settings:
    """Where Prodigy's database is, and how to log in.

    :param engine: ``sqlite``, ``postgresql``, ``mysql`` or ``mariadb``.
    :param database: its name; for SQLite the path of its file.
    :param options: the driver's own, such as those for TLS.
    """

    engine: str
    database: str
    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)


def read_settings(connection: Any) -> Settings:
    """Return the settings in a connection: ``conn_id``, ``host``, ``schema``, ``port``, ``login``, ``password``, extra.

    :raises InvalidInput: naming the field that is filled in wrongly.
    """
    conn_id, extra = connection.conn_id, dict(connection.extra_dejson)
    engine = str(extra.pop("engine", None) or "sqlite").lower()
    if engine not in OPTIONS:
        raise InvalidInput(f"connection {conn_id}: extra.engine: found {engine!r}; allowed: {', '.join(OPTIONS)}")
    foreign = sorted(set(extra) - OPTIONS[engine])
    if foreign:
        raise InvalidInput(
            f"connection {conn_id}: extra: found {', '.join(foreign)}; "
            f"allowed for {engine}: {', '.join(sorted({'engine', *OPTIONS[engine]}))}"
        )
    if engine == "sqlite":
        path = extra.get("path") or connection.host
        if not path:
            raise InvalidInput(
                f"connection {conn_id}: host: found nothing; allowed: the path of Prodigy's database file"
            )
        return Settings(engine, path)
    if not connection.schema:
        raise InvalidInput(f"connection {conn_id}: schema: found nothing; allowed: the name of Prodigy's database")
    return Settings(
        engine,
        connection.schema,
        host=connection.host or None,
        port=connection.port or None,
        login=connection.login or None,
        password=connection.password or None,
        options={key: value for key, value in extra.items() if value is not None},
    )
