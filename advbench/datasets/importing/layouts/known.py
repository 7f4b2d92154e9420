"""The layouts that can be imported, by name."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

from advbench.datasets.importing.layouts.declared import RULES
from advbench.datasets.importing.layouts.layout import Candidate, Found
from advbench.datasets.importing.stems import read_lines, spellings
from advbench.errors import AdvbenchError, did_you_mean
from advbench.texts import same_name

# Those that are published datasets and so have a name of their own, then ways files may lie.
DATASETS = ("casiav1", "casiav2", "columbia", "imd20", "misd", "nist16", *RULES)
LAYOUTS = (*DATASETS, "folder", "imdlbenco", "huggingface")


def check_layout(name: str) -> None:
    """Refuse an unknown layout, with the nearest ones.

    Raises:
        AdvbenchError: there is none of that name.
    """
    if name in LAYOUTS:
        return
    raise AdvbenchError(f"unknown layout {name!r}; {did_you_mean(name, LAYOUTS)}")


def check_options(
    layout: str,
    images: str | None = None,
    masks: str | None = None,
    *,
    inverted: Path | None = None,
    mask_suffix: str | None = None,
) -> None:
    """Refuse an unknown layout, and options of another one.

    Raises:
        AdvbenchError: names the option and where it belongs.
    """
    check_layout(layout)
    if (images or masks) and layout not in ("folder", "huggingface"):
        raise AdvbenchError(
            f"--images and --masks are options of folder and huggingface, not of {layout}"
        )
    if mask_suffix and layout != "folder":
        raise AdvbenchError(f"--mask-suffix is an option of folder, not of {layout}")
    if inverted and layout != "columbia":
        raise AdvbenchError(f"--inverted is an option of columbia, not of {layout}")


def find(
    layout: str,
    path: Path,
    images: str | None = None,
    masks: str | None = None,
    *,
    inverted: Path | None = None,
    mask_suffix: str | None = None,
) -> Found:
    """Find the images of a layout at ``path``.

    Raises:
        AdvbenchError: an unknown layout, an option of another one, or what the layout refuses.
    """
    check_options(layout, images, masks, inverted=inverted, mask_suffix=mask_suffix)
    if layout == "huggingface":
        raise AdvbenchError(f"layout {layout} is unpacked into files first, see its module")
    if layout in RULES:
        return RULES[layout].find(path)
    module = importlib.import_module(f"advbench.datasets.importing.layouts.{layout}")
    options: dict[str, object] = {}
    if layout == "folder":
        options = {"images": images, "masks": masks, "suffix": mask_suffix}
    if layout == "columbia":
        options = {"inverted": inverted}
    found: Found = module.find(path, **options)
    return found


def restrict(found: Found, path: Path, allow_missing: bool) -> tuple[Found, int]:
    """Only the images that the file at ``path`` lists, and how many it lists.

    A line is a stem, a file name, a sample's name, or the stem of a mask.

    Raises:
        AdvbenchError: no such file, or names that no image has (unless they may be missing).
    """
    known: dict[str, Candidate] = {}
    for candidate in found.candidates:
        for name in _names(candidate):
            known.setdefault(same_name(name), candidate)
    chosen: dict[Path, Candidate] = {}
    missing: list[str] = []
    lines = read_lines(path)
    for line in lines:
        hit = next((known[spelling] for spelling in spellings(line) if spelling in known), None)
        if hit is None:
            missing.append(line.strip())
        else:
            chosen[hit.image] = hit
    if missing and not (allow_missing and chosen):
        raise AdvbenchError(
            f"{path}: {len(missing)} of {len(lines)} names are not in {found.root} "
            f"(first: {missing[0]}); correct them, or leave them out with --allow-exclude"
        )
    return replace(found, candidates=tuple(chosen.values())), len(lines)


def _names(candidate: Candidate) -> tuple[str, ...]:
    masks = (mask.stem.removesuffix("_gt") for mask in candidate.masks)
    return (candidate.image.stem, candidate.image.name, candidate.name, *masks)
