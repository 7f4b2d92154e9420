"""NIST16 (Nimble Challenge 2016): probes and masks that tables of reference join."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

from advbench.datasets.importing.layouts.layout import Candidate, Found, Layout
from advbench.datasets.importing.masks import BLACK
from advbench.datasets.importing.problems import Problem
from advbench.datasets.importing.walking import existing_folder, walk
from advbench.datasets.manifest import Kind
from advbench.errors import AdvbenchError
from advbench.texts import read_text

LAYOUT = Layout(
    name="nist16",
    title="NIST16",
    images="probes probe/NC2016_*.jpg",
    masks="masks reference/<task>/mask/NC2016_*.png",
    source="https://mfc.nist.gov",
    published={"forged": 564},
    licence={"id": "NIST's agreement", "redistribution": "no"},
    citation="H. Guan et al.: MFC datasets: large-scale benchmark datasets for media forensic "
    "challenge evaluation, WACV workshops 2019",
    homepage="https://mfc.nist.gov",
    known_issues=(
        "several forgeries of one photograph that hardly differ: split them by photograph",
        "in its masks black is forged",
    ),
)
# The manipulation task has every probe; the others, masks of one kind of forgery.
TABLES = ("manipulation", "removal", "splice")
_KINDS: dict[str, Kind] = {
    "IsManipulationTypeRemoval": "removal",
    "IsManipulationTypeSplice": "splice",
    "IsManipulationTypeCopyClone": "copymove",
}
_NEEDED = ("ProbeFileName", "ProbeMaskFileName", "IsTarget")


def find(path: Path) -> Found:
    """The probes that ``reference/<task>/NC2016-<task>-ref.csv`` list, with the masks named there.

    Raises:
        AdvbenchError: no such folder, no table, or one that cannot be read.
    """
    root, entries = _entries(existing_folder(path))
    walked = walk(root)
    there = {file.relative_to(root).as_posix().lower(): file for file in walked.images}
    candidates, used = [], set()
    for probe, entry in sorted(entries.items()):
        image = there.get(probe.lower())
        if image is None:
            continue
        used.add(image)
        source = PurePosixPath(entry.get("BaseFileName") or probe).stem.lower()
        if entry["IsTarget"] != "Y":
            candidates.append(Candidate(image, label=0, kind="none", sources=(source,), matched=""))
            continue
        mask = there.get(entry["ProbeMaskFileName"].lower())
        used.update({mask} if mask else ())
        missing = Problem("no-mask", f"no file {entry['ProbeMaskFileName']}", "add its mask")
        candidates.append(
            Candidate(
                image,
                masks=(mask,) if mask else (),
                kind=_kind(entry),
                sources=(source,),
                mask_rule=BLACK,
                matched="table",
                problem=None if mask else missing,
            )
        )
    masks = {mask for candidate in candidates for mask in candidate.masks}
    LAYOUT.require(root, sum(candidate.label for candidate in candidates), len(masks))
    left = [(file, "in no table of reference") for file in walked.images if file not in used]
    return Found(
        LAYOUT, root, tuple(candidates), len(masks), (), tuple(sorted([*walked.ignored, *left]))
    )


def _entries(path: Path) -> tuple[Path, dict[str, dict[str, str]]]:
    """The folder that probes are relative to, and a row a probe: one that names a mask, where
    several tables have it."""
    folders = sorted(folder.parent for folder in path.rglob("reference") if folder.is_dir())
    for root in folders:
        entries: dict[str, dict[str, str]] = {}
        for task in TABLES:
            for table in sorted((root / "reference" / task).glob("*-ref.csv")):
                for entry in _rows(table):
                    known = entries.get(entry["ProbeFileName"])
                    if known is None or (known["IsTarget"], entry["IsTarget"]) == ("N", "Y"):
                        entries[entry["ProbeFileName"]] = entry
        if entries:
            return root, entries
    raise AdvbenchError(
        f"{path}: no table reference/manipulation/NC2016-manipulation-ref.csv; give the folder "
        "that holds probe and reference"
    )


def _rows(table: Path) -> list[dict[str, str]]:
    lines = read_text(table).splitlines()
    rows = list(csv.DictReader(lines, delimiter="|", restval=""))
    missing = [name for name in _NEEDED if not rows or name not in rows[0]]
    if missing:
        raise AdvbenchError(f"{table}: no column {missing[0]}; restore the published table")
    return rows


def _kind(entry: dict[str, str]) -> Kind:
    kinds = [kind for column, kind in _KINDS.items() if entry.get(column) == "Y"]
    return kinds[0] if len(kinds) == 1 else "mixed" if kinds else "unknown"
