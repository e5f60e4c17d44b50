"""Guideline pages and process models made to cost more than they hold, to nest without end, or to end a run.

Work is counted in instructions of the interpreter, so no test depends on a clock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from include.base.errors import InvalidInput
from include.base.store import Store
from include.bpmn.check import MAX_CALLS, check_model
from include.bpmn.mapping import MAPPINGS, load_mapping
from include.bpmn.read import BPMN, read_process
from include.guidelines import release
from include.guidelines.html import MAX_STRAYS
from include.systems.confluence import storage
from include.systems.confluence.storage import MAX_ATTRIBUTES, MAX_DEPTH
from tests.fuzz.guidelines import shown
from tests.guidelines.conftest import Sync, make_project
from tests.guidelines.fake_confluence import FakeConfluence

Make = Callable[[int], str]
READERS: tuple[Callable[[str], Any], ...] = (storage.canonical, storage.properties, storage.approval_digests, shown)


def work(function: Callable[[], object]) -> int:
    """Return how many instructions of the interpreter a function takes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def macro(name: str, inner: str) -> str:
    return f'<ac:structured-macro ac:name="{name}">{inner}</ac:structured-macro>'


def many(piece: str, before: str = "", after: str = "") -> Make:
    """Return pages with a piece again and again; ``#`` in it is its number."""
    return lambda size: before + "".join(piece.replace("#", str(number)) for number in range(size)) + after


