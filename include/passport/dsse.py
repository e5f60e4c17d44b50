"""DSSE envelopes: a payload, its type, and signatures over both at once.

Protocol: "DSSE: Dead Simple Signing Envelope" 1.0.0 (secure-systems-lab/dsse, ``protocol.md`` and ``envelope.md``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from include.base.canonical import canonical_json
from include.base.errors import InvalidInput
from include.base.reading import parse_json
from include.base.signing import PublicKey, Signer

__all__ = ["IN_TOTO", "Envelope", "pae", "read_envelope", "seal"]

IN_TOTO = "application/vnd.in-toto+json"
"""Payload type of an in-toto statement (in-toto attestation framework, envelope layer)."""


@dataclass(frozen=True)
class Envelope:
    """An envelope that was read, not yet checked. ``signatures`` holds (key id, signature); the id is only a hint."""

    payload: bytes
    payload_type: str
    signatures: Sequence[tuple[str, bytes]]

    def signed_by(self, key: PublicKey) -> bool:
        """Tell whether one of the signatures is this key's, over exactly this payload and type."""
        message = pae(self.payload_type, self.payload)
        return any(key.verifies(message, signature) for _, signature in self.signatures)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed, the protocol's pre-authentication encoding of type and payload."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, payload_type: str, signer: Signer) -> bytes:
    """Return the signed envelope as JSON; the same payload and key always give the same bytes."""
    signature = signer.sign(pae(payload_type, payload))
    return canonical_json(
        {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": payload_type,
            "signatures": [{"keyid": signer.public.key_id, "sig": base64.b64encode(signature).decode("ascii")}],
        }
    )


def read_envelope(content: bytes, source: str) -> Envelope:
    """Return the envelope in a file's content. Both base64 alphabets are read, as the protocol demands.

    :raises InvalidInput: naming ``source`` and the field that is not what it must be.
    """
    value = parse_json(content, source)
    if not isinstance(value, dict):
        raise InvalidInput(f"{source}: found {type(value).__name__}; allowed: an object")
    kind, signatures = value.get("payloadType"), value.get("signatures")
    if not isinstance(kind, str):
        raise InvalidInput(f"{source}: payloadType: found {kind!r}; allowed: text")
    if not isinstance(signatures, list) or not all(isinstance(one, dict) for one in signatures):
        raise InvalidInput(f"{source}: signatures: found {str(signatures)[:80]}; allowed: a list of objects")
    return Envelope(
        payload=_decoded(value.get("payload"), f"{source}: payload"),
        payload_type=kind,
        signatures=[
            (str(one.get("keyid", "")), _decoded(one.get("sig"), f"{source}: signatures: {number}: sig"))
            for number, one in enumerate(signatures)
        ],
    )


def _decoded(text: object, place: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidInput(f"{place}: found {type(text).__name__}; allowed: base64 text")
    try:
        return base64.b64decode(text.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{place}: not base64 ({error})") from error
