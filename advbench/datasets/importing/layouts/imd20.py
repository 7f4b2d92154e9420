"""IMD2020, the real-life part: a folder for each original, with its forgeries and their masks."""

from __future__ import annotations

from pathlib import Path

from advbench.datasets.importing.defects import defects_of
from advbench.datasets.importing.layouts.layout import Candidate, Found, Layout
from advbench.datasets.importing.problems import Problem
from advbench.datasets.importing.walking import existing_folder, walk

LAYOUT = Layout(
    name="imd20",
    title="IMD2020 (real-life part)",
    images="forgeries IMD2020/<id>/*.jpg or *.png",
    masks="masks <forgery>_mask.png beside them",
    source="http://staff.utia.cas.cz/novozada/db/",
    published={"forged": 2010, "masks": 2010, "authentic": 414},
    licence={"id": "research", "redistribution": "no"},
    citation="A. Novozámský, B. Mahdian, S. Saic: IMD2020: a large-scale annotated dataset "
    "tailored for detecting manipulated images, WACV workshops 2020",
    homepage="http://staff.utia.cas.cz/novozada/db/",
    known_issues=(
        "up to 43 forgeries of one original: images are not independent, folders are",
        "the mask of z14/00030_fake is of another size",
    ),
)
MASK_ENDING = "_mask"
_SUFFIXES = (".jpg", ".jpeg", ".png")


def find(path: Path) -> Found:
    """In each folder: names with ``orig`` are originals, with ``mask`` masks, all else forgeries.

    Raises:
        AdvbenchError: no such folder, or forgeries or masks are not there at all.
    """
    root = existing_folder(path)
    walked = walk(root)
    forged: list[Path] = []
    originals: list[Path] = []
    masks: dict[tuple[Path, str], Path] = {}
    ignored = list(walked.ignored)
    for file in walked.images:
        name = file.stem.lower()
        if name.endswith(MASK_ENDING):
            masks[file.parent, name.removesuffix(MASK_ENDING)] = file
        elif file.suffix.lower() not in _SUFFIXES or "mask" in name:
            ignored.append((file, "neither original, forgery nor mask"))
        elif "orig" in name:
            originals.append(file)
        else:
            forged.append(file)
    LAYOUT.require(root, len(forged), len(masks))
    defects, used = defects_of(LAYOUT.name), set()
    candidates = []
    for file in forged:
        mask = masks.get((file.parent, file.stem.lower()))
        used.add(mask)
        missing = Problem("no-mask", f"no mask named {file.stem}{MASK_ENDING}.png", "add its mask")
        candidates.append(
            Candidate(
                file,
                masks=(mask,) if mask else (),
                name=_name(root, file),
                sources=(_folder(root, file),),
                defect=defects.get(f"{file.parent.name}/{file.stem}"),
                problem=None if mask else missing,
            )
        )
    candidates += [
        Candidate(
            file,
            label=0,
            kind="none",
            name=_name(root, file),
            sources=(_folder(root, file),),
            matched="",
        )
        for file in originals
    ]
    orphans = tuple(mask for mask in masks.values() if mask not in used)
    return Found(LAYOUT, root, tuple(candidates), len(masks), orphans, tuple(sorted(ignored)))


def _folder(root: Path, file: Path) -> str:
    """The original's id; the same wherever the dataset lies."""
    return file.parent.name if file.parent != root else "."


def _name(root: Path, file: Path) -> str:
    """Stems such as 00030_fake stand in several folders."""
    folder = _folder(root, file)
    return file.stem if file.stem.startswith(f"{folder}_") else f"{folder}_{file.stem}"
