from __future__ import annotations

from contextlib import suppress
from html import unescape
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import html as reader

from include.base.errors import InvalidInput
from include.guidelines import emphasis
from include.guidelines.html import STYLE, Include, Rendered, render
from include.systems.confluence.storage import escape


def show(body: str, **given_: Any) -> Rendered:
    links = {"Other page": "#page-9"}
    resolvers: dict[str, Any] = {
        "resolve_link": lambda title, space, anchor: links.get(title),
        "resolve_image": lambda name, page: f"images/{name}" if name == "chart.png" else None,
        "resolve_user": lambda account: {"acc-greta": "Greta Gold"}.get(account),
        "page_id": "7",
    }
    return render(body, **{**resolvers, **given_})


def macro(name: str, body: str = "", **given_: str) -> str:
    inner = "".join(f'<ac:parameter ac:name="{key}">{escape(value)}</ac:parameter>' for key, value in given_.items())
    if body:
        inner += f"<ac:rich-text-body>{body}</ac:rich-text-body>"
    return f'<ac:structured-macro ac:name="{name}">{inner}</ac:structured-macro>'


@pytest.mark.parametrize(
    ("body", "html"),
    [
        ("<h1>Purpose</h1>", '<h1 id="p7-purpose">Purpose</h1>'),
        ("<p>a<br/>b &amp; &lt;c&gt;</p>", "<p>a<br>b &amp; &lt;c&gt;</p>"),
        ("<p><b>a</b><i>b</i><s>c</s></p>", "<p><strong>a</strong><em>b</em><del>c</del></p>"),
        ("<ul><li>a<ol><li>b</li></ol></li></ul>", "<ul><li>a<ol><li>b</li></ol></li></ul>"),
        (
            '<table data-layout="wide"><colgroup><col style="width: 3px"/></colgroup>'
            '<tbody><tr><th colspan="2">A</th></tr>'
            '<tr><td rowspan="x">1</td><td>2</td></tr></tbody></table>',
            '<table><tbody><tr><th colspan="2" scope="col">A</th></tr><tr><td>1</td><td>2</td></tr></tbody></table>',
        ),
        (
            macro("info", "<p>x</p>", title="Mind"),
            '<div class="panel panel-info"><p class="panel-title">Mind</p><p>x</p></div>',
        ),
        (macro("tip", "<p>x</p>"), '<div class="panel panel-tip"><p class="panel-title">Tip</p><p>x</p></div>'),
        (macro("note", "<p>x</p>"), '<div class="panel panel-note"><p class="panel-title">Note</p><p>x</p></div>'),
        (
            macro("warning", "<p>x</p>"),
            '<div class="panel panel-warning"><p class="panel-title">Warning</p><p>x</p></div>',
        ),
        (macro("panel", "<p>x</p>"), '<div class="panel panel-panel"><p>x</p></div>'),
        (macro("status", colour="Green", title="APPROVED"), '<span class="status status-green">APPROVED</span>'),
        (macro("status", colour="Pink<", title="a<b"), '<span class="status status-grey">a&lt;b</span>'),
        (
            '<ac:structured-macro ac:name="code"><ac:parameter ac:name="language">json</ac:parameter>'
            '<ac:plain-text-body><![CDATA[{"a": "<b>"}  ]]]]><![CDATA[>]]></ac:plain-text-body></ac:structured-macro>',
            '<p class="meta">json</p><pre class="code"><code>{"a": "&lt;b&gt;"}  ]]&gt;</code></pre>',
        ),
        (
            "<ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-status>complete</ac:task-status>"
            "<ac:task-body>a</ac:task-body></ac:task><ac:task><ac:task-id>2</ac:task-id>"
            "<ac:task-status>incomplete</ac:task-status><ac:task-body>b</ac:task-body></ac:task></ac:task-list>",
            '<ul class="tasks"><li><input type="checkbox" disabled="" checked=""> a</li>'
            '<li><input type="checkbox" disabled=""> b</li></ul>',
        ),
        (macro("expand", "<p>x</p>", title="More"), "<details><summary>More</summary><p>x</p></details>"),
        (
            '<ac:image ac:alt="a chart" ac:width="300"><ri:attachment ri:filename="chart.png"/></ac:image>',
            '<img src="images/chart.png" alt="a chart" width="300">',
        ),
        (
            '<ac:link><ri:page ri:content-title="Other page"/><ac:link-body>there</ac:link-body></ac:link>',
            '<a href="#page-9" rel="noopener noreferrer nofollow">there</a>',
        ),
        (
            '<ac:link ac:anchor="Edge cases">'
            "<ac:plain-text-link-body><![CDATA[below]]></ac:plain-text-link-body></ac:link>",
            '<a href="#p7-edge-cases" rel="noopener noreferrer nofollow">below</a>',
        ),
        ('<ac:link><ri:user ri:account-id="acc-greta"/></ac:link>', '<span class="mention">@Greta Gold</span>'),
        ('<ac:link><ri:user ri:userkey="ff80"/></ac:link>', '<span class="mention">@ff80</span>'),
        ('<ac:emoticon ac:name="tick"/>', "\u2705"),
        ('<ac:emoticon ac:name="x" ac:emoji-fallback="\U0001f600"/>', "\U0001f600"),
        ('<ac:emoticon ac:name="x" ac:emoji-shortname=":party:"/>', ":party:"),
        ('<time datetime="2026-11-20"/>', '<time datetime="2026-11-20">2026-11-20</time>'),
        (
            "<ac:layout><ac:layout-section><ac:layout-cell><p>x</p></ac:layout-cell></ac:layout-section></ac:layout>",
            '<div class="layout"><div class="section"><div class="cell"><p>x</p></div></div></div>',
        ),
        (macro("excerpt", "<p>x</p>"), "<div><p>x</p></div>"),
        (macro("details", "<p>x</p>", id="g"), '<div class="details"><p>x</p></div>'),
        ('<p>a<ac:inline-comment-marker ac:ref="1">b</ac:inline-comment-marker>c</p>', "<p>abc</p>"),
        (
            'Label <span style="text-decoration: line-through;">billing</span>',
            'Label <span class="struck">billing</span>',
        ),
        ('<span style="color: rgb(255,86,48);">no</span>', '<span class="text-red">no</span>'),
        ('<span style="color: var(--ds-text-success, #216e4e)">yes</span>', '<span class="text-green">yes</span>'),
        ('<span style="color: rgb(23,43,77);">plain</span>', "<span>plain</span>"),
        ('<span style="background-color: rgb(254,222,200);">x</span>', '<span class="on-orange">x</span>'),
        ('<span style="font-family: Courier New;">x</span>', '<span class="fixed-width">x</span>'),
        ('<font color="red">no</font>', '<span class="text-red">no</span>'),
        ('<p style="font-weight: bold; font-style: italic;">x</p>', '<p class="bold italic">x</p>'),
        ('<h2 style="color: blue">x</h2>', '<h2 id="p7-x" class="text-blue">x</h2>'),
        (
            '<p><a href="https://h.example/" style="color: red">x</a></p>',
            '<p><a href="https://h.example/" rel="noopener noreferrer nofollow">'
            '<span class="text-red">x</span></a></p>',
        ),
        (
            '<ol start="5" type="a"><li>a</li><li value="9">b</li></ol>',
            '<ol start="5" class="numbered-lower-alpha"><li>a</li><li value="9">b</li></ol>',
        ),
        (
            '<ol reversed="reversed" start="x" style="list-style-type: upper-latin"><li>a</li></ol>',
            '<ol reversed="" class="numbered-upper-alpha"><li>a</li></ol>',
        ),
        (
            '<table><tbody><tr><td data-highlight-colour="#ffebe6">x</td>'
            '<td class="highlight-green">y</td></tr></tbody></table>',
            '<table><tbody><tr><td class="on-red">x</td><td class="on-green">y</td></tr></tbody></table>',
        ),
        ('<ac:emoticon ac:name="blue-star"/>', "\u2b50"),
        ('<ac:emoticon ac:name="blue-star" ac:emoji-fallback=":labelops:"/>', ":labelops:"),
        (
            '<ac:emoticon ac:name="tick" ac:emoji-shortname=":check_mark:" ac:emoji-fallback=":check_mark:"/>',
            "\u2705",
        ),
        (
            '<ac:adf-extension><ac:adf-node type="panel"><ac:adf-attribute key="panel-type">error</ac:adf-attribute>'
            "<ac:adf-content><p>x</p></ac:adf-content></ac:adf-node>"
            '<ac:adf-fallback><div class="panel"><p>x</p></div></ac:adf-fallback></ac:adf-extension>',
            '<div class="panel panel-warning"><p class="panel-title">Warning</p><p>x</p></div>',
        ),
        (
            '<ac:adf-extension><ac:adf-node type="panel"/>'
            "<ac:adf-fallback><p>x</p></ac:adf-fallback></ac:adf-extension>",
            "<p>x</p>",
        ),
    ],
)
def test_each_shape_has_its_html_and_no_finding(body: str, html: str) -> None:
    shown = show(body)
    assert shown.html.strip() == html
    assert shown.findings == []


