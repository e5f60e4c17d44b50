"""COCO files, read back by pycocotools."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from include.exports import Assignment
from include.exports.coco import image_size
from tests.exports.make import project, row, rows_of, write


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = b"".join(b"\0" + b"\0" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def reported(folder: Path) -> dict[str, str]:
    lines = (folder / "skipped.jsonl").read_text("utf-8").splitlines()
    return {one["task_id"]: one["reason"] for one in map(json.loads, lines)}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, on drawing a mask
@pytest.mark.proves("exports: pycocotools reads rectangles and polygons as they were drawn")
def test_pycocotools_reads_it(tmp_path: Path) -> None:
    rows = rows_of("image")
    made = write(rows, project("image"), "coco", tmp_path)
    coco = COCO(str(tmp_path / "annotations.json"))
    assert made.rows == made.files["annotations.json"].rows == len(coco.imgs) == 2
    assert made.skipped == {"rejected": 1}
    kept = [one for one in rows if one["value"]["answer"] == "accept"]
    assert [coco.imgs[n]["task_id"] for n in (1, 2)] == [one["task_id"] for one in kept]
    assert [coco.imgs[n]["file_name"] for n in (1, 2)] == [one["shown"]["image"] for one in kept]
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == ["car", "sign"]
    rect, polygon, freehand = coco.loadAnns(coco.getAnnIds())
    assert (rect["bbox"], rect["area"], rect["category_id"]) == ([10, 20, 100.5, 50], 5025.0, 1)
    assert (polygon["bbox"], polygon["area"], polygon["category_id"]) == ([0, 0, 30, 40.5], 607.5, 2)
    assert (freehand["area"], freehand["region"]) == (800.0, "freehand")
    assert {one["id"] for one in (rect, polygon, freehand)} == {1, 2, 3}
    # The masks that pycocotools draws cover what the areas say, but for the pixels of the edges.
    for one in (rect, polygon, freehand):
        mask = coco.annToMask(one)
        assert mask.shape == (480, 640)
        assert mask.sum() == pytest.approx(one["area"], rel=0.03)


@pytest.mark.parametrize("count", [0, 1])
def test_no_row_one_row_and_an_empty_part(count: int, tmp_path: Path) -> None:
    rows = [one for one in rows_of("image") if one["value"].get("regions")][:count]
    splits = Assignment(("train", "dev"), {one["task_id"]: "train" for one in rows})
    made = write(rows, project("image"), "coco", tmp_path, splits=splits)
    assert made.splits == {"train": count, "dev": 0}
    for part, size in made.splits.items():
        coco = COCO(str(tmp_path / f"{part}.json"))
        assert (len(coco.imgs), len(coco.anns)) == (size, 3 * size)
        assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == ["car", "sign"]


def test_sizes_come_from_the_media_or_the_row_is_reported(tmp_path: Path) -> None:
    rows = [row("image", {"image": name}, regions=[]) for name in ("a.png", "b.png")]
    rows += [row("image", {"text": "x"}, regions=[])]
    made = write(rows, project("image"), "coco", tmp_path, media={"a.png": png(30, 20)}.get)
    (image,) = COCO(str(tmp_path / "annotations.json")).imgs.values()
    assert (image["file_name"], image["width"], image["height"]) == ("a.png", 30, 20)
    assert made.skipped == {"image_size_unknown": 1, "no_image": 1}
    assert reported(tmp_path)[rows[1]["task_id"]] == "image_size_unknown"


def test_regions_that_enclose_nothing_or_reach_out_are_reported(tmp_path: Path) -> None:
    shown = {"image": "a.png", "width": 100, "height": 100}
    regions = [
        ["car", "polygon", [["1", "1"], ["2", "2"]]],
        ["car", "rect", [["5", "5"], ["5", "9"]]],
        ["sign", "rect", [["90", "90"], ["110", "95"]]],
    ]
    made = write([row("image", shown, regions=regions)], project("image"), "coco", tmp_path)
    assert made.noted == {"empty_region": 2, "outside_image": 1}
    (only,) = COCO(str(tmp_path / "annotations.json")).anns.values()
    assert only["bbox"] == [90, 90, 20, 5]


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (png(3, 4), (3, 4)),
        (b"GIF89a" + struct.pack("<HH", 10, 20) + b"\0" * 3, (10, 20)),
        (b"BM" + b"\0" * 16 + struct.pack("<ii", 6, -7), (6, 7)),
        (b"RIFF\0\0\0\0WEBPVP8X" + b"\x0a\0\0\0" + b"\0" * 4 + b"\x1f\0\0\x0f\0\0", (32, 16)),
        (b"RIFF\0\0\0\0WEBPVP8L" + b"\0" * 4 + b"\x2f" + struct.pack("<I", 99 | 49 << 14), (100, 50)),
        (b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 4 + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 8, 9), (8, 9)),
        (b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc0\0\x11\x08" + struct.pack(">HH", 11, 12) + b"\3", (12, 11)),
        (b"\xff\xd8\xff\xe0\0\x04ab", None),
        (b"\x89PNG\r\n\x1a\n", None),
        (png(0, 4), None),
        (b"text", None),
        (b"", None),
        (None, None),
    ],
)
def test_the_size_is_in_the_first_bytes(content: bytes | None, size: tuple[int, int] | None) -> None:
    assert image_size(content) == size
