"""One escaping at each boundary, checked by what reads the other side."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from advbench.escaping import (
    csv_text,
    markdown,
    markdown_address,
    markdown_code,
    rich_text,
    visible,
    web_address,
)


@given(st.text())
def test_visible_leaves_nothing_hidden(text):
    shown = visible(text)
    assert shown.replace("\u200d", "").isprintable() or all(
        c.isprintable() or c.isspace() or not c.isascii() for c in shown
    )
    assert not set(shown) & {chr(c) for c in range(32)}
    assert not set(shown) & set(
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\ufeff"
    )


def test_visible_keeps_what_people_write():
    for text in ("photo 1.png", "שלום", "日本語", "é", "\U0001f469\u200d\U0001f52c", "a=b; [c]"):
        assert visible(text) == text
    assert visible("a\nb\x1b[0m") == "a\\nb\\x1b[0m"


@given(st.text(alphabet=st.sampled_from("[]/abc \\\x1b\n"), max_size=12))
def test_rich_shows_any_name_as_it_is(text):
    """``[edit]`` neither vanishes nor, as ``[/Tp/b]``, raises."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    table = Table(box=None, show_header=False, padding=0)
    table.add_row(rich_text(text))
    console.print(table)
    assert console.file.getvalue().rstrip() == visible(text).rstrip()


HOSTILE = [
    "# heading", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "![x](http://e)",
    "a | b", "`code`", "**b** _i_ ~~s~~", "line\n\n# two", "- item", "1. item", "12) item",
    "> quote", "&lt;", "| --- |", "***", "\\[", "<!-- -->", "http://e.example/<script>", "a\\",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("before", ["title: ", ""])
def test_markdown_is_text(before, text):
    """Rendered by an independent reader, it is the text that was given."""
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    html = reader.render(f"{before}{markdown(text)} end")
    shown = " ".join(text.split())
    import html as escapes

    assert (
        escapes.unescape(html.removeprefix("<p>").removesuffix("</p>\n")) == f"{before}{shown} end"
    )
    assert html.count("<") == 2


@pytest.mark.parametrize("text", [*HOSTILE, "``", "`", "a`b``c"])
def test_markdown_code_is_code(text):
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark")
    html = reader.render(f"x {markdown_code(text)} y")
    assert html.startswith("<p>x <code>")
    assert html.endswith("</code> y</p>\n")
    assert html.count("<") == 4


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("https://example.org/a?b=c#d", True),
        ("http://example.org", True),
        ("javascript:alert(1)", False),
        ("JAVASCRIPT:alert(1)", False),
        ("data:text/html,x", False),
        ("https://user:pass@example.org", False),
        ("https://example.org/)](x", False),
        ("https://example.org/<b>", False),
        ("https://ex ample.org", False),
        ("//example.org", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_web_address(text, good):
    assert (web_address(text) == text) is good
    assert (markdown_address(text) == f"<{text}>") is good


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_text(start):
    assert csv_text(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"
    assert csv_text("photo=1") == "photo=1"