@pytest.mark.parametrize(
    ("body", "kind", "visible"),
    [
        (macro("jira", "<p>kept</p>", key="A-1"), "unknown_macro", ["macro jira is not shown here", "kept"]),
        (macro("children", depth="1"), "unknown_macro", ["macro children is not shown here"]),
        (
            '<ac:structured-macro ac:name="html"><ac:plain-text-body>'
            "<![CDATA[<script>x</script>]]></ac:plain-text-body>"
            "</ac:structured-macro>",
            "unknown_macro",
            ["macro html is not shown here", "<script>x</script>"],
        ),
        ('<ac:adf-extension><ac:adf-node type="poll"/></ac:adf-extension>', "unknown_macro", ["extension poll"]),
        (
            '<ac:image><ri:attachment ri:filename="gone.png"/></ac:image>',
            "unresolved_image",
            ["image missing: gone.png"],
        ),
        (
            '<ac:image><ri:url ri:value="https://x.example/a.png?token=1"/></ac:image>',
            "external_image",
            ["image from elsewhere: https://x.example/a.png"],
        ),
        ('<img src="https://x.example/a.png"/>', "external_image", ["image from elsewhere"]),
        ("<ac:image/>", "unresolved_image", ["image without a file"]),
        (
            '<ac:link><ri:page ri:content-title="Nowhere" ri:space-key="X"/></ac:link>',
            "unresolved_link",
            ["Nowhere"],
        ),
        ('<ac:link><ri:attachment ri:filename="f.pdf"/></ac:link>', "unresolved_link", ["f.pdf"]),
        ('<p><a href="javascript:alert(1)">click</a></p>', "unsafe_link", ["click"]),
        ('<p><a href=" data:text/html,x">click</a></p>', "unsafe_link", ["click"]),
        ("<p><marquee>text</marquee></p>", "unknown_element", ["text"]),
        ("<script>alert(1)</script>", "unknown_element", ["alert(1)"]),
        ("<ac:novelty/>", "unknown_element", ["ac:novelty"]),
        (macro("jira", key="A-1", server="Jira"), "unknown_macro", ["jira is not shown here; key: A-1; server: Jira"]),
        (
            '<ac:structured-macro ac:name="mathblock"><ac:parameter ac:name="body">a^2 &lt; b</ac:parameter>'
            "</ac:structured-macro>",
            "unknown_macro",
            ["body: a^2 < b"],
        ),
        (macro("ui-expand", "<p>kept</p>", title="Rare cases"), "unknown_macro", ["title: Rare cases", "kept"]),
        (
            '<ac:adf-extension><ac:adf-node type="poll"><ac:adf-attribute key="title">Which?</ac:adf-attribute>'
            "</ac:adf-node></ac:adf-extension>",
            "unknown_macro",
            ["title: Which?"],
        ),
        (
            '<ac:link><ri:shortcut ri:key="jira" ri:parameter="A-1"/></ac:link>',
            "unresolved_link",
            ["A-1@jira"],
        ),
        (macro("excerpt", "<p>two words</p>", hidden="true"), "hidden", [""]),
        ("<p><ac:placeholder>Say why</ac:placeholder></p>", "hidden", [""]),
        (
            '<ac:image ac:alt="a scheme"><ri:attachment ri:filename="gone.png"/></ac:image>',
            "unresolved_image",
            ["image missing: gone.png, a scheme"],
        ),
    ],
)
def test_what_cannot_be_shown_leaves_its_text_and_a_finding(body: str, kind: str, visible: list[str]) -> None:
    shown = show(body)
    assert [(finding.kind, finding.page_id) for finding in shown.findings] == [(kind, "7")]
    text = reader.fromstring(f"<div>{shown.html}</div>").text_content()
    for piece in visible:
        assert piece in text
    assert "token" not in shown.html


