"""No word of a page is lost: what a reader of the page sees is published, and what the page hides is counted."""

from __future__ import annotations

import re
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import html as reader

from tests.guidelines.test_html import show

SEEN, HIDDEN = "\u00a7", "\u00a4"
"""Stand for a word in the shapes below; each gets a number, so that no two words are the same."""


def macro(name: str, given: str = "", body: str = "", kind: str = "rich-text-body") -> str:
    inside = "".join(
        f'<ac:parameter ac:name="{one.partition("=")[0]}">{one.partition("=")[2]}</ac:parameter>'
        for one in given.split(";")
        if one
    )
    inside += f"<ac:{kind}>{body}</ac:{kind}>" if body else ""
    return f'<ac:structured-macro ac:name="{name}">{inside}</ac:structured-macro>'


WORDS = (
    SEEN,
    '<ac:link><ri:page ri:content-title="§"/></ac:link>',
    '<ac:link><ri:page ri:content-title="Other page"/><ac:link-body>§</ac:link-body></ac:link>',
    '<ac:link><ri:blog-post ri:content-title="§"/></ac:link>',
    '<ac:link><ri:shortcut ri:key="§" ri:parameter="§"/></ac:link>',
    '<ac:link><ri:attachment ri:filename="§.pdf"/></ac:link>',
    '<ac:link><ri:space ri:space-key="§"/></ac:link>',
    '<ac:link><ri:content-entity ri:content-id="§"/></ac:link>',
    '<ac:link><ri:url ri:value="https://h.example/§"/></ac:link>',
    '<ac:link><ri:user ri:account-id="§"/></ac:link>',
    '<ac:link ac:anchor="§"/>',
    '<a href="https://h.example/§"></a>',
    '<a href="https://h.example/" style="color: red;">§</a>',
    '<ac:emoticon ac:name="blue-star" ac:emoji-fallback=":§:"/>',
    '<ac:emoticon ac:name="blue-star" ac:emoji-shortname=":§:"/>',
    '<time datetime="§"/>',
    '<ac:image ac:alt="§"><ri:attachment ri:filename="chart.png"/><ac:caption>§</ac:caption></ac:image>',
    '<ac:image ac:alt="§"><ri:attachment ri:filename="§.png"/></ac:image>',
    '<ac:image ac:alt="§"><ri:url ri:value="https://h.example/§.png"/></ac:image>',
    '<img src="https://h.example/§.png" alt="§"/>',
    "<ac:placeholder>¤ ¤</ac:placeholder>",
    macro("status", "title=§;colour=Red"),
    macro("mathinline", "body=§"),
    macro("jira", "server=§;key=§"),
    macro("profile", 'user=<ri:user ri:account-id="§"/>'),
    macro("view-file", 'name=<ri:attachment ri:filename="§.pdf"/>'),
    macro("include", '=<ac:link><ri:page ri:content-title="§"/></ac:link>'),
    macro("excerpt-include", "=§"),
    macro("code", "title=§;language=§", "<![CDATA[§ < §]]>", "plain-text-body"),
    macro("html", "", "<![CDATA[<b>§</b>]]>", "plain-text-body"),
    macro("excerpt", "hidden=true", "<p>¤</p>"),
    macro("details", "hidden=true", "<table><tbody><tr><th>¤</th><td>¤</td></tr></tbody></table>"),
)
AROUND = (
    "<p>%s §</p>",
    "<h2>%s</h2>",
    '<span style="text-decoration: line-through;">%s</span>',
    '<span style="color: rgb(255,86,48); background-color: #ffebe6;">%s</span>',
    '<font face="courier" color="red">%s</font>',
    "<strike>%s</strike>",
    '<ol start="5"><li>%s</li><li value="9">§</li></ol>',
    "<ul><li>%s</li></ul>",
    '<table><tbody><tr><th>§</th><td data-highlight-colour="#ffebe6">%s</td></tr></tbody></table>',
    "<blockquote>%s</blockquote>",
    "<ac:layout><ac:layout-section><ac:layout-cell>%s</ac:layout-cell></ac:layout-section></ac:layout>",
    "<ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-status>complete</ac:task-status>"
    "<ac:task-body>%s</ac:task-body></ac:task></ac:task-list>",
    '<ac:inline-comment-marker ac:ref="1">%s</ac:inline-comment-marker>',
    "<novelty>%s</novelty>",
    macro("info", "title=§", "%s"),
    macro("expand", "title=§", "%s"),
    macro("ui-expand", "title=§", "%s"),
    macro("excerpt", "", "%s"),
    macro("unheard-of", "title=§", "%s"),
    '<ac:adf-extension><ac:adf-node type="panel"><ac:adf-attribute key="panel-type">error</ac:adf-attribute>'
    "<ac:adf-content>%s</ac:adf-content></ac:adf-node></ac:adf-extension>",
    '<ac:adf-extension><ac:adf-node type="poll"><ac:adf-attribute key="title">§</ac:adf-attribute>'
    "<ac:adf-content>%s</ac:adf-content></ac:adf-node></ac:adf-extension>",
    '<ac:adf-extension><ac:adf-node type="decision-list"/><ac:adf-fallback>%s</ac:adf-fallback></ac:adf-extension>',
)
PAGES = st.recursive(
    st.sampled_from(WORDS),
    lambda inside: st.builds(
        lambda shape, parts: shape.replace("%s", " ".join(parts)),
        st.sampled_from(AROUND),
        st.lists(inside, min_size=1, max_size=3),
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PAGES, min_size=1, max_size=4))
def test_the_words_of_a_page_are_those_published_and_those_that_a_finding_counts(pieces: list[str]) -> None:
    numbers = count()
    body = re.sub(SEEN, lambda _: f"w{next(numbers)}x", "".join(pieces))
    hidden = count()
    body = re.sub(HIDDEN, lambda _: f"h{next(hidden)}x", body)
    shown = show(body)
    root = reader.fragment_fromstring(shown.html, create_parent="div")
    published = " ".join([root.text_content(), *(image.get("alt", "") for image in root.iter("img"))])
    assert sorted(re.findall(r"w\d+x", published)) == sorted(f"w{number}x" for number in range(next(numbers)))
    assert not re.findall(r"h\d+x", published)
    counts = [re.search(r"(\d+) word", finding.detail) for finding in shown.findings if finding.kind == "hidden"]
    assert sum(int(found[1]) for found in counts if found) == next(hidden)