def nested(opened: str, closed: str) -> Make:
    """Return pages with something inside itself, at most 30 times."""
    return lambda size: opened * (size // 10) + closed * (size // 10)


PARAMETER = '<ac:parameter ac:name="p#">v</ac:parameter>'
IN_STATUS = '<ac:structured-macro ac:name="status"><ac:parameter ac:name="a">x</ac:parameter><ac:parameter ac:name="b">'
COSTLY: dict[str, Make] = {
    "headings with one text": many("<h2>Same</h2>"),
    "headings without a text": many("<h2/>"),
    "headings that have the name another would be given": many("<h2>a</h2><h2>a #</h2>"),
    "headings in headings": nested("<h1>a<b/><b/><b/><b/><b/><b/><b/><b/>", "</h1>"),
    "elements that nobody knows": many("<z#/>"),
    "macros that nobody knows": many(macro("m#", "")),
    "parameters of one macro": many(PARAMETER, '<ac:structured-macro ac:name="info">', "</ac:structured-macro>"),
    "macros in parameters of macros": nested(IN_STATUS, "</ac:parameter></ac:structured-macro>"),
    "heading cells in one line": many("<th>x</th>", "<table><tr>", "<td>y</td></tr></table>"),
    "links that run a script": many('<a href="j#:x">y</a>'),
    "links to pages that are not there": many('<ac:link><ri:page ri:content-title="t#"/></ac:link>'),
    "images from elsewhere": many('<img src="http://h/#"/>'),
    "page properties in page properties": nested(
        '<ac:structured-macro ac:name="details"><table><tr><th>r</th><td>v</td></tr></table>', "</ac:structured-macro>"
    ),
    "lines of tables in cells of tables": nested("<table><tr><th>a</th><td>b<b/><b/><b/><b/>", "</td></tr></table>"),
}


@pytest.mark.parametrize("make", COSTLY.values(), ids=COSTLY.keys())
def test_twice_as_much_of_one_thing_takes_twice_the_work(make: Make) -> None:
    def read(size: int) -> int:
        body = macro("details", make(size))
        return work(lambda: [reader(body) for reader in READERS])

    read(100)
    assert read(300) < 2.3 * read(150)


@pytest.mark.parametrize("opening", ["<!--", "<![CDATA[", "<?x "])
def test_openings_that_are_never_closed_are_followed_once(opening: str) -> None:
    found = [match.span() for match in storage._ENTITY.finditer("a" + opening * 100)]
    assert found == [(1, 1 + 100 * len(opening))]
    with pytest.raises(InvalidInput, match=r"storage format: line \d, column \d+"):
        storage.parse("a" + opening * 100)


@pytest.mark.parametrize("body", ["<![CDATA[a secret", "<!-- a secret", "<p>&secret</p>", "<p>a<secret", "a]]>secret"])
def test_what_is_wrong_with_a_page_is_told_without_its_text(body: str) -> None:
    with pytest.raises(InvalidInput, match=r"storage format: line \d, column \d+: ") as raised:
        storage.parse(body)
    assert "a secret" not in str(raised.value)


def test_an_entity_in_a_processing_instruction_or_a_comment_stays_what_it_is() -> None:
    assert storage.canonical("<?x &nosuch; <!-- ?>&lt;<!-- &nosuch; <![CDATA[ -->") == b"<body>&lt;</body>"


def test_an_extension_in_an_extension_is_shown_once_not_twice_for_each_level() -> None:
    opened, closed = "<ac:adf-extension><ac:adf-content>", "</ac:adf-content></ac:adf-extension>"
    assert shown(opened * 9 + "word" + closed * 9).html.count("word") == 1


def test_an_element_with_attributes_without_end_is_refused() -> None:
    attributes = "".join(f' a{number}="x"' for number in range(MAX_ATTRIBUTES + 1))
    with pytest.raises(InvalidInput, match=r"line 2: found 101 attributes on one element, allowed are 100"):
        storage.parse(f"<p/>\n<p{attributes}/>")


@pytest.mark.parametrize(
    "body",
    [
        "<h2>" * 60 + "x" * 100_000 + "</h2>" * 60,
        f"<h2>{'x' * 100_000}</h2>" + macro("toc", "") * 60,
    ],
    ids=["headings in headings", "contents lists"],
)
def test_a_page_that_repeats_itself_beyond_what_a_page_may_hold_is_refused(body: str) -> None:
    with pytest.raises(InvalidInput, match=r"headings and contents lists repeat more than 5,242,880 characters"):
        shown(body)


@pytest.mark.parametrize("stray", ["<em/>", "x<tr/>", "<tr>x</tr>"])
def test_what_lies_between_the_cells_of_tables_is_bounded(stray: str) -> None:
    assert shown(f"<table>{stray * 10}</table>").html
    with pytest.raises(InvalidInput, match=r"line 1: more than 5,000 texts and elements stand in tables outside"):
        shown(f"<table>{stray * (MAX_STRAYS + 1)}</table>")


DEEP = {
    "lists": ("<ul><li>", "</li></ul>", 2),
    "unknown elements": ("<z>", "</z>", 1),
    "links": ('<ac:link><ri:page ri:content-title="x"/><ac:link-body>', "</ac:link-body></ac:link>", 2),
    "addresses": ('<a href="http://x">', "</a>", 1),
    "macros": (
        '<ac:structured-macro ac:name="info"><ac:rich-text-body>',
        "</ac:rich-text-body></ac:structured-macro>",
        2,
    ),
    "macros without bodies": ('<ac:structured-macro ac:name="code">', "</ac:structured-macro>", 1),
    "parameters": (
        '<ac:structured-macro ac:name="status"><ac:parameter ac:name="title">',
        "</ac:parameter></ac:structured-macro>",
        2,
    ),
    "images": ("<ac:image><ac:caption>", "</ac:caption></ac:image>", 2),
    "extensions": ("<ac:adf-extension><ac:adf-content>", "</ac:adf-content></ac:adf-extension>", 2),
    "comments": ("<ac:inline-comment-marker>", "</ac:inline-comment-marker>", 1),
    "tables": ("<table><tr><td>", "</td></tr></table>", 3),
    "headings": ("<h1>", "</h1>", 1),
}


@pytest.mark.parametrize(("opened", "closed", "levels"), DEEP.values(), ids=DEEP.keys())
def test_the_deepest_page_is_read_and_a_deeper_one_refused(opened: str, closed: str, levels: int) -> None:
    most = (MAX_DEPTH - 1) // levels
    for reader in READERS:
        reader(opened * most + closed * most)
        for times in (most + 1, 10_000):
            with pytest.raises(InvalidInput, match=r"nest|depth"):
                reader(opened * times + closed * times)


def test_a_number_too_long_to_be_one_is_no_column_span() -> None:
    assert shown(f'<table><tr><td colspan="00002{"0" * 5000}">x</td></tr></table>').html.count("colspan") == 0


def test_a_query_behind_a_line_break_is_not_shown_with_an_image_from_elsewhere() -> None:
    assert "token" not in shown('<img src="http://h/x?token=1&#10;2"/>').html


@pytest.mark.parametrize("title", ["²", "٣", "9" * 5000, "a²3"])
def test_a_title_of_odd_digits_has_its_place_among_the_pages(tmp_path: Path, title: str) -> None:
    space, store = FakeConfluence(), Store(tmp_path)
    space.write("1", "<h1>Purpose</h1>", title="Guideline")
    space.write("2", "<h1>b</h1>", title=title, parent="1")
    space.write("3", "<h1>b</h1>", title="Zebra", parent="1")
    for page_id in "123":
        space.set_state(page_id, "Verified")
    assert {page.page_id for page in Sync(space, store, make_project()).run().pages} == {"1", "2", "3"}


def test_one_image_shown_without_end_is_no_document_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, store = FakeConfluence(), Store(tmp_path)
    space.write("1", '<ac:image><ri:attachment ri:filename="chart.png"/></ac:image>' * 500, title="Guideline")
    space.attach("1", "chart.png")
    space.set_state("1", "Verified")
    collected = Sync(space, store, make_project()).run()
    monkeypatch.setattr(release, "MAX_DOCUMENT_BYTES", 20_000)
    with pytest.raises(InvalidInput, match=r"its 1 images, shown 500 times, make it [\d,]+ bytes, allowed are 20,000"):
        release.publish(store, make_project(), collected)
    assert release.current(store, "topics") is None


MAPPING = load_mapping("default", MAPPINGS).labeling_approval


def model(*processes: tuple[str, str]) -> str:
    inner = "".join(f'<process id="{key}">{elements}</process>' for key, elements in processes)
    return f'<definitions xmlns="{BPMN}">{inner}</definitions>'


def test_a_model_whose_processes_each_call_the_next_twice_is_followed_so_far_and_says_so() -> None:
    keys = ["labeling_approval", *(f"p{number}" for number in range(40))]
    calls = [(key, f'<callActivity id="c" calledElement="{below}"/>' * 2) for key, below in pairwise(keys)]
    told = [str(problem) for problem in check_model(MAPPING, model(*calls, (keys[-1], ""))).problems]
    assert any(f"calls processes more than {MAX_CALLS} times, so not all of them were looked at" in one for one in told)


def test_a_model_of_twice_the_gateways_takes_twice_the_work() -> None:
    def crowded(size: int) -> int:
        tasks = '<userTask id="review_quality" name="Review quality"/><userTask id="approve_dataset" name="x"/>'
        flows = "".join(
            f'<parallelGateway id="g{number}"/><sequenceFlow sourceRef="g{number}" targetRef="g{number + 1}"/>'
            for number in range(size)
        )
        shared = MAPPING.model_dump()
        for task in shared["tasks"]:
            task["outcome_variable"] = "one"
        mapping = type(MAPPING).model_validate(shared)
        xml = model(("labeling_approval", tasks + flows))
        return work(lambda: check_model(mapping, xml))

    crowded(20)
    assert crowded(200) < 2.3 * crowded(100)


def test_a_form_of_twice_the_fields_takes_twice_the_work() -> None:
    def offered(size: int) -> int:
        fields = "".join(f'<formProperty id="f{n}"><value id="v{n}"/></formProperty>' for n in range(size))
        xml = model(("p", f'<userTask id="t"><extensionElements>{fields}</extensionElements></userTask>'))
        return work(lambda: read_process(xml))

    assert offered(400) < 2.3 * offered(200)


@pytest.mark.parametrize("xml", ["\ud800", "<definitions>", "<a/>", "\x00", ""])
def test_what_is_no_model_is_refused_by_name(xml: str) -> None:
    with pytest.raises(InvalidInput, match="BPMN model: "):
        read_process(xml)
