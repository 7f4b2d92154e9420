"""Tables of what is known to be wrong with published datasets; repairs come from here alone."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Defect:
    """A line of ``manifests/imports/defects.csv``.

    Attributes:
        check: which check the image does not pass as published; where it does, all is well.
        fix: ``rot90`` or ``transpose`` of the mask, or ``exclude``.
        note: how that is known.
    """

    check: str
    fix: str
    note: str


@cache
def defects_of(layout: str) -> Mapping[str, Defect]:
    """The known defects of a layout by its own key: a stem, a running number, a path."""
    return {
        line["key"]: Defect(line["check"], line["fix"], line["note"])
        for line in _lines("defects.csv")
        if line["layout"] == layout
    }


@cache
def renames_of(layout: str) -> Mapping[str, str]:
    """Stems of images as first released → stems that their masks have."""
    return {
        line["image"]: line["mask"] for line in _lines("renames.csv") if line["layout"] == layout
    }


def _lines(name: str) -> list[dict[str, str]]:
    path = resources.files("advbench.manifests") / "imports" / name
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
