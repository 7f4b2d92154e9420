"""``import_report.json``: what an import found, repaired and left out, and what it shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from advbench.datasets.importing.check import Examined
from advbench.datasets.importing.layouts.layout import Found
from advbench.datasets.importing.leaks import Overlap, duplicates
from advbench.datasets.importing.problems import Fault
from advbench.datasets.manifest import Row, counts_of

FILE = "import_report.json"
SCHEMA = "advbench.import_report/1"
_MANY = 0.5


def build_report(
    dataset: str,
    found: Found,
    examined: Sequence[Examined],
    rows: Sequence[Row],
    *,
    faults: Sequence[Fault],
    shared: Sequence[Overlap],
    listed: int | None,
) -> dict[str, Any]:
    """Plain data; paths are relative to the dataset's root.

    Args:
        rows: as they stand in the manifest, one for each image that can have one.
        faults: what stops a strict import.
        listed: how many images ``--list`` asked for; published counts do not count then.
    """
    forged = sum(one.candidate.label for one in examined)
    counts = {
        "forged": forged,
        "masks": found.mask_files,
        "authentic": len(examined) - forged,
    }
    published = dict(found.layout.published) if listed is None else {}
    return {
        "schema": SCHEMA,
        "dataset": dataset,
        "layout": found.layout.name,
        "found": counts,
        "published": published,
        "differences": [
            f"{counts[what]} {what} found, {number} published"
            for what, number in published.items()
            if counts[what] != number
        ],
        "listed": listed,
        "imported": counts_of(rows),
        "splits": dict(Counter(row.split for row in rows if not row.excluded)),
        "source_groups": len({row.source_group for row in rows if not row.excluded}),
        "masks_found_by": _masks_found_by(examined),
        "repaired": _repaired(examined),
        "masks_made": dict(
            Counter(one.row.mask_rule for one in examined if one.mask_png and not one.repaired)
        ),
        "excluded": _excluded(examined),
        "faults": [fault_as_json(fault) for fault in faults],
        "orphan_masks": [mask.relative_to(found.root).as_posix() for mask in found.orphans],
        "ignored": [
            {"file": file.relative_to(found.root).as_posix(), "why": why}
            for file, why in found.ignored
        ],
        "flags": dict(
            sorted(Counter(f for one in examined for f in one.row.flags.split(";") if f).items())
        ),
        "duplicates": duplicates(rows),
        "overlaps": [overlap.as_json() for overlap in shared],
        "warnings": [
            {"image": one.row.image, "warning": text} for one in examined for text in one.warnings
        ]
        + _of_the_whole(examined),
    }


def _repaired(examined: Sequence[Examined]) -> list[dict[str, str]]:
    return [
        {
            "image": one.row.image,
            "what": one.repaired,
            "why": one.candidate.defect.note if one.candidate.defect else "",
        }
        for one in examined
        if one.repaired
    ]


def _excluded(examined: Sequence[Examined]) -> list[dict[str, Any]]:
    return [
        {
            "image": one.row.image,
            "check": one.problem.check,
            "value": one.problem.value,
            "known": one.known,
        }
        for one in examined
        if one.problem
    ]


def fault_as_json(fault: Fault) -> dict[str, str]:
    """A line of the table of faults."""
    problem = fault.problem
    return {
        "file": fault.file,
        "check": problem.check,
        "value": problem.value,
        "fix": problem.fix,
    }


def _masks_found_by(examined: Sequence[Examined]) -> dict[str, int]:
    return dict(
        Counter(
            one.candidate.matched
            for one in examined
            if one.candidate.label and one.candidate.matched and not one.candidate.problem
        )
    )


def _of_the_whole(examined: Sequence[Examined]) -> list[dict[str, str]]:
    sound = [one for one in examined if one.candidate.label and not one.problem]
    large = sum(one.row.fg_fraction > _MANY for one in sound)
    if len(sound) < 2 or large <= len(sound) / 2:
        return []
    text = f"{large} of {len(sound)} masks cover more than half: is white forged here?"
    return [{"image": "", "warning": text}]
