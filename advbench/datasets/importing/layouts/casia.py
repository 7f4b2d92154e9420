"""CASIA, both versions: what its names say, and images and masks found by them in any folders."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from advbench.datasets.importing.defects import defects_of, renames_of
from advbench.datasets.importing.layouts.layout import Candidate, Found, Layout
from advbench.datasets.importing.pairing import Paired, pair
from advbench.datasets.importing.problems import Problem
from advbench.datasets.importing.walking import existing_folder, walk
from advbench.datasets.manifest import Kind

_PHOTOGRAPH = re.compile(r"(?<![a-z])([a-z]{3})_?(\d{4,5})(?!\d)", re.IGNORECASE)
_UNKNOWN_DONOR = "xxx"
# Masks whose published name does not end in _gt, by running number.
_ODD_ENDINGS = {"20094": "_gt3"}


def photographs(stem: str) -> tuple[str, ...]:
    """The ids in a name: ``ani00049``, ``ani00084`` of ``Sp_D_CNN_A_ani0049_ani0084_0266``.

    Digits are read as a number (MISD writes the same photograph with four and with five), and
    donors that CASIA did not know are nobody's.
    """
    found = (f"{kind.lower()}{int(number):05d}" for kind, number in _PHOTOGRAPH.findall(stem))
    return tuple(dict.fromkeys(name for name in found if not name.startswith(_UNKNOWN_DONOR)))


def kind_of(stem: str) -> Kind:
    """``Sp_S``, ``Tp_S``: copied from the same image; ``D``: from a different one."""
    letter = re.match(r"(?:sp|tp)_([ds])_", stem.lower())
    if letter is None:
        return "unknown"
    return "copymove" if letter[1] == "s" else "splice"


def find_casia(layout: Layout, path: Path, prefix: str, unique_numbers: bool = False) -> Found:
    """Everything of one version of CASIA below ``path``.

    Args:
        prefix: of tampered images and masks, in lower case; authentic ones begin with ``au_``.
        unique_numbers: whether a running number stands for one image.
    """
    root = existing_folder(path)
    walked = walk(root)
    tampered: list[Path] = []
    masks: dict[Path, str] = {}
    authentic: list[Path] = []
    ignored = list(walked.ignored)
    for file in walked.images:
        name = file.stem.lower()
        stands_for = _mask_stem(file.stem)
        if stands_for and name.startswith(prefix):
            masks[file] = stands_for
        elif name.startswith("au_") and not stands_for:
            authentic.append(file)
        elif name.startswith(prefix) and not re.search(r"_gt\d*$", name):
            tampered.append(file)
        else:
            ignored.append((file, f"no name of {layout.title}"))
    layout.require(root, len(tampered), len(masks))
    found = pair(
        tampered,
        masks,
        renames_of(layout.name),
        swapped=_unordered,
        number=running_number if unique_numbers else None,
    )
    alike: dict[str, list[Path]] = defaultdict(list)
    for mask, stem in masks.items():
        alike[stem.lower()].append(mask)
    candidates = [
        _forged(layout, image, found.get(image), alike[image.stem.lower()]) for image in tampered
    ]
    candidates += [
        Candidate(image, label=0, kind="none", sources=photographs(image.stem), matched="")
        for image in authentic
    ]
    used = {paired.mask for paired in found.values()}
    used |= {mask for candidate in candidates if candidate.problem for mask in candidate.masks}
    orphans = tuple(mask for mask in masks if mask not in used)
    return Found(layout, root, tuple(candidates), len(masks), orphans, tuple(sorted(ignored)))


def running_number(stem: str) -> str:
    """The digits at the end of a name."""
    digits = re.search(r"\d+$", stem)
    return digits[0] if digits else ""


def _mask_stem(stem: str) -> str:
    """The stem that a mask file stands for, empty where the file is none."""
    if stem.lower().endswith("_gt"):
        return stem[: -len("_gt")]
    for number, ending in _ODD_ENDINGS.items():
        if stem.lower().endswith(f"_{number}{ending}"):
            return stem[: -len(ending)]
    return ""


def _forged(layout: Layout, image: Path, paired: Paired | None, alike: list[Path]) -> Candidate:
    # Masks have the corrected names: those say what was pasted from where.
    stem = paired.stem if paired else image.stem
    defects = defects_of(layout.name)
    defect = defects.get(stem) or defects.get(image.stem) or defects.get(running_number(stem))
    problem = None
    if paired is None:
        problem = Problem("no-mask", f"no mask named {image.stem}_gt", "add its mask")
        if len(alike) > 1:
            names = ", ".join(mask.name for mask in alike)
            problem = Problem("two-masks", f"more than one mask ({names})", "keep one of them")
    return Candidate(
        image,
        masks=(paired.mask,) if paired else tuple(alike),
        kind=kind_of(stem),
        sources=photographs(stem),
        matched=paired.how if paired else "",
        defect=defect,
        problem=problem,
    )


def _unordered(stem: str) -> str:
    ids = sorted("".join(found).lower() for found in _PHOTOGRAPH.findall(stem))
    return f"{_PHOTOGRAPH.sub('*', stem)} {' '.join(ids)}" if len(ids) > 1 else ""
