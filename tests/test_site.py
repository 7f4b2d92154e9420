"""The documentation site: every page is in its navigation, and the reference is whole."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from advbench.cli.main import VERBS
from advbench.registry import ATTACKS, DEFENSES, VICTIMS

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_navigation_has_every_page_once():
    text = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = re.findall(r": (\S+\.md)$", text, re.M)
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.glob("**/*.md")}
    pages = {page for page in pages if not page.startswith("experiments/")}
    assert len(listed) == len(set(listed))
    assert set(listed) == pages | {"reference.md"}


def test_reference_has_everything():
    command = [sys.executable, str(ROOT / "scripts" / "reference")]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    headings = re.findall("^### (.+)$", text, re.M)
    for registry in (ATTACKS, DEFENSES, VICTIMS):
        assert set(registry.standard()) <= set(headings)
    for verb in VERBS:
        assert any(heading.split()[1:2] == [verb] for heading in headings), verb


def test_published_links_lead_to_the_repository(tmp_path):
    """Those that leave docs/ become addresses of files that are there; the others stay."""
    docs, address = tmp_path / "docs", "https://host.example/blob/1a2b"
    shutil.copytree(ROOT / "docs", docs)
    command = [sys.executable, str(ROOT / "scripts" / "site-links"), address, str(docs)]
    subprocess.run(command, check=True)
    outward = 0
    for page in docs.rglob("*.md"):
        before = (ROOT / "docs" / page.relative_to(docs)).read_text()
        pairs = zip(LINK.findall(before), LINK.findall(page.read_text()), strict=True)
        for old, new in pairs:
            if new == old:
                target = old.partition("#")[0]
                outside = "://" not in old and not (page.parent / target).exists()
                assert not target or not outside or target == "reference.md", (page, old)
            else:
                outward += 1
                assert new.startswith(f"{address}/")
                assert (ROOT / new.removeprefix(f"{address}/").partition("#")[0]).exists()
    assert outward > 5
