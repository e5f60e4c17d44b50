from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.base.errors import InvalidInput
from include.systems.confluence import storage

MACRO = (
    '<ac:structured-macro ac:name="code"{}><ac:parameter ac:name="{}">1</ac:parameter>'
    '<ac:parameter ac:name="{}">1</ac:parameter><ac:plain-text-body><![CDATA[a  <b>]]></ac:plain-text-body>'
    "</ac:structured-macro>"
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<p>a</p>", '<p local-id="1" ac:local-id="2">a</p>'),
        ("<p><b>a</b> <i>b</i></p>", "<p><strong>a</strong> <em>b</em></p>"),
        ("<p>a b</p>\n\n<p>c</p>", "<p>a\n  b</p><p>c</p>"),
        ("<p>a <u>b</u></p>", '<p>a <ac:inline-comment-marker ac:ref="7"><u>b</u></ac:inline-comment-marker></p>'),
        ("<p>comment</p>", '<p>com<ac:inline-comment-marker ac:ref="7">men</ac:inline-comment-marker>t</p>'),
        (MACRO.format("", "a", "z"), MACRO.format(' ac:macro-id="9" ac:schema-version="1"', "z", "a")),
        ("<hr/>", "<hr />"),
        ("<p>&nbsp;&ldquo;x&rdquo;&eacute;</p>", '<p>\u00a0"x"\u00e9</p>'),
        ("<p>a<!-- c -->b</p>", "<p>ab</p>"),
        (
            '<ac:link><ri:page ri:content-title="T" ri:version-at-save="3"/></ac:link>',
            '<ac:link><ri:page ri:content-title="T"/></ac:link>',
        ),
        (
            "<ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-body>x</ac:task-body></ac:task></ac:task-list>",
            "<ac:task-list>\n<ac:task><ac:task-id>1</ac:task-id><ac:task-uuid>u</ac:task-uuid>"
            "<ac:task-body>x</ac:task-body></ac:task></ac:task-list>",
        ),
    ],
)
def test_what_the_server_rewrites_is_no_change(one: str, other: str) -> None:
    assert storage.canonical(one) == storage.canonical(other)
    assert storage.equal(one, other)
    assert storage.digest(one) == storage.digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<p>approved</p>", "<p>APPROVED</p>"),
        ("<p>a b</p>", "<p>ab</p>"),
        ("<p>a</p>", "<h1>a</h1>"),
        ("<p>a</p><p>b</p>", "<p>b</p><p>a</p>"),
        ("<p><strong>a</strong> b</p>", "<p><strong>a</strong>b</p>"),
        ("<pre>a  b</pre>", "<pre>a b</pre>"),
        (MACRO.format("", "a", "z"), MACRO.format("", "a", "y")),
        (MACRO.format("", "a", "z"), MACRO.format("", "a", "z").replace("a  <b>", "a <b>")),
        ('<pre>"</pre>', "<pre>&ldquo;</pre>"),
        ('<a href="https://a.example">x</a>', '<a href="https://b.example">x</a>'),
        ("<p>&lt;b&gt;</p>", "<p><b/></p>"),
    ],
)
def test_what_a_reader_would_notice_is_a_change(one: str, other: str) -> None:
    assert not storage.equal(one, other)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<p>one</p>\n<p>two</b>", "line 2, column"),
        ("<p>&nosuch;</p>", "line 1, column 4: HTML has no entity &nosuch;"),
        ("<p>a & b</p>", "a bare & is written &amp;"),
        ("<p><x:y/></p>", "only the prefixes ac: and ri:"),
        ("<p a=1>x</p>", "line 1"),
        ("\x00", "control characters"),
        ("\ud800", "surrogate"),
        ("<p>", "closed"),
        ("</body><body>", "line 1"),
        ("<p>" * 200 + "</p>" * 200, "120 levels"),
        ("<p>" * 5000 + "</p>" * 5000, "nested too deeply"),
    ],
)
def test_malformed_storage_says_where_and_what(body: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        storage.parse(body)
    assert said in str(caught.value)


def test_line_and_column_are_those_of_the_body_and_said_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        storage.parse("<p>one</p>\n<p>\ntwo</b>")
    assert str(caught.value).count("line 3, column 8") == 1
    assert "p line 2 and b" in str(caught.value)


def test_size_is_limited_in_bytes() -> None:
    assert storage.parse("é" * 50, max_bytes=100) is not None
    with pytest.raises(InvalidInput, match="found 102 bytes, allowed are 100"):
        storage.parse("é" * 51, max_bytes=100)


@pytest.mark.parametrize(
    "body",
    [
        '<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><p>&b;</p>',
        '<!DOCTYPE r SYSTEM "https://evil.example/x.dtd"><p/>',
        '</body><!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><body>&a;',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        "<p>&a;</p>",
    ],
)
def test_entities_cannot_be_declared(body: str) -> None:
    with pytest.raises(InvalidInput):
        storage.parse(body)


def test_a_processing_instruction_leaves_nothing() -> None:
    assert storage.equal('<p>a<?php evil("x") ?>b</p>', "<p>ab</p>")


def test_entities_inside_cdata_are_text() -> None:
    body = "<ac:plain-text-body><![CDATA[&nbsp; & <p>]]></ac:plain-text-body>"
    assert storage.text_of(storage.parse(body)) == "&nbsp; & <p>"


@given(st.text())
def test_escaped_text_comes_back_or_is_replaced_where_xml_cannot_hold_it(text: str) -> None:
    root = storage.parse(f'<p title="{storage.escape(text)}">{storage.escape(text)}</p>')
    expected = "".join("\ufffd" if storage._NOT_XML.match(c) else c for c in text)
    assert (root[0].text or "").replace("\n", "\r") == expected.replace("\r\n", "\r").replace("\n", "\r")


@given(st.text(alphabet="]>[<&a \n"))
def test_cdata_holds_any_text(text: str) -> None:
    root = storage.parse(f"<ac:plain-text-body>{storage.cdata(text)}</ac:plain-text-body>")
    assert "".join(root[0].itertext()) == text


FRAGMENTS = st.sampled_from(
    [
        "<p>",
        "</p>",
        "<b>",
        "</b>",
        " ",
        "\n",
        "a",
        "&nbsp;",
        "&",
        "&x;",
        "<br/>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "<ac:x>",
        "</ac:x>",
        '<ac:structured-macro ac:name="details">',
        "</ac:structured-macro>",
        "<",
        ">",
        '"',
        "<?a?>",
        "\x01",
        "<table><tr><th>a</th><td>b</td></tr></table>",
        "<q:z/>",
        "<!DOCTYPE a>",
        "&#0;",
        "&#x41;",
        "\ufffe",
    ]
)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(FRAGMENTS, max_size=12).map("".join)))
def test_any_text_is_read_or_refused_and_canonical_is_stable(body: str) -> None:
    try:
        once = storage.canonical(body)
    except InvalidInput:
        return
    inner = once.decode().removeprefix("<body>").removesuffix("</body>")
    assert storage.canonical(inner) == once
    assert isinstance(storage.properties(body), dict)
    assert len(storage.approval_digests(body)) == 2


