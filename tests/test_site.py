"""The documentation site: every page is in its navigation, and the reference is whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from advbench.cli.main import VERBS
from advbench.registry import ATTACKS, DEFENSES, VICTIMS

ROOT = Path(__file__).parents[1]


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
