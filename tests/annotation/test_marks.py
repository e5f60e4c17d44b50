"""Spans that overlap, regions, segments and relations: read into one form, whatever way they were drawn in."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.annotation.numbers import number_text
from include.annotation.tasks import shown, task_id
from include.annotation.values import labels_of
from include.base.canonical import canonical_json, digest_of
from include.base.errors import InvalidInput
from tests.annotation.make import (
    CONTENT,
    DIGEST,
    FREEHAND,
    MADE,
    MAKER,
    MARKS,
    NOISE,
    PHONE,
    POLYGON,
    PROJECTS,
    RECT,
    SECOND,
    SPEECH,
    VALUES,
    answered,
    read,
    task,
)

KINDS = sorted(PROJECTS)


def digest(kind: str, **changes: Any) -> str:
    return digest_of(read(kind, answered(kind, **changes)).value.canonical())


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (12.5, "12.5"),
        (12.0, "12"),
        (12, "12"),
        (-0.0, "0"),
        (0, "0"),
        (-3.25, "-3.25"),
        (1e-07, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (100.0, "100"),
        (2**70, "1180591620717411303424"),
    ],
)
def test_a_number_as_text(number: float, text: str) -> None:
    assert number_text(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_number_reads_back_and_has_no_exponent(number: float) -> None:
    text = number_text(number)
    assert float(text) == number
    assert set(text) <= set("-0123456789.")
    assert text == number_text(float(text))
    assert text != "-0"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 10**400, True, "1", None])
def test_what_is_no_number_has_no_text(number: Any) -> None:
    with pytest.raises(InvalidInput, match="found"):
        number_text(number)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.proves("answers of every Prodigy interface are read into one canonical value")
def test_an_answer_is_read_into_its_canonical_value(kind: str) -> None:
    answer = read(kind, answered(kind))
    assert answer.value.canonical() == {"interface": kind, "answer": "accept", **VALUES[kind]}
    canonical_json(answer.value.canonical())
    assert answer.stamped
    assert answer.view_id == PROJECTS[kind].view_id
    nothing = read(kind, {**task(kind), "answer": "accept"}).value.canonical()
    assert nothing == {"interface": kind, "answer": "accept", **{key: [] for key in VALUES[kind]}}
    for verdict in ("reject", "ignore"):
        other = read(kind, answered(kind, answer=verdict)).value.canonical()
        assert other == {"interface": kind, "answer": verdict}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.proves("the same marks in another order have the same digest")
def test_the_order_of_marks_says_nothing(kind: str) -> None:
    turned = {name: marks[::-1] if isinstance(marks, list) else marks for name, marks in MARKS[kind].items()}
    again = {name: marks * 2 if isinstance(marks, list) else marks for name, marks in MARKS[kind].items()}
    assert digest(kind) == digest(kind, **turned) == digest(kind, **again)
    name = next(iter(VALUES[kind]))
    stored = "audio_spans" if kind == "audio" else name if kind == "relations" else "spans"
    assert digest(kind, **{stored: MARKS[kind][stored][:1], "relations": []}) != digest(kind)


def without(mark: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in mark.items() if key not in names}


@pytest.mark.proves("a rectangle given by its sides and by its corners is one value")
def test_one_rectangle_however_it_was_written_down() -> None:
    ways = [
        RECT,
        without(RECT, "points", "center"),
        without(RECT, "x", "y", "width", "height"),
        {**RECT, "points": RECT["points"][2:] + RECT["points"][:2]},
        {**RECT, "points": RECT["points"][::-1]},
        {**RECT, "points": [*RECT["points"], RECT["points"][0]]},
        {**without(RECT, "x"), "points": [[40.3, 20], [10.1, 60.5]]},
        # What a browser's floats make of 10.1 + 30.2.
        {**RECT, "points": [[10.1, 20], [10.1, 60.5], [40.300000000000004, 60.5], [40.3, 20.0]]},
        without(RECT, "type", "points"),
    ]
    assert len({digest("image", spans=[way]) for way in ways}) == 1
    assert digest("image", spans=[{**without(RECT, "points"), "width": 30.3}]) != digest("image", spans=[RECT])


def test_where_a_polygon_was_begun_says_nothing() -> None:
    points = POLYGON["points"]
    ways = [points, points[1:] + points[:1], points[::-1], [*points, points[0]], [points[0], *points]]
    assert len({digest("image", spans=[{**POLYGON, "points": way}]) for way in ways}) == 1
    assert digest("image", spans=[without(POLYGON, "type")]) == digest("image", spans=[POLYGON])
    crossed = [[0, 0], [10, 10], [10, 0], [0, 10]]
    upright = [[0, 0], [10, 0], [10, 10], [0, 10]]
    assert digest("image", spans=[{**POLYGON, "points": crossed}]) != digest(
        "image", spans=[{**POLYGON, "points": upright}]
    )
    line = FREEHAND["points"]
    assert digest("image", spans=[FREEHAND]) != digest("image", spans=[{**FREEHAND, "points": line[::-1]}])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=8, unique=True), st.data())
def test_turning_a_polygon_gives_the_same_value(points: list[tuple[int, int]], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(points) - 1))
    turned = [*points[place:], *points[:place]]
    if data.draw(st.booleans()):
        turned.reverse()
    marks = [{**POLYGON, "points": [list(point) for point in way]} for way in (points, turned)]
    assert digest("image", spans=marks[:1]) == digest("image", spans=marks[1:])


def test_a_relation_names_what_it_joins() -> None:
    bare = {"head": 1, "child": 3, "label": "MADE_BY"}
    assert digest("relations", relations=[bare]) == digest("relations")
    # Between tokens that no span holds.
    token = read("relations", answered("relations", spans=[], relations=[bare])).value
    assert token.relations == ((5, 10, 14, 18, "MADE_BY"),)
    spelled = {**bare, "head_span": {"start": 5, "end": 10, "label": None}}
    found = read("relations", answered("relations", spans=[], relations=[spelled])).value
    assert found == token
    by_span = {"label": "MADE_BY", "head_span": PHONE, "child_span": SECOND}
    assert digest("relations", relations=[by_span]) == digest("relations")


@pytest.mark.parametrize("kind", KINDS)
def test_the_labels_of_a_value(kind: str) -> None:
    value = read(kind, answered(kind)).value.canonical()
    expected = {
        "spans": ["MAKER", "PRODUCT"],
        "image": ["CAR", "DOG", "DOG"],
        "audio": ["NOISE", "SPEECH"],
        "relations": ["MADE_BY", "MAKER", "PRODUCT"],
    }
    assert sorted(labels_of(value, {})) == expected[kind]
    assert set(expected[kind]) <= set(PROJECTS[kind].annotation.all_labels)


@pytest.mark.parametrize(
    ("kind", "change", "match"),
    [
        (
            "spans",
            {"spans": [{**MAKER, "label": "COLOUR"}]},
            r"spans\[0\]\.label: found 'COLOUR'; allowed: MAKER, PROD",
        ),
        ("spans", {"spans": [{**MAKER, "end": 400}]}, r"spans\[0\]: found 0-400; allowed: within 0-18"),
        ("spans", {"spans": [{**MAKER, "end": 3}]}, "0-3 cuts a token"),
        ("spans", {"spans": {}}, "spans: found dict"),
        ("image", {"spans": [{**RECT, "label": "CAT"}]}, r"spans\[0\]\.label: found 'CAT'; allowed: CAR, DOG"),
        ("image", {"spans": [{**RECT, "label": None}]}, r"spans\[0\]\.label: found None"),
        ("image", {"spans": [{**RECT, "type": "circle"}]}, "type: found 'circle'; allowed: rect, polygon, freehand"),
        ("image", {"spans": "x"}, "spans: found str"),
        ("image", {"spans": ["x"]}, r"spans\[0\]: found str"),
        ("image", {"spans": [{**POLYGON, "points": POLYGON["points"][:2]}]}, "found 2 different points; .* 3 or more"),
        ("image", {"spans": [{**POLYGON, "points": [[1, 1]] * 5}]}, "found 1 different points"),
        ("image", {"spans": [without(POLYGON, "points")]}, "found 0 different points"),
        ("image", {"spans": [{**POLYGON, "points": [[1, 1], [2]]}]}, r"points\[1\]: found \[2\]; allowed: \[x, y\]"),
        ("image", {"spans": [{**POLYGON, "points": [[1, "2"], [2, 2]]}]}, r"points\[0\]\[1\]: found '2'"),
        ("image", {"spans": [{**POLYGON, "points": [[1, float("nan")]]}]}, r"points\[0\]\[1\]: found nan.*finite"),
        ("image", {"spans": [{**POLYGON, "points": 5}]}, "points: found int"),
        ("image", {"spans": [{**POLYGON, "points": [[0, 0], [150, 0], [5, 5]]}]}, r"\(150,0\).*within the image, 100"),
        ("image", {"width": 50}, r"outside|within the image, 50 × 100"),
        ("image", {"width": "wide"}, "width: found 'wide'; allowed: a whole number of pixels"),
        ("image", {"width": float("inf")}, "width: found inf"),
        ("image", {"height": 0}, "height: found 0"),
        ("image", {"spans": [{**RECT, "width": 0, "points": None}]}, "wider and higher than nothing"),
        ("image", {"spans": [{**RECT, "width": 99}]}, r"its points make \(10.1,20\) \(40.3,60.5\), its x, y.*109.1"),
        ("image", {"spans": [{**RECT, "points": [[0, 0], [5, 9], [50, 9], [60, 60]]}]}, "allowed for a rect: its corn"),
        ("image", {"spans": [without(RECT, "x", "points")]}, "neither points nor x, y, width and height"),
        ("image", {"spans": [{**RECT, "x": True}]}, r"spans\[0\]\.x: found True"),
        ("audio", {"audio_spans": [{**SPEECH, "label": "MUSIC"}]}, r"audio_spans\[0\]\.label: found 'MUSIC'"),
        (
            "audio",
            {"audio_spans": [{**SPEECH, "end": 0.5}]},
            r"audio_spans\[0\]: found 0.5-0.5; allowed: seconds from 0",
        ),
        ("audio", {"audio_spans": [NOISE, {**SPEECH, "start": -1}]}, r"audio_spans\[1\]: found -1-2.25"),
        ("audio", {"audio_spans": [{**SPEECH, "start": None}]}, r"audio_spans\[0\]\.start: found None"),
        ("audio", {"audio_spans": [{**SPEECH, "end": float("inf")}]}, r"audio_spans\[0\]\.end: found inf"),
        ("audio", {"audio_spans": 3}, "audio_spans: found int"),
        ("audio", {"audio_spans": [3]}, r"audio_spans\[0\]: found int"),
        (
            "relations",
            {"relations": [{**MADE, "label": "OWNS"}]},
            r"relations\[0\]\.label: found 'OWNS'; allowed: MADE_",
        ),
        ("relations", {"relations": [{**MADE, "label": "MAKER"}]}, r"relations\[0\]\.label: found 'MAKER'"),
        ("relations", {"relations": [{**MADE, "head": 9}]}, r"relations\[0\]\.head: found token 9; .* of the 4 tokens"),
        ("relations", {"relations": [{**MADE, "head": "1"}]}, r"relations\[0\]\.head: found '1'"),
        ("relations", {"relations": [{**MADE, "head": 3}]}, r"head: token 3 is 14-18, outside its head_span 0-10"),
        ("relations", {"spans": [SECOND]}, r"head_span: found 0-10; allowed: a span marked in this answer, or a token"),
        ("relations", {"relations": [{**MADE, "child_span": MADE["head_span"], "child": 0}]}, "both 0-10"),
        ("relations", {"relations": [{"label": "MADE_BY", "child": 3}]}, r"relations\[0\]\.head: found nothing"),
        ("relations", {"relations": [[1, 3]]}, r"relations\[0\]: found list"),
        ("relations", {"relations": "x"}, "relations: found str"),
        (
            "relations",
            {"spans": [MAKER, PHONE], "relations": [{"head": 0, "child": 3, "label": "MADE_BY"}]},
            "2 marked",
        ),
        ("relations", {"tokens": [{"start": 0, "end": 4, "id": 1}] * 2}, "cuts a token|there twice"),
    ],
)
def test_a_malformed_mark_says_what_and_where(kind: str, change: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInput, match=match) as refused:
        read(kind, answered(kind, **change))
    assert str(refused.value).startswith("product_names, example 11: ")


def test_a_pixel_beside_the_image_is_rounding() -> None:
    edge = {**POLYGON, "points": [[-0.5, 0], [100.9, 0], [50, 50]]}
    value = read("image", answered("image", spans=[edge])).value
    assert value.regions[0][2][0] == ("-0.5", "0")


def test_the_size_of_an_image_goes_with_what_was_shown() -> None:
    sized, bare = read("image", answered("image")), read("image", {**task("image"), "answer": "accept"})
    assert sized.shown == {**CONTENT["image"], "width": 100, "height": 100}
    assert bare.shown == CONTENT["image"]
    assert sized.task_id == bare.task_id == task("image")["labelops"]["task_id"]


# Tasks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_of_each_kind(kind: str) -> None:
    made = task(kind)
    assert made["_view_id"] == PROJECTS[kind].view_id
    assert ("tokens" in made) == (kind in ("spans", "relations"))
    assert shown(made) == CONTENT[kind]
    assert made["labelops"]["task_id"] == task_id("product_names", made)


@pytest.mark.proves("a file that was exchanged behind its address is another task")
def test_a_file_is_named_by_address_and_digest() -> None:
    assert task("image", image_sha256="cd" * 32)["labelops"]["task_id"] != task("image")["labelops"]["task_id"]
    exchanged = answered("image", image_sha256="cd" * 32)
    with pytest.raises(InvalidInput, match=r"labelops\.task_id: found"):
        read("image", exchanged)


@pytest.mark.parametrize(
    ("kind", "content", "match"),
    [
        ("image", {"image_sha256": "x"}, r"product_names: content\.image_sha256: found 'x'; allowed: a SHA-256"),
        ("image", {"audio": "s3://a.wav", "image": None}, "content.image: found NoneType"),
        ("image", {"image": "https://files.example/a.png?X-Amz-Signature=1"}, "signed and will expire"),
        ("audio", {"audio": "https://files.example/a.wav?sig=1&se=2"}, "signed and will expire"),
        ("audio", {"video": "s3://a.mp4"}, "found audio, audio_sha256, video; allowed for segments of a recording"),
        ("spans", {"image_sha256": DIGEST}, "found image_sha256; allowed: text"),
    ],
)
def test_a_file_without_a_stable_reference_is_refused(kind: str, content: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        task(kind, **content)


def test_a_reference_needs_the_digest_of_the_bytes() -> None:
    from include.annotation.tasks import build_task

    for kind, wrong in (("image", {"image": "s3://a.png"}), ("audio", {"video": "s3://a.mp4"})):
        with pytest.raises(InvalidInput, match=r"_sha256: found nothing; allowed: the SHA-256 of the file's bytes"):
            build_task(PROJECTS[kind], content=wrong, meta={}, sources=[])
    with pytest.raises(InvalidInput, match="found text; allowed for regions of an image: image"):
        build_task(PROJECTS["image"], content={"text": "x"}, meta={}, sources=[])


@pytest.mark.proves("a file embedded as a data: address is digested, and not copied into versions")
def test_an_embedded_file_is_shown_by_its_digest() -> None:
    from include.annotation.tasks import build_task

    body = b"\x89PNG not really"
    address = f"data:image/png;base64,{base64.b64encode(body).decode()}"
    found = hashlib.sha256(body).hexdigest()
    made = build_task(PROJECTS["image"], content={"image": address}, meta={}, sources=[])
    assert (made["image"], made["image_sha256"]) == (address, found)
    assert shown(made) == {"image": f"sha256:{found}", "image_sha256": found}
    answer = read("image", {**made, "answer": "accept"})
    assert answer.stamped
    assert "base64" not in str(answer.shown)
    plain = "data:image/png,%89PNG%20not%20really"
    assert shown({"image": plain}) == shown({"image": address})
    with pytest.raises(InvalidInput, match=r"image_sha256: found .*, but the bytes in image have"):
        shown({"image": address, "image_sha256": DIGEST})
    for broken in ("data:image/png;base64", "data:image/png;base64,@@@"):
        with pytest.raises(InvalidInput, match="image: not a usable data: address"):
            shown({"image": broken})


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        (
            "https://b.s3.example/k.png?versionId=3&X-Amz-Algorithm=A&X-Amz-Credential=c%2Fd&X-Amz-Date=1"
            "&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=ff",
            "https://b.s3.example/k.png?versionId=3",
        ),
        ("https://a.blob.example/k.png?sv=2020&se=2024&sr=b&sp=r&sig=x%3D", "https://a.blob.example/k.png"),
        ("https://c.example/k.png?Expires=1&Signature=x&Key-Pair-Id=K", "https://c.example/k.png"),
        ("https://c.example/get?id=5&token=secret", "https://c.example/get?id=5"),
        ("https://c.example/get?id=5&st=a b", "https://c.example/get?id=5&st=a b"),
        ("https://[broken/k.png?sig=x", "https://[broken/k.png?sig=x"),
    ],
)
def test_what_signs_an_address_is_no_part_of_it(address: str, kept: str) -> None:
    assert shown({"image": address}) == {"image": kept}