def test_headings_make_sections_a_contents_list_and_distinct_anchors() -> None:
    shown = show(
        '<ac:structured-macro ac:name="toc"/><h1>Labels</h1><h2>Edge <b>cases</b></h2><h1>Labels</h1>', heading_offset=2
    )
    assert shown.sections == ["Labels", "Edge cases", "Labels"]
    tree = reader.fromstring(shown.html)
    assert [item.get("href") for item in tree.iter("a")] == ["#p7-labels", "#p7-edge-cases", "#p7-labels-2"]
    assert [item.get("id") for item in tree.iter("h3", "h4")] == ["p7-labels", "p7-edge-cases", "p7-labels-2"]


@pytest.mark.parametrize(
    ("first", "second", "anchors"),
    [
        ("Правила", "Примеры", ["p7-правила", "p7-примеры"]),
        ("規則", "例", ["p7-規則", "p7-例"]),
        ("कि", "का", ["p7-कि", "p7-का"]),
        ("\u2705", "\u274c", ["p7-\u2705", "p7-\u274c"]),
        ("C++", "C#", ["p7-c", "p7-c-2"]),
        ("Cafe\u0301", "Cafe", ["p7-caf\u00e9", "p7-cafe"]),
    ],
)
def test_a_link_leads_to_the_heading_that_it_names_in_any_script(first: str, second: str, anchors: list[str]) -> None:
    links = "".join(f'<ac:link ac:anchor="{title}"/><a href="#{quote(title)}">x</a>' for title in (first, second))
    shown = show(f"{links}<h1>{first}</h1><h1>{second}</h1>")
    tree = reader.fragment_fromstring(shown.html, create_parent="div")
    assert [heading.get("id") for heading in tree.iter("h1")] == anchors
    led = [unquote(link.get("href")) for link in tree.iter("a")]
    assert led == [f"#{anchors[0]}"] * 2 + [f"#{anchors[1]}"] * 2


