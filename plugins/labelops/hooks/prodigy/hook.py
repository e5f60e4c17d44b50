"""The one door to Prodigy's SQL database (SQLite, PostgreSQL, MySQL and MariaDB)."""

from __future__ import annotations

from labelops.hooks.prodigy.counting import Counting
from labelops.hooks.prodigy.incremental import Incremental
from labelops.hooks.prodigy.removing import Removing
from labelops.hooks.prodigy.rights import RightsCheck
from labelops.hooks.prodigy.writing import Writing

__all__ = ["ProdigyHook"]


class ProdigyHook(Incremental, Counting, Writing, Removing, RightsCheck):
    """Read answers from Prodigy's database, and append tasks, decisions and versions to it.

    The tables belong to Prodigy: none is created or altered, no row is ever updated, and nothing is written under a
    session, for sessions are people's. Rows are deleted by :meth:`unlink` and :meth:`delete_examples` alone, which no
    DAG calls: they take a retention decision, and a right that Labelops needs for nothing else.

    A statement that deadlocked is tried again a few times, and somebody else's lock is waited for, up to 30 seconds;
    everything else is left to the task's retry policy. Connections are opened when needed and held for one statement
    or one transaction, never while the caller works on a row: so a Prodigy that saves to the same SQLite file waits for
    some thousand rows to be read or written at most, well under the five seconds after which it gives up.

    Prodigy links an answer twice, to the dataset and to the session of the person; what Labelops adds has one link,
    the dataset's, as nobody gave it in a session. Content is compact ASCII JSON with its keys in the order given, byte
    for byte as Prodigy writes it; on PostgreSQL and SQLite the ids are taken as the database itself would.

    The connection: ``host`` (for SQLite the path of the file), ``schema`` (the database), ``login``, ``password``,
    ``port``, and in ``extra`` the ``engine``: ``sqlite`` (the default), ``postgresql``, ``mysql`` or ``mariadb``; for
    SQLite also ``path`` instead of the host, else the driver's own TLS settings.

    :param prodigy_conn_id: id of the Airflow connection.
    """
