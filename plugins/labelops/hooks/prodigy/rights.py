"""What the account may do."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, literal, select
from sqlalchemy.exc import SQLAlchemyError

from include.base.errors import LabelopsError
from labelops.hooks.prodigy.database import Database
from labelops.hooks.prodigy.errors import database_error
from labelops.hooks.prodigy.schema import Schema, check_sequence

__all__ = ["RightsCheck"]


class RightsCheck(Database):
    """What the account may do."""

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the account may do what Labelops needs, and which right is missing if not."""
        try:
            schema = self._tables()
            with self._reading() as conn:
                counts = {
                    session: conn.scalar(
                        select(func.count())
                        .select_from(schema.dataset)
                        .where(schema.dataset.c.session == schema.session_flag(session))
                    )
                    for session in (False, True)
                }
                for table in (schema.example, schema.link):
                    conn.execute(select(table.c.id).limit(1)).all()
            self._check_write_rights(schema)
        except LabelopsError as error:
            return False, str(error)
        said = (
            f"Prodigy's tables on {self.get_conn().dialect.name}: {counts[False]} datasets, {counts[True]} sessions; "
            "may read and insert"
        )
        if schema.structured:
            said += f"; not readable: {', '.join(schema.structured)}"
        return True, said

    def _check_write_rights(self, schema: Schema) -> None:
        """Try inserts that select no row, so that every right is checked and nothing is written."""

        def tried(conn: Connection) -> None:
            for table in (schema.dataset, schema.example, schema.link):
                columns = [column for column in table.c if column.name != "id"]
                nothing = select(*columns).where(literal(1) == literal(0))
                try:
                    conn.execute(insert(table).from_select([column.name for column in columns], nothing))
                    conn.execute(
                        select(schema.dataset.c.id).where(schema.dataset.c.id < 0).with_for_update(key_share=True)
                    )
                    check_sequence(conn, table.name)
                except SQLAlchemyError as error:
                    raise database_error(error, f"insert into {table.name}") from error

        self._transaction(tried)
