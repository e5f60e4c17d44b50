"""TFRecord files of ``tf.train.Example`` messages, with ``labels.json`` and ``features.json``.

A record is its length (8 bytes, little endian), the masked CRC-32C of those, the message, and the masked CRC-32C of the
message (tensorflow/core/lib/io/record_writer.cc). Messages are spelled out here, features sorted by name, for the bytes
of a protocol buffer map are otherwise in no order. Columns are those of :mod:`include.exports.features`; whole numbers
are ``int64``, fractions 32-bit floats, text UTF-8 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from include.exports.features import Column, encoder
from include.exports.output import Job

__all__ = ["example", "masked_crc", "record", "write"]


def write(job: Job) -> None:
    """Write ``<part>.tfrecord``, ``labels.json`` and ``features.json``."""
    made = encoder(job)
    names = {part: f"{part or 'data'}.tfrecord" for part in job.parts}
    counts = dict.fromkeys(job.parts, 0)
    with ExitStack() as stack:
        files = {part: stack.enter_context(job.out.path(name).open("wb")) for part, name in names.items()}
        for part, row in job.items():
            values = job.made(made.encode, row)
            if values is not None:
                files[part].write(record(example(made.columns, values)))
                counts[part] += 1
    for part, name in names.items():
        job.out.set_rows(name, counts[part])
        job.took(part, counts[part])
    job.out.write_json("labels.json", made.names())
    job.out.write_json("features.json", {one.name: _described(one, len(made.labels)) for one in made.columns})


def record(message: bytes) -> bytes:
    """Return a message framed as one record."""
    length = struct.pack("<Q", len(message))
    return b"".join((length, struct.pack("<I", masked_crc(length)), message, struct.pack("<I", masked_crc(message))))


def masked_crc(content: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of some bytes, rotated and shifted as TFRecord asks (tensorflow, crc32c.h)."""
    import google_crc32c

    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def example(columns: Iterable[Column], values: Mapping[str, Any]) -> bytes:
    """Return a ``tf.train.Example`` in protocol buffer wire format (tensorflow/core/example/{example,feature}.proto).

    ``Example{features=1}``, ``Features{map<string, Feature> feature=1}``, ``Feature{bytes_list=1 | float_list=2 |
    int64_list=3}``, each list ``{repeated value=1}``, numbers packed.
    """
    entries = [
        _field(1, _field(1, one.name.encode("utf-8")) + _field(2, _feature(one.kind, values[one.name])))
        for one in sorted(columns, key=lambda one: one.name)
    ]
    return _field(1, b"".join(entries))


def _feature(kind: str, value: Any) -> bytes:
    if kind == "text":
        return _field(1, _field(1, value.encode("utf-8")))
    numbers = [value] if kind == "int" else value
    if kind == "floats":
        return _field(2, _field(1, struct.pack(f"<{len(numbers)}f", *numbers)) if numbers else b"")
    return _field(3, _field(1, b"".join(map(_varint, numbers))) if numbers else b"")


def _field(place: int, content: bytes) -> bytes:
    """Return a field of wire type 2: its tag, its length, its bytes."""
    return bytes((place << 3 | 2,)) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Return a whole number that is not negative, seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _described(column: Column, labels: int) -> dict[str, Any]:
    dtype = {"text": "string", "floats": "float32"}.get(column.kind, "int64")
    shape = {"text": [], "int": [], "vector": [labels]}.get(column.kind, [None])
    return {"dtype": dtype, "shape": shape, "about": column.about}