def test_an_anchor_beside_a_heading_of_its_name_has_an_id_of_its_own() -> None:
    shown = show("<h1>Rules</h1>" + macro("anchor", **{"": "Rules"}))
    tree = reader.fragment_fromstring(shown.html, create_parent="div")
    assert [element.get("id") for element in tree.iter() if element.get("id")] == ["p7-rules", "p7-rules-2"]


def test_what_a_page_hides_is_counted_and_not_shown() -> None:
    shown = show(
        macro("excerpt", "<p>two words</p>", hidden="true") + "<p><ac:placeholder>Say why</ac:placeholder></p>"
    )
    assert [finding.detail.partition(" that")[0] for finding in shown.findings] == [
        "excerpt: 2 word(s)",
        "placeholder: 2 word(s)",
    ]
    assert shown.text_characters == 0
    assert shown.hides_excerpt


def test_a_hidden_heading_is_no_section_and_in_no_contents_list() -> None:
    hidden = macro("excerpt", "<h1>Sources</h1>", hidden="true")
    shown = show(f"{macro('toc')}{hidden}<h1>Labels<ac:placeholder> and why</ac:placeholder></h1>")
    assert shown.sections == ["Labels"]
    assert reader.fromstring(shown.html).text_content().strip() == "LabelsLabels"


def test_a_link_without_a_text_shows_its_address_whatever_its_colour() -> None:
    shown = show('<p><a href="https://h.example/x" style="color: red"></a></p>')
    assert reader.fromstring(shown.html).text_content() == "https://h.example/x"


def test_an_included_page_is_named_where_its_text_belongs() -> None:
    link = '<ac:link><ri:page ri:content-title="Other page" ri:space-key="LAB"/></ac:link>'
    shown = show(
        f'<ac:structured-macro ac:name="include"><ac:parameter ac:name="">{link}</ac:parameter></ac:structured-macro>'
        + macro("excerpt-include", **{"": "Nowhere"})
    )
    assert shown.includes == [Include("Other page", "LAB", False), Include("Nowhere", None, True)]
    tree = reader.fragment_fromstring(shown.html, create_parent="div")
    assert tree.text_content().strip() == "[text of page Other page][excerpt of page Nowhere]"
    assert [link.get("href") for link in tree.iter("a")] == ["#page-9"]


def test_every_class_that_formatting_makes_has_a_rule() -> None:
    assert [name for name in sorted(emphasis.CLASSES) if f".labelops-guideline .{name}{{" not in STYLE] == []


def test_images_are_listed_once_and_text_is_counted() -> None:
    picture = '<ac:image><ri:attachment ri:filename="chart.png"/></ac:image>'
    shown = show(f"<p>ab   cd</p>{picture}{picture}")
    assert shown.images == ["images/chart.png"]
    assert shown.text_characters == len("ab cd")


def test_the_same_body_renders_to_the_same_html() -> None:
    body = "<h1>A</h1>" + macro("info", "<p>x</p>", title="T")
    assert show(body) == show(body)


