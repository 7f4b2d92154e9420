"""MISD: a folder for each picture, with its PNG and one mask for each pasted object."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from advbench.datasets.decoding import MASK_RULE
from advbench.datasets.importing.layouts.casia import photographs
from advbench.datasets.importing.layouts.layout import Candidate, Found, Layout
from advbench.datasets.importing.masks import UNION
from advbench.datasets.importing.problems import Problem
from advbench.datasets.importing.walking import existing_folder, walk

LAYOUT = Layout(
    name="misd",
    title="MISD",
    images="images 'Ground Truth Masks'/<name>/images/<name>.png",
    masks="masks 'Ground Truth Masks'/<name>/masks/<name>_1.png, _2.png, ...",
    source="https://doi.org/10.5281/zenodo.5525829",
    published={"forged": 302, "masks": 731, "authentic": 620},
    citation="K. D. Kadam, S. Ahirrao, K. Kotecha: Multiple Image Splicing Dataset (MISD): a "
    "dataset for multiple splicing, Data 6(10), 2021",
    homepage="https://doi.org/10.3390/data6100102",
    known_issues=(
        "its authentic images are CASIA's: not independent of anything trained on CASIA",
        "six pictures have no mask, so 296 of 302 can be used; the 227 of publications were "
        "never listed",
        "the JPEGs of folder Sp are another version: masks fit the PNGs",
        "38 PNGs have transparent pixels, and one has 144 million pixels",
    ),
)


def find(path: Path) -> Found:
    """Pictures and masks by folder; names decide nothing, as they differ in blanks and digits.

    Raises:
        AdvbenchError: no such folder, or pictures or masks are not there at all.
    """
    root = existing_folder(path)
    walked = walk(root)
    pictures: dict[Path, list[Path]] = defaultdict(list)
    masks: dict[Path, list[Path]] = defaultdict(list)
    candidates: list[Candidate] = []
    ignored = list(walked.ignored)
    for file in walked.images:
        folder = file.parent.name.lower()
        depth = len(file.relative_to(root).parts)
        if folder == "images" and depth > 2:
            pictures[file.parent.parent].append(file)
        elif folder == "masks" and depth > 2:
            masks[file.parent.parent].append(file)
        elif folder == "au":
            candidates.append(_authentic(file))
        elif folder == "sp":
            ignored.append((file, "the JPEG version, which the masks do not fit"))
        else:
            ignored.append((file, f"no place in {LAYOUT.title}"))
    LAYOUT.require(root, len(pictures), len(masks))
    candidates += [
        _forged(folder, files, masks.get(folder, [])) for folder, files in pictures.items()
    ]
    orphans = [mask for folder, files in masks.items() if folder not in pictures for mask in files]
    count = sum(map(len, masks.values()))
    return Found(LAYOUT, root, tuple(candidates), count, tuple(orphans), tuple(sorted(ignored)))


def _authentic(file: Path) -> Candidate:
    return Candidate(file, (), 0, "none", sources=photographs(file.stem), matched="")


def _forged(folder: Path, files: list[Path], masks: list[Path]) -> Candidate:
    problem = None
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        problem = Problem("two-images", f"more than one image ({names})", "keep one of them")
    elif not masks:
        problem = Problem("no-mask", "no file in its folder masks", "six have none as published")
    return Candidate(
        files[0],
        masks=tuple(masks),
        kind="splice",
        name=folder.name,
        sources=photographs(folder.name),
        mask_rule=UNION if len(masks) > 1 else MASK_RULE,
        matched="folder",
        problem=problem,
    )
