"""Read HTML pages as a browser would, without one."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

# All that the templates use; anything else came from a name.
TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title style body a header footer main nav section article div p span small "
        "strong bdi code pre h1 h2 h3 ul ol li dl dt dd details summary table caption thead tbody "
        "tr th td figure figcaption img svg path text g input label button dialog script noscript "
        "br",
    )
)


class Page(HTMLParser):
    """Elements with their attributes, and the text of each kind of element."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_data(self, data):
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def check_self_contained(page: Page) -> None:
    """Nothing is loaded from elsewhere, nothing runs but what the policy names."""
    assert {tag for tag, _ in page.elements} <= TAGS
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert re.match("data:image/webp;base64,", attributes.get("src", "data:image/webp;base64,"))
    policy = next(
        a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    kinds = [attributes.get("type", "") for attributes in page.all("script")]
    running = [text for text, kind in zip(page.texts["script"], kinds, strict=True) if kind == ""]
    assert len(running) == 1
    assert len(running[0].encode()) < 10_000
    for text in (*running, *page.texts["style"]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
