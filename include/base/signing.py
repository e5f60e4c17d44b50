"""Ed25519 signatures (RFC 8032): who holds the installation's key has said this, checked with the public half alone.

The private key is a PKCS #8 PEM file without a password that only its owner, or its group, may read; the public one is
the usual SubjectPublicKeyInfo PEM. A key's id is the SHA-256 of its 32 raw public bytes.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from include.base.canonical import sha256_hex
from include.base.errors import InvalidInput

__all__ = ["PublicKey", "Signer", "make_key", "read_public_key", "read_signer"]


class PublicKey:
    """The half of a key that everybody may have."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    @property
    def raw(self) -> bytes:
        """Return its 32 bytes."""
        return self._key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    @property
    def pem(self) -> bytes:
        """Return it as a PEM file's content."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_id(self) -> str:
        """Return what names it: 64 hex characters."""
        return sha256_hex(self.raw)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the holder of the private half signed exactly this message."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Signer:
    """The installation's key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    def __repr__(self) -> str:
        return f"Signer({self.public.key_id})"

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes; the same message always gives the same one."""
        return self._key.sign(message)


def read_signer(path: Path) -> Signer:
    """Return the key in a file.

    :raises InvalidInput: when there is none, it is no Ed25519 key, or everybody may read it.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: the signing key cannot be read ({error.strerror})") from error
    if mode & 0o027:
        raise InvalidInput(
            f"{path}: everybody may read, or its group may change, the signing key; allowed: mode 0600 or 0640"
        )
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{path}: holds no PEM private key without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput(f"{path}: found a {type(key).__name__}; allowed: an Ed25519 key")
    return Signer(key)


def make_key(path: Path) -> Signer:
    """Make a key in a new file that only its owner may read.

    :raises InvalidInput: when the file exists: a key that was replaced could sign no old promise anew.
    """
    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InvalidInput(f"{path}: is there already; a signing key is never overwritten") from error
    with os.fdopen(handle, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    return Signer(key)


def read_public_key(content: bytes, source: str) -> PublicKey:
    """Return the public key in a PEM file's content.

    :raises InvalidInput: naming ``source`` when it is none.
    """
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{source}: holds no PEM public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput(f"{source}: found a {type(key).__name__}; allowed: an Ed25519 key")
    return PublicKey(key)