def details(*rows: tuple[str, str]) -> str:
    lines = "".join(f"<tr><th>{name}</th><td>{cell}</td></tr>" for name, cell in rows)
    return (
        '<ac:structured-macro ac:name="details"><ac:rich-text-body>'
        f"<table><tbody>{lines}</tbody></table></ac:rich-text-body></ac:structured-macro>"
    )


def test_page_properties_are_read_as_a_person_reads_them() -> None:
    status = (
        '<ac:structured-macro ac:name="status">'
        '<ac:parameter ac:name="title">Approved</ac:parameter></ac:structured-macro>'
    )
    mention = '<ac:link><ri:user ri:account-id="acc-greta"/></ac:link> <time datetime="2026-03-02"/>'
    body = "<p>x</p>" + details(("Status", status), ("Approved <b>by</b>", mention), ("Status", "second"))
    assert storage.properties(body) == {"Status": "Approved", "Approved by": "@acc-greta 2026-03-02"}


def test_page_properties_may_lie_across() -> None:
    body = (
        '<ac:structured-macro ac:name="details"><ac:rich-text-body><table><tbody><tr><th>Status</th><th>Owner</th></tr>'
        "<tr><td>Approved</td><td>Olga</td></tr></tbody></table></ac:rich-text-body></ac:structured-macro>"
    )
    assert storage.properties(body) == {"Status": "Approved", "Owner": "Olga"}


def test_a_table_outside_details_is_no_page_property() -> None:
    assert storage.properties("<table><tbody><tr><th>Status</th><td>Approved</td></tr></tbody></table>") == {}


def test_text_and_approval_rows_have_digests_of_their_own() -> None:
    text, rows = storage.approval_digests("<p>x</p>" + details(("Status", "Approved")))
    assert storage.approval_digests("<p>y</p>" + details(("Status", "Approved")))[1] == rows
    assert storage.approval_digests("<p>y</p>" + details(("Status", "Approved")))[0] != text
    assert storage.approval_digests("<p>x</p>" + details(("Status", "Draft"))) == (
        text,
        storage.approval_digests(details(("Status", "Draft")))[1],
    )
