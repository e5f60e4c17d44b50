"""Unlinking datasets and deleting examples: the only statements that delete, and no DAG calls them by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from sqlalchemy import Connection, delete, func, select

from include.base.errors import Refused
from labelops.hooks.prodigy.database import Database
from labelops.hooks.prodigy.statements import LOOKUP, exact

__all__ = ["Removing"]


class Removing(Database):
    """What is removed, on a person's decision."""

    def unlink(self, dataset: str) -> int:
        """Remove a dataset and its links as Prodigy's drop does, in one transaction; return the number of links.

        The examples stay in the database: those of a session are still linked to it, and others can be found by id
        only. Whoever has to destroy content needs :meth:`delete_examples` as well. No DAG calls this: it takes a
        retention decision. A dataset that is not there is no error, so the call may be repeated.

        :raises Refused: when the name is a session's.
        :raises AuthError: naming the right that is missing; nothing was removed.
        """
        schema = self._tables()
        self._refuse_new_structured(schema, dataset)
        table, link = schema.dataset, schema.link

        def unlinked(conn: Connection) -> int | None:
            found = exact(
                conn.execute(select(table.c.id, table.c.name, table.c.session).where(table.c.name == dataset)).all(),
                dataset,
            )
            if found is None:
                return None
            if found.session:
                raise Refused(f"dataset {dataset} is a session: sessions belong to people, Labelops never removes them")
            links = conn.scalar(select(func.count()).select_from(link).where(link.c.dataset_id == found.id))
            conn.execute(delete(link).where(link.c.dataset_id == found.id))
            conn.execute(delete(table).where(table.c.id == found.id))
            return int(links or 0)

        removed = self._transaction(unlinked, dataset=dataset, right="delete from dataset and link")
        if removed is not None:
            self.log.info("Removed the Prodigy dataset %s and its %s links; its examples stay", dataset, removed)
        return removed or 0

    def delete_examples(self, example_ids: Iterable[int]) -> int:
        """Delete examples and every link to them, those of sessions and versions too; return how many were deleted.

        Each few hundred are one transaction, so that Prodigy's own saves get their turn: a call that was cut short is
        repeated with the same ids. No DAG calls this: it takes a retention decision. On SQLite the ids of deleted
        rows may be given out again, and the bytes stay in the file's free pages until it is vacuumed.

        :raises AuthError: naming the right that is missing; nothing was deleted.
        """
        schema = self._tables()
        example, link = schema.example, schema.link
        waiting: Iterator[int] = iter(example_ids)
        removed = 0
        while some := list(islice(waiting, LOOKUP)):

            def deleted(conn: Connection, some: list[int] = some) -> int:
                conn.execute(delete(link).where(link.c.example_id.in_(some)))
                return int(conn.execute(delete(example).where(example.c.id.in_(some))).rowcount)

            removed += self._transaction(deleted, right="delete from link and example")
        if removed:
            self.log.info("Deleted %s examples and their links from Prodigy's database", removed)
        return removed
