"""Names from datasets are hostile input: nothing of them becomes markup, script or direction."""

from __future__ import annotations

import json
import re

import pytest

from advbench.report.build import ReportJob, build
from advbench.scores.records import path_of, write_records
from tests.report.pages import Page, check_self_contained
from tests.scores.made import record

NAMES = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\"' onmouseover=\"alert(1)",
    "<!--", "]]>", "{{ 7 * 7 }}", "${7*7}", "&lt;b&gt;", "javascript:alert(1)",
    "line\nbreak\r\u2028\u2029", "\u202egnp.exe", "\u200f\u2066right\u2069", "\x1b[31mred\x07",
    "\U0001f600\U0001f469\u200d\U0001f52c", "שלום", "</style><style>*{display:none}",
    "</bdi></td></table>", "\ufeff\u200b", "`${alert(1)}`", "a" * 3000,
]  # fmt: skip


@pytest.fixture
def page(tmp_path):
    records = [
        record(name, kind=name, source_group=name, f1=0.1 + number / 100, **variant)
        for number, name in enumerate(NAMES)
        for variant in (
            {},
            {"attack": "fgsm", "intensity": 1.0, "variant": "fgsm-1", "linf": 1.0},
            {"attack": name[:40], "intensity": 1.0, "variant": f"{name}-1", "defense": name},
        )
    ]
    for number, name in enumerate(NAMES):
        odd = [record(name, dataset=name[:60], victim=name, weights=name, version=name, f1=0.4)]
        path = path_of(tmp_path / "records", "odd", "v", f"{number}", defense="none")
        write_records(path, odd, "k")
    write_records(path_of(tmp_path / "records", "mine", "v", "all", defense="none"), records, "k")
    made = build(ReportJob(tmp_path, tmp_path / "page.html"))
    return made.path


def test_nothing_of_a_name_runs(page):
    read = Page(page)
    check_self_contained(read)
    assert len(read.all("script")) == 2
    assert len(read.all("style")) == 1


def test_names_are_shown_and_their_hidden_parts_told(page):
    read, text = Page(page), page.read_text("utf-8")
    shown = set(read.texts["bdi"])
    assert "<img src=x onerror=alert(1)>" in shown
    assert "line\\nbreak\\r\\u2028\\u2029" in shown
    assert "\\u202egnp.exe" in shown
    assert "{{ 7 * 7 }}" in shown
    assert "\U0001f600\U0001f469\u200d\U0001f52c" in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x1b\x07\u2028\u2029]", text)


def test_the_rows_survive(page):
    read = Page(page)
    rows = json.loads(read.texts["script"][0])
    texts = {rows["texts"][code] for code in rows["columns"][rows["text"].index("kind")]}
    assert "</script><script>alert(1)</script>" in texts
