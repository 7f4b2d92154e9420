"""Columbia Uncompressed: spliced pictures of two cameras, with red and green edge masks."""

from __future__ import annotations

import re
from pathlib import Path

from advbench.datasets.importing.layouts.layout import Candidate, Found, Layout
from advbench.datasets.importing.masks import COLUMBIA_GREEN, COLUMBIA_RED
from advbench.datasets.importing.problems import Problem
from advbench.datasets.importing.stems import read_stems
from advbench.datasets.importing.walking import existing_folder, walk

LAYOUT = Layout(
    name="columbia",
    title="Columbia Uncompressed",
    images="spliced images 4cam_splc/*.tif",
    masks="masks 4cam_splc/edgemask/*_edgemask.jpg",
    source="https://www.ee.columbia.edu/ln/dvmm/downloads/authsplcuncmp/",
    published={"forged": 180, "masks": 180, "authentic": 183},
    licence={"id": "research", "redistribution": "no"},
    citation="Y.-F. Hsu, S.-F. Chang: Detecting image splicing using geometry invariants and "
    "camera characteristics consistency, ICME 2006",
    homepage="https://www.ee.columbia.edu/ln/dvmm/downloads/authsplcuncmp/",
    known_issues=(
        "edge masks are JPEGs in two reds and two greens, and nothing says which camera is the "
        "forgery: green is taken for forged, by convention",
        "the 160 images that publications use were never listed",
    ),
)
SPLICED, AUTHENTIC, EDGEMASKS = "4cam_splc", "4cam_auth", "edgemask"
MASK_ENDING = "_edgemask"
INVERTED_FILE = "inverted.txt"


def find(path: Path, inverted: Path | None = None) -> Found:
    """Images beside their ``edgemask`` folders, however deep both are nested.

    Args:
        inverted: stems of images whose red part is forged, one a line; by default what
            ``inverted.txt`` in ``path`` says, where it is.

    Raises:
        AdvbenchError: no such folder, one half is not there, or stems that no image has.
    """
    root = existing_folder(path)
    walked = walk(root)
    spliced, masks, candidates = [], {}, []
    ignored = [(file, why) for file, why in walked.ignored if file != root / INVERTED_FILE]
    for file in walked.images:
        folders = [part.lower() for part in file.relative_to(root).parts[:-1]]
        # The folder that was given may be one of them itself.
        folders = [root.name.lower(), *folders]
        if EDGEMASKS in folders:
            if SPLICED in folders and file.stem.lower().endswith(MASK_ENDING):
                masks[file.parent.parent, file.stem[: -len(MASK_ENDING)].lower()] = file
            else:
                ignored.append((file, "no forgery mask"))
        elif SPLICED in folders:
            spliced.append(file)
        elif AUTHENTIC in folders:
            sources = (_group(file.stem),)
            candidates.append(Candidate(file, (), 0, "none", sources=sources, matched=""))
        else:
            ignored.append((file, f"neither in {SPLICED} nor in {AUTHENTIC}"))
    LAYOUT.require(root, len(spliced), len(masks))
    turned = _inverted(root, inverted, {file.stem for file in spliced})
    used = set()
    for file in spliced:
        mask = masks.get((file.parent, file.stem.lower()))
        used.add(mask)
        candidates.append(
            Candidate(
                file,
                masks=(mask,) if mask else (),
                kind="splice",
                sources=(_group(file.stem),),
                mask_rule=COLUMBIA_RED if file.stem in turned else COLUMBIA_GREEN,
                problem=None if mask else _no_mask(file.stem),
            )
        )
    orphans = tuple(mask for mask in masks.values() if mask not in used)
    return Found(LAYOUT, root, tuple(candidates), len(masks), orphans, tuple(sorted(ignored)))


def _no_mask(stem: str) -> Problem:
    return Problem("no-mask", f"no mask named {stem}{MASK_ENDING}.jpg", "add its mask")


def _group(stem: str) -> str:
    """The cameras of a spliced image, camera and scene of an authentic one."""
    return re.sub(r"_sub_\d+$", "", stem.lower())


def _inverted(root: Path, given: Path | None, stems: set[str]) -> set[str]:
    path = given or root / INVERTED_FILE
    if given is None and not path.is_file():
        return set()
    return read_stems(path, stems)
