"""Making the files of a passport: first those that describe the data, then the statement that binds them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from include.base.store import StorePath
from include.passport import dsse
from include.passport.card import dataset_card
from include.passport.croissant import croissant
from include.passport.facts import ATTESTATION, CARD, CROISSANT, KEY, LINEAGE, UNSIGNED, Column, Facts
from include.passport.statement import statement

if TYPE_CHECKING:
    from include.base.signing import Signer

__all__ = ["bind", "columns_of", "describe"]


def describe(facts: Facts) -> dict[str, bytes]:
    """Return what describes the release, by file name."""
    from include.passport import lineage  # loads an HTTP client that nothing else here needs

    found = {CARD: dataset_card(facts).encode("utf-8"), CROISSANT: croissant(facts)}
    if facts.moment is not None:
        found[LINEAGE] = lineage.content(lineage.events(facts))
    return found


def bind(facts: Facts, subjects: Mapping[str, str], signer: Signer | None) -> dict[str, bytes]:
    """Return what binds the release: the signed statement and the public key, or the bare statement.

    :param subjects: SHA-256 by name of all files written so far.
    """
    said = statement(facts, subjects)
    if signer is None:
        return {UNSIGNED: said}
    return {ATTESTATION: dsse.seal(said, dsse.IN_TOTO, signer), KEY: signer.public.pem}


def columns_of(parquet: StorePath) -> tuple[Column, ...]:
    """Return the columns of a Parquet file; the values are not read."""
    import pyarrow.parquet

    with parquet.open("rb") as content:
        return tuple(_column(field.name, field.type) for field in pyarrow.parquet.read_schema(content))


def _column(name: str, kind: Any) -> Column:
    import pyarrow

    repeated = pyarrow.types.is_nested(kind) and not pyarrow.types.is_struct(kind)
    one = kind.value_type if repeated else kind
    if pyarrow.types.is_struct(one):
        return Column(name, "struct", repeated, tuple(_column(part.name, part.type) for part in one))
    return Column(name, str(one), repeated)
