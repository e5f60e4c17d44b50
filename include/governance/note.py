"""Checkpoints as other transparency-log tools read them: C2SP ``tlog-checkpoint`` inside a C2SP ``signed-note``.

The text that is signed::

    labelops/ledger/<ledger id>/<epoch>       the origin: a recovery from a loss begins a new log
    <number of events>
    <root of the Merkle tree, base64>
    head <chain hash of the last event, hex>
    time <time of the last event>

An empty line follows, then one line for each signature: ``— <key name> <base64 of key id and signature>``. The key's
name is the origin; its id here is short: the first four bytes of ``SHA-256(name || 0x0A || 0x01 || public key)``.
Sources: c2sp.org/signed-note and c2sp.org/tlog-checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from include.base.errors import InvalidInput
from include.base.signing import PublicKey, Signer
from include.governance.records import Head

__all__ = ["Note", "Signature", "TreeHead", "origin", "read_note", "read_tree_head", "sign_note"]

SIGNATURES_READ = 64
"""Signatures that are looked at in one note: more is no checkpoint of ours, nor a witnessed one."""

_ED25519 = b"\x01"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_HEAD = re.compile(r"head ([0-9a-f]{64})")
_TIME = re.compile(r"time (\S{27})")
_ORIGIN = re.compile(r"labelops/ledger/([^/\s+]+)/([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line.

    :param name: the key's name.
    :param short_id: four bytes that tell keys of one name apart.
    """

    name: str
    short_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A signed text.

    :param text: what is signed, up to and with its last line end.
    """

    text: str
    signatures: tuple[Signature, ...]

    def signed_by(self, keys: Iterable[PublicKey]) -> PublicKey | None:
        """Return the first of some trusted keys that signed this text, None where none of them did.

        A signature of another key is left alone, as the format asks.

        :raises InvalidInput: when a line claims to be of a trusted key and its signature is wrong.
        """
        for key in keys:
            for signature in self.signatures:
                if signature.short_id != _short_id(signature.name, key):
                    continue
                if not key.verifies(self.text.encode(), signature.value):
                    raise InvalidInput(f"the signature in the name of key {key.key_id} is not of this text")
                return key
        return None


@dataclass(frozen=True, slots=True)
class TreeHead:
    """What a checkpoint's text says.

    :param root: 32 bytes, the root of the Merkle tree over the events.
    """

    head: Head
    root: bytes

    @property
    def text(self) -> str:
        """Return the text that is signed."""
        lines = (
            origin(self.head),
            str(self.head.size),
            base64.b64encode(self.root).decode("ascii"),
            f"head {self.head.hash}",
            f"time {self.head.time}",
        )
        return "".join(f"{line}\n" for line in lines)


def origin(head: Head) -> str:
    """Return the name of the log that a ledger is in its present epoch."""
    return f"labelops/ledger/{head.ledger_id}/{head.epoch}"


def sign_note(text: str, name: str, signer: Signer) -> str:
    """Return a text with the signature of a key under a name. The same text always gives the same note."""
    value = _short_id(name, signer.public) + signer.sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(value).decode('ascii')}\n"


def read_note(content: str, source: str) -> Note:
    """Take a note apart. What it says is worth nothing before :meth:`Note.signed_by` has named a trusted key.

    :raises InvalidInput: naming ``source`` when it is no signed note.
    """
    text, blank, rest = content.rpartition("\n\n")
    lines = rest.split("\n")
    if not blank or not text or lines.pop() != "" or not lines or _CONTROL.search(content):
        raise InvalidInput(f"{source}: no signed note: expected a text, an empty line, and signature lines")
    if len(lines) > SIGNATURES_READ:
        raise InvalidInput(f"{source}: {len(lines)} signatures; at most {SIGNATURES_READ} are read")
    return Note(f"{text}\n", tuple(_read_signature(line, source) for line in lines))


def read_tree_head(text: str, source: str) -> TreeHead:
    """Return what a checkpoint's text says of one of our ledgers.

    :raises InvalidInput: naming ``source`` and the line when it is another log's, or malformed.
    """
    lines = text.split("\n")
    if len(lines) != 6 or lines[5]:
        raise InvalidInput(f"{source}: expected a checkpoint of five lines, found {len(lines) - 1}")
    log, head, time = _ORIGIN.fullmatch(lines[0]), _HEAD.fullmatch(lines[3]), _TIME.fullmatch(lines[4])
    if log is None:
        raise InvalidInput(f"{source}, line 1: {lines[0]!r} is no ledger; expected labelops/ledger/<id>/<epoch>")
    if not re.fullmatch(r"[1-9][0-9]{0,17}", lines[1]):
        raise InvalidInput(f"{source}, line 2: {lines[1][:30]!r} is no number of events")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except binascii.Error:
        root = b""
    if len(root) != 32:
        raise InvalidInput(f"{source}, line 3: {lines[2][:60]!r} is no root; expected 32 bytes in base64")
    if head is None or time is None:
        raise InvalidInput(f"{source}, lines 4 and 5: expected `head <64 hex>` and `time <27 characters>`")
    return TreeHead(Head(log[1], int(log[2]), int(lines[1]), head[1], time[1]), root)


def _read_signature(line: str, source: str) -> Signature:
    match = _SIGNATURE.fullmatch(line)
    try:
        value = base64.b64decode(match[2], validate=True) if match else b""
    except binascii.Error:
        value = b""
    if match is None or len(value) <= 4:
        raise InvalidInput(f"{source}: {line[:60]!r} is no signature line; expected `— <key name> <base64>`")
    return Signature(match[1], value[:4], value[4:])


def _short_id(name: str, key: PublicKey) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + key.raw).digest()[:4]
