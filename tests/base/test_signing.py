"""The installation's key: its files, and that it is the only one that can sign for itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from include.base.canonical import sha256_hex
from include.base.errors import InvalidInput
from include.base.signing import Signer, make_key, read_public_key, read_signer

# RFC 8032, section 7.1, test 2: secret key, public key, message, signature.
SECRET = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_the_published_vector() -> None:
    signer = Signer(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SECRET)))
    assert signer.public.raw.hex() == PUBLIC
    assert signer.public.key_id == sha256_hex(bytes.fromhex(PUBLIC))
    assert signer.sign(b"\x72").hex() == SIGNATURE


def test_a_key_is_made_once_and_read_again(tmp_path: Path) -> None:
    made = make_key(tmp_path / "keys" / "signing.pem")
    again = read_signer(tmp_path / "keys" / "signing.pem")
    public = read_public_key(made.public.pem, "public.pem")
    signature = again.sign(b"said")
    assert public.verifies(b"said", signature)
    assert not public.verifies(b"Said", signature)
    assert not public.verifies(b"said", signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not public.verifies(b"said", b"")
    assert not make_key(tmp_path / "other.pem").public.verifies(b"said", signature)
    with pytest.raises(InvalidInput, match="never overwritten"):
        make_key(tmp_path / "keys" / "signing.pem")


def test_bad_key_files_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "key.pem"
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_signer(place)
    place.write_text("nonsense")
    place.chmod(0o644)
    with pytest.raises(InvalidInput, match="mode 0600"):
        read_signer(place)
    place.chmod(0o600)
    with pytest.raises(InvalidInput, match="no PEM private key"):
        read_signer(place)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    place.write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(InvalidInput, match="RSAPrivateKey; allowed: an Ed25519 key"):
        read_signer(place)
    with pytest.raises(InvalidInput, match=r"x\.pem: holds no PEM public key"):
        read_public_key(b"nonsense", "x.pem")


def test_a_signer_shows_no_secret(tmp_path: Path) -> None:
    signer = make_key(tmp_path / "key.pem")
    assert repr(signer) == f"Signer({signer.public.key_id})"
