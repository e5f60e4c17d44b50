"""COCO's JSON for object detection: images, regions as annotations, labels as categories.

``<part>.json`` (or ``annotations.json``). Rows are images, with ids from 1 in the version's order; categories are
sorted by name, with ids from 1, the same in every part. An annotation has ``bbox`` (left, top, width, height in
pixels), ``area`` in square pixels, ``iscrowd`` 0 and ``segmentation``: the polygon of its points (of its four corners
for a rectangle; what was drawn by hand is the polygon through its points). ``file_name`` is the reference that the
task holds; images also carry ``task_id`` and ``sha256``, annotations ``region`` (rect, polygon, freehand).
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import IO, Any

from include.exports.output import Job, LeftOut, dump
from include.exports.rows import accepted, corners, labels_in, number, size_of

__all__ = ["image_size", "write"]


def write(job: Job) -> None:
    """Write the parts."""
    categories = {name: place for place, name in enumerate(sorted(set(job.labels(labels_in))), 1)}
    with ExitStack() as stack:
        parts = {part: _Part(job, part, categories, stack) for part in job.parts}
        for part, row in job.items():
            job.made(parts[part].add, row)
        for name, part_ in parts.items():
            part_.close()
            job.took(name, part_.images)


class _Part:
    """One file in the making: COCO lists all images before all annotations, so both are spooled."""

    def __init__(self, job: Job, name: str, categories: Mapping[str, int], stack: ExitStack) -> None:
        self._job = job
        self._name = f"{name or 'annotations'}.json"
        self._categories = categories
        self._spools = {key: stack.enter_context(_spool()) for key in ("images", "annotations")}
        self.images = 0
        self._annotations = 0

    def add(self, row: dict[str, Any]) -> None:
        """Take one image in, with its regions.

        :raises LeftOut: when it is rejected, or its size is unknown.
        """
        if not accepted(row):
            raise LeftOut("rejected", "the answer says nothing of the image's regions")
        reference = row["shown"].get("image")
        if not isinstance(reference, str):
            raise LeftOut("no_image")
        size = size_of(row) or image_size(self._job.media(reference) if self._job.media is not None else None)
        if size is None:
            raise LeftOut("image_size_unknown", "the task has no width and height, and the image's bytes are not known")
        self.images += 1
        width, height = size
        image = {"id": self.images, "file_name": reference, "width": width, "height": height, "task_id": row["task_id"]}
        if row["shown"].get("image_sha256"):
            image["sha256"] = row["shown"]["image_sha256"]
        self._write("images", image, self.images)
        for place, (label, kind, points) in enumerate(row["value"]["regions"]):
            self._region(row["task_id"], place, str(label), kind, points, size)

    def close(self) -> None:
        """Join images, annotations and categories to one JSON object."""
        listed = [{"id": place, "name": name, "supercategory": ""} for name, place in self._categories.items()]
        with self._job.out.path(self._name, self.images).open("wb") as out:
            for key, spool in self._spools.items():
                out.write(b"{" if key == "images" else b"],\n")
                out.write(f'"{key}":[\n'.encode())
                spool.seek(0)
                shutil.copyfileobj(spool, out, 1024 * 1024)
            out.write(b'],\n"categories":' + dump(listed) + b"}\n")

    def _region(
        self, task: str, place: int, label: str, kind: str, points: Sequence[Sequence[Any]], size: tuple[int, int]
    ) -> None:
        left, top, right, bottom = corners(points)
        if kind == "rect":
            outline: list[int | float] = [left, top, right, top, right, bottom, left, bottom]
        else:
            outline = [number(side) for point in points for side in point]
        area = _area(outline)
        if len(outline) < 6 or area == 0:
            return self._job.out.note(task, "empty_region", f"region {place} ({kind}) encloses nothing")
        if left < 0 or top < 0 or right > size[0] or bottom > size[1]:
            self._job.out.note(task, "outside_image", f"region {place} ({kind}) reaches beyond {size[0]} x {size[1]}")
        self._annotations += 1
        self._write(
            "annotations",
            {
                "id": self._annotations,
                "image_id": self.images,
                "category_id": self._categories[label],
                "bbox": [left, top, right - left, bottom - top],
                "area": area,
                "segmentation": [outline],
                "iscrowd": 0,
                "region": kind,
            },
            self._annotations,
        )

    def _write(self, key: str, value: dict[str, Any], count: int) -> None:
        self._spools[key].write((b"" if count == 1 else b",") + dump(value))


def image_size(content: bytes | None) -> tuple[int, int] | None:
    """Return the (width, height) in pixels that an image's first bytes say: PNG, GIF, BMP, WebP or JPEG, else None.

    Sources: ISO/IEC 15948 (IHDR), GIF89a (logical screen), BITMAPINFOHEADER, RFC 9649 (VP8, VP8L, VP8X), ITU-T T.81
    (SOF).
    """
    if not content:
        return None
    try:
        size = _size(content)
    except (struct.error, IndexError):
        return None
    return size if size is not None and min(size) > 0 else None


def _size(content: bytes) -> tuple[int, int] | None:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack_from(">II", content, 16)
    if content.startswith((b"GIF87a", b"GIF89a")):
        return struct.unpack_from("<HH", content, 6)
    if content.startswith(b"BM"):
        width, height = struct.unpack_from("<ii", content, 18)
        return width, abs(height)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _webp_size(content)
    return _jpeg_size(content) if content.startswith(b"\xff\xd8") else None


def _webp_size(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X" and len(content) >= 30:
        return int.from_bytes(content[24:27], "little") + 1, int.from_bytes(content[27:30], "little") + 1
    return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return the size from the first start-of-frame segment."""
    place = 2
    while content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # padding
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, place + 5)
            return width, height
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # segments without a length
            place += 2
        else:
            place += 2 + struct.unpack_from(">H", content, place + 2)[0]
    return None


def _area(outline: Sequence[int | float]) -> int | float:
    """Return the area that a polygon encloses (x, y in turn; Gauss's area formula)."""
    across, down = outline[0::2], outline[1::2]
    twice = sum(across[place - 1] * down[place] - across[place] * down[place - 1] for place in range(len(across)))
    return abs(twice) / 2


def _spool() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="labelops-export-")
