"""Who may see and edit a page of the local Confluence: its own restrictions, and the read ones of pages above it.

An operation without a row is open to everybody. Several users and groups of one operation are alternatives; the rules
of several pages must all be met. Whoever may not read may not update. Nobody is let in for being the author: the
service refuses to write restrictions that would lock the writer out instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from include.sandbox.confluence.database import Database

__all__ = ["HIDDEN", "ancestors", "may", "named"]

HIDDEN = """(with recursive closed(id) as (select page_id from restrictions r where operation = 'read' and not exists
    (select 1 from restrictions x where x.page_id = r.page_id and x.operation = 'read' and (x.kind = 'user' and
    x.subject = ? or x.kind = 'group' and x.subject in (select group_name from members where account_id = ?)))
    union select tree.id from tree join closed on tree.parent_id = closed.id) select id from closed)"""
"""The ids of what an account may not read, as a subquery; its two values are both the account's id."""


def ancestors(database: Database, page_id: int) -> list[int]:
    """Return the ids of the pages (and folders) above, the top one first."""
    found: list[int] = []
    while True:
        row = database.row("select parent_id from tree where id = ?", (found[-1] if found else page_id,))
        if row is None or row["parent_id"] is None or row["parent_id"] in found:
            return found[::-1]
        found.append(row["parent_id"])


def named(database: Database, page_id: int, operation: str) -> Iterator[tuple[str, str]]:
    """Yield kind (``user``, ``group``) and subject of a page's own restrictions of an operation."""
    sql = "select kind, subject from restrictions where page_id = ? and operation = ? order by kind, subject"
    for row in database.rows(sql, (page_id, operation)):
        yield row["kind"], row["subject"]


def may(database: Database, page_id: int, account_id: str | None, operation: str) -> bool:
    """Tell whether an account may ``read`` or ``update`` a page.

    :param account_id: None is a visitor, who is let in only where nothing is restricted.
    """
    if database.row("select 1 from restrictions") is None:
        return True
    groups = {
        row["group_name"] for row in database.rows("select group_name from members where account_id = ?", (account_id,))
    }

    def meets(page: int, wanted: str) -> bool:
        rules = list(named(database, page, wanted))
        return not rules or any(
            subject == account_id if kind == "user" else subject in groups for kind, subject in rules
        )

    readable = all(meets(page, "read") for page in (*ancestors(database, page_id), page_id))
    return readable and (operation == "read" or meets(page_id, "update"))
