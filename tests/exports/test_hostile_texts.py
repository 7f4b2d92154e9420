"""Texts of a stranger's ``dataset.json`` are text in the card, and no formula in a CSV."""

from __future__ import annotations

import csv
import html
import json
import re

import pytest

from advbench.scores.tables import as_csv
from tests.scores.made import frame, record

HOSTILE = {
    "title": "Forged\n\n# Heading <img src=x onerror=alert(1)> | cell",
    "version": "1 [x](javascript:alert(1))",
    "homepage": "javascript:alert(1)",
    "known_issues": ["<script>alert(1)</script>", "a\n\n## b", "![p](http://e.example/p.png)"],
}


@pytest.fixture
def card(store, tmp_path):
    store.manifest()
    path = store.out / "datasets" / "data" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | HOSTILE))
    store.export("png", tmp_path / "export")
    return (tmp_path / "export" / "README.md").read_text()


def test_the_card_holds_no_markup_of_theirs(card):
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    rendered = reader.render(card)
    assert not re.search(r'<script|<img (?!src="samples/\d.png" alt="original, mask, ad)', rendered)
    assert "javascript:" not in "".join(re.findall(r'href="[^"]*"', rendered))
    headings = re.findall("<h[1-6]>(.*?)</h[1-6]>", rendered)
    assert not any(h in ("Heading", "b") or "Heading" in h for h in headings)
    text = html.unescape(re.sub("<[^>]*>", "", rendered))
    assert "<script>alert(1)</script>" in text
    assert "Forged # Heading <img src=x onerror=alert(1)> | cell" in text


def test_no_cell_is_a_formula():
    name = '=HYPERLINK("http://e.example";"x")'
    table = frame([record(defense=name, kind="+1", weights="@x")])
    rows = list(csv.DictReader(as_csv(table).decode().splitlines()))
    assert rows[0]["defense"] == f"'{name}"
    assert rows[0]["kind"] == "'+1"
    assert rows[0]["weights"] == "'@x"
    assert float(rows[0]["tp"]) == 1


def test_escape_codes_do_not_reach_the_terminal(tmp_path, advbench_command):
    ran = advbench_command("generate", "--attack", "\x1b[31mpgd\x07", "--out", tmp_path)
    assert ran.code == 2
    assert "\x1b" not in ran.err
    assert "[31mpgd" in ran.err
