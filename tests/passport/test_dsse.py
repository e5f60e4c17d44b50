"""DSSE and the in-toto statement, against what their specifications publish."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from include.base.canonical import digest_of, sha256_hex
from include.base.errors import InvalidInput
from include.passport.dsse import IN_TOTO, pae, read_envelope, seal
from include.passport.statement import read_statement
from tests.datasets.make import GUIDELINE
from tests.passport.make import SIGNER, STRANGER, released


def test_the_published_example_of_the_protocol() -> None:
    """Source: secure-systems-lab/dsse, ``protocol.md`` 1.0.0, section "Test Vectors"."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    published = (
        b'{"payload": "aGVsbG8gd29ybGQ=",\n "payloadType": "http://example.com/HelloWorld",\n "signatures": [{"sig": '
        b'"A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}'
    )
    read = read_envelope(published, "example")
    assert (read.payload, read.payload_type) == (b"hello world", "http://example.com/HelloWorld")
    assert len(read.signatures[0][1]) == 64


def test_the_published_signature_holds_over_our_encoding() -> None:
    """The same example: ECDSA over P-256 with SHA-256, the signature as r and s, 32 bytes each."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    x = 46950820868899156662930047687818585632848591499744589407958293238635476079160
    y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
    raw = base64.b64decode("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    key.verify(signature, pae("http://example.com/HelloWorld", b"hello world"), ec.ECDSA(hashes.SHA256()))


def test_lengths_are_of_bytes_not_of_characters() -> None:
    assert pae("ä", "🙂".encode()) == b"DSSEv1 2 \xc3\xa4 4 \xf0\x9f\x99\x82"


def test_what_was_sealed_is_read_and_checked() -> None:
    sealed = seal(b"hello", IN_TOTO, SIGNER)
    assert sealed == seal(b"hello", IN_TOTO, SIGNER)
    read = read_envelope(sealed, "x")
    assert read.payload == b"hello"
    assert read.signed_by(SIGNER.public)
    assert not read.signed_by(STRANGER.public)
    value = json.loads(sealed)
    value["signatures"][0]["keyid"] = "a hint, and only that"
    value["signatures"][0]["sig"] = value["signatures"][0]["sig"].replace("+", "-").replace("/", "_")
    assert read_envelope(json.dumps(value).encode(), "x").signed_by(SIGNER.public)
    value["payloadType"] = "application/json"
    assert not read_envelope(json.dumps(value).encode(), "x").signed_by(SIGNER.public)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "an object"),
        (b'{"payload": "", "signatures": []}', "payloadType"),
        (b'{"payload": "", "payloadType": "x", "signatures": {}}', "signatures"),
        (b'{"payload": 1, "payloadType": "x", "signatures": []}', "payload"),
        (b'{"payload": "$", "payloadType": "x", "signatures": []}', "not base64"),
    ],
)
def test_what_is_no_envelope_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_envelope(content, "envelope")


@pytest.mark.proves("a signed statement binds digest, guideline, labels, policy and approvals of a release")
def test_the_statement_binds_what_the_release_rests_on(tmp_path: Path) -> None:
    import jsonschema

    folder = released(tmp_path)
    envelope = read_envelope((folder / "attestation.json").read_bytes(), "attestation.json")
    assert envelope.payload_type == "application/vnd.in-toto+json"
    said = read_statement(envelope.payload, "statement")
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    version = sha256_hex((folder / "manifest.json").read_bytes())

    subjects = {one["name"]: one["digest"]["sha256"] for one in said["subject"]}
    assert subjects.pop("dataset-version:ticket_topics/1") == version
    assert subjects == {
        path.name: sha256_hex(path.read_bytes())
        for path in folder.iterdir()
        if path.name not in ("attestation.json", "signing-key.pem", "checksums.json")
    }

    predicate = said["predicate"]
    assert predicate["version"]["digest"] == version
    assert predicate["guidelines"] == [{"number": 3, "digest": GUIDELINE, "answers": 8}]
    assert predicate["labels"]["names"] == ["account", "billing", "delivery", "other"]
    assert predicate["policyDigest"] == manifest["policy_digest"]
    assert predicate["registerDigest"] == manifest["register_digest"]
    assert predicate["ledger"]["size"] == 42
    assert predicate["releasedAt"] == "2026-05-02T10:00:00+00:00"
    assert predicate["gates"][0] | {"checks": 2, "failed": 1} == predicate["gates"][0]
    decisions = json.loads((folder / "approvals.json").read_bytes())["approvals"]
    assert [one["digest"] for one in predicate["approvals"]] == [digest_of(one) for one in decisions]
    dana = next(one for one in predicate["approvals"] if one["person"] == "dana")
    assert dana["statementDigest"] == sha256_hex(f"[1] I approve dataset version {version} as data_owner.".encode())
    assert "people.example" not in envelope.payload.decode()

    schema = json.loads((Path(__file__).parents[2] / "include/passport/schemas/release-predicate.json").read_bytes())
    jsonschema.Draft202012Validator(schema).validate(predicate)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_type": "x"}, "_type"),
        ({"predicateType": "x"}, "predicateType"),
        ({"predicate": []}, "predicate"),
        ({"subject": [{"name": "x"}]}, "subject"),
    ],
)
def test_another_statement_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    said = json.loads((released(tmp_path, None) / "statement.json").read_bytes())
    with pytest.raises(InvalidInput, match=words):
        read_statement(json.dumps({**said, **change}).encode(), "statement")
