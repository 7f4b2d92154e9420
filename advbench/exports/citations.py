"""Give the BibTeX of what an export was made with: attacks and victims are other people's work."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources

import advbench


def bibtex(names: Iterable[str]) -> str:
    """The entries of advbench and of the attacks and victims named, those that are known, in the
    order of ``references.bib``."""
    text = resources.files("advbench.exports").joinpath("references.bib").read_text("utf-8")
    entries = text.replace("VERSION", advbench.__version__).strip().split("\n\n")
    wanted = {"advbench", *(plain(name) for name in names)}
    return "\n\n".join(entry for entry in entries if _key(entry) in wanted)


def plain(name: str) -> str:
    """The attack or victim itself, without numerics: ``pgd`` of ``pgd~fast``."""
    return name.partition("~")[0]


def _key(entry: str) -> str:
    found = re.match(r"@\w+\{(\w+),", entry)
    assert found
    return found[1]
