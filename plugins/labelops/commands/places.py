"""What several verbs are told: which ledger, which store, which keys and files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from include.base.errors import InvalidInput, LedgerBehind
from include.base.signing import PublicKey, Signer, read_public_key, read_signer
from include.base.store import Store
from include.governance.ledger import Ledger
from include.settings import settings

__all__ = ["add_public_keys", "add_store", "on_ledger", "public_keys", "read_text", "signer", "store", "store_or_none"]


def on_ledger(parser: argparse.ArgumentParser, command: Callable[[Ledger, argparse.Namespace], int]) -> None:
    """Let a verb work on the ledger: opened for it, closed after it; exit code 1 where events were lost."""
    parser.add_argument("--ledger", metavar="URL", help="the ledger's database (default: LABELOPS_LEDGER)")

    def run(options: argparse.Namespace) -> int:
        ledger = Ledger(options.ledger or settings().ledger_url)
        try:
            return command(ledger, options)
        except LedgerBehind as error:
            sys.stderr.write(f"{error}\n")
            return 1
        finally:
            ledger.close()

    parser.set_defaults(command=run)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Let a verb be told where the store is."""
    words = "the store's folder (default: LABELOPS_STORE where it is a folder)"
    parser.add_argument("--store", metavar="DIR", help=words)


def store(options: argparse.Namespace) -> Store:
    """Return the store as a folder.

    :raises InvalidInput: where it is none.
    """
    place = options.store or settings().store
    if "://" in place:
        raise InvalidInput(f"{place} is no folder: name a copy of the store with --store")
    return Store(Path(place))


def store_or_none(options: argparse.Namespace) -> Store | None:
    """Return the store, None where the installation's is no folder and no other was named."""
    return store(options) if options.store or "://" not in settings().store else None


def add_public_keys(parser: argparse.ArgumentParser) -> None:
    """Let a verb be told whose signatures count."""
    words = "trust signatures of this key alone (PEM file); may be repeated"
    parser.add_argument("--public-key", type=Path, action="append", default=[], metavar="FILE", help=words)


def public_keys(options: argparse.Namespace) -> list[PublicKey]:
    """Return the keys named."""
    return [read_public_key(read_text(path).encode(), str(path)) for path in options.public_key]


def signer() -> Signer | None:
    """Return the installation's signing key, None where it has none."""
    file = settings().signing_key
    return read_signer(file) if file else None


def read_text(path: Path) -> str:
    """Return a file's text.

    :raises InvalidInput: where it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read ({error})") from error