HOSTILE = st.sampled_from(
    [
        "<p>{}</p>",
        '<a href="{}">x</a>',
        '<p onclick="{}" style="background:url({})">x</p>',
        '<ac:image ac:alt="{}" ac:width="{}"><ri:attachment ri:filename="{}"/></ac:image>',
        '<ac:image><ri:url ri:value="{}"/></ac:image>',
        '<ac:link><ri:page ri:content-title="{}"/><ac:link-body>{}</ac:link-body></ac:link>',
        '<ac:link ac:anchor="{}"/>',
        '<ac:link><ri:user ri:account-id="{}"/></ac:link>',
        '<ac:link><ri:url ri:value="{}"/></ac:link>',
        '<time datetime="{}"/>',
        '<ac:emoticon ac:emoji-fallback="{}" ac:name="{}"/>',
        '<ac:structured-macro ac:name="{}"><ac:parameter ac:name="title">{}</ac:parameter></ac:structured-macro>',
        '<ac:structured-macro ac:name="status"><ac:parameter ac:name="colour">{}</ac:parameter></ac:structured-macro>',
        '<ac:structured-macro ac:name="anchor"><ac:parameter ac:name="">{}</ac:parameter></ac:structured-macro>',
        '<ac:structured-macro ac:name="code"><ac:plain-text-body>{}</ac:plain-text-body></ac:structured-macro>',
        '<h1 id="{}">{}</h1>',
        '<td colspan="{}">{}</td>',
        '<iframe src="{}">{}</iframe>',
        '<svg onload="{}"><script>{}</script></svg>',
        '<style>{}</style><form action="{}"><input type="{}" value="{}"/></form>',
        '<img src="{}" onerror="{}"/>',
    ]
)
PAYLOAD = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "javascript:alert(1)",
            " JaVaScRiPt:alert(1)",
            "java\tscript:alert(1)",
            "vbscript:x",
            "data:text/html,<script>alert(1)</script>",
            '"><script>alert(1)</script>',
            "' onmouseover='alert(1)",
            "</style><script>alert(1)</script>",
            "//evil.example/x.png",
            "https://evil.example/x",
            "images/chart.png",
            "]]><script>x</script>",
        ]
    ),
)
PAYLOAD_LINES = ["java&#10;script:alert(1)", "&#9;javascript:x", "JAVA\nSCRIPT:x"]
ALLOWED = {"id", "class", "href", "rel", "src", "alt", "width", "height", "type", "disabled", "checked", "colspan"}
ALLOWED |= {"rowspan", "scope", "datetime", "start", "title", "reversed", "value"}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(HOSTILE, st.lists(PAYLOAD, min_size=4, max_size=4)), min_size=1, max_size=4))
def test_nothing_that_runs_or_loads_comes_out(pieces: list[tuple[str, list[str]]]) -> None:
    body = "".join(shape.format(*[escape(payload) for payload in payloads]) for shape, payloads in pieces)
    try:
        shown = show(body, resolve_link=lambda title, *_: title, resolve_image=lambda name, _: "images/1.png")
    except InvalidInput:
        return
    for element in reader.fragment_fromstring(shown.html, create_parent="div").iter():
        assert element.tag not in {
            "script",
            "style",
            "iframe",
            "svg",
            "form",
            "object",
            "embed",
            "link",
            "meta",
            "base",
        }
        assert set(element.attrib) <= ALLOWED
        address = "".join(element.get("href", "").split()).lower()
        assert not address.startswith(("javascript:", "vbscript:", "data:"))
        if element.tag == "img":
            assert element.get("src", "").startswith("images/")
        if element.tag == "input":
            assert element.get("type") == "checkbox"


@pytest.mark.parametrize("address", PAYLOAD_LINES)
def test_a_scheme_broken_by_white_space_is_no_link(address: str) -> None:
    link = '<ac:link><ri:page ri:content-title="T"/><ac:link-body>text</ac:link-body></ac:link>'
    for body in (f'<a href="{address}">text</a>', link):
        shown = show(body, resolve_link=lambda *_: unescape(address))
        assert "href" not in shown.html
        assert "text" in shown.html


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_plain_text_is_never_lost(text: str) -> None:
    shown = show(f"<p>{escape(text)}</p>")
    expected = " ".join(escape(text).split())
    assert " ".join(reader.fromstring(f"<div>{shown.html}</div>").text_content().split()) == " ".join(
        unescape(expected).split()
    )


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="<>/apbchr:=\"'&; ![]CDAT-", max_size=60))
def test_rendering_raises_nothing_but_invalid_input(body: str) -> None:
    with suppress(InvalidInput):
        assert isinstance(show(body).html, str)
