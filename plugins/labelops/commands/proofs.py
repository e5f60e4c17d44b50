"""Signed checkpoints and proofs that travel, and the key that signs.

Exit codes: 0 all is well, 1 the ledger or the proof is not what it says, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from include.base.errors import InvalidInput
from include.base.reading import parse_json
from include.base.signing import make_key
from include.base.text import printable
from include.governance import checkpoint, proof
from include.governance.ledger import Ledger
from labelops.commands.places import (
    add_public_keys,
    add_store,
    on_ledger,
    public_keys,
    read_text,
    store,
    store_or_none,
)

__all__ = ["add_check_proof", "add_keygen", "add_note", "add_prove"]


def add_note(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``note``."""
    add_store(parser)
    parser.set_defaults(command=_note)


def _note(options: argparse.Namespace) -> int:
    content = checkpoint.last_note(store(options))
    if content is None:
        raise InvalidInput("no checkpoint is signed yet")
    sys.stdout.write(content)
    return 0


def add_prove(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``prove``."""
    on_ledger(parser, _prove)
    add_store(parser)
    parser.add_argument("what", choices=("inclusion", "consistency"))
    parser.add_argument("number", type=int, nargs="+", metavar="N", help="an event's number, or two numbers of events")
    parser.add_argument("--size", type=int, help="lead to the tree of so many events (inclusion only)")


def _prove(ledger: Ledger, options: argparse.Namespace) -> int:
    wanted = {"inclusion": 1, "consistency": 2}[options.what]
    if len(options.number) != wanted:
        raise InvalidInput(f"{options.what} takes {wanted} number{'s' if wanted > 1 else ''}")
    kept = store_or_none(options)
    if options.what == "inclusion":
        made = proof.prove_inclusion(ledger, kept, options.number[0], options.size)
    else:
        made = proof.prove_consistency(ledger, kept, *options.number)
    sys.stdout.write(json.dumps(made, ensure_ascii=False, indent=1) + "\n")
    return 0


def add_check_proof(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``check-proof``."""
    parser.add_argument("file", type=Path, help="the proof's JSON file")
    add_public_keys(parser)
    parser.add_argument("--note", type=Path, metavar="FILE", help="the signed checkpoint that it has to lead to")
    parser.set_defaults(command=_check_proof)


def _check_proof(options: argparse.Namespace) -> int:
    value = parse_json(read_text(options.file), str(options.file))
    outcome = proof.check_proof(value, public_keys(options), read_text(options.note) if options.note else None)
    for sentence in outcome.sentences:
        sys.stdout.write(printable(sentence) + "\n")
    return 0 if outcome.ok else 1


def add_keygen(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``keygen``."""
    words = "the new PEM file; LABELOPS_SIGNING_KEY names it to the installation"
    parser.add_argument("file", type=Path, help=words)
    parser.set_defaults(command=_keygen)


def _keygen(options: argparse.Namespace) -> int:
    signer = make_key(options.file)
    sys.stdout.write(f"The key {signer.public.key_id} is in {options.file}. Its public half, for whoever verifies:\n")
    sys.stdout.write(signer.public.pem.decode("ascii"))
    return 0
