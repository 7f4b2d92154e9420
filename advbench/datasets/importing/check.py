"""One candidate, decoded and checked: a row of the manifest, or the reason why it is none."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advbench.datasets.dataset import mask_is_made, stays_inside
from advbench.datasets.decoding import DecodedImage, TooLargeError, decode_image, orientation
from advbench.datasets.importing.fingerprints import dhash
from advbench.datasets.importing.layouts.layout import Candidate
from advbench.datasets.importing.masks import UNION, ReadMask, as_png, read_mask, repaired
from advbench.datasets.importing.problems import Problem, ProblemError
from advbench.datasets.manifest import Row, Split
from advbench.errors import AdvbenchError
from advbench.files import file_sha256
from advbench.images import Mask, mask_sha256, pixels_sha256

MASKS_FOLDER = "masks"
# Pillow's own limit, above which it warns.
LARGE = 89_478_485
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
}


@dataclass(frozen=True)
class Examined:
    """Hold what became of a candidate.

    Attributes:
        row: of the manifest; excluded where there is a problem.
        problem: the check it did not pass.
        known: the problem stands in the project's table, so that nothing has to be mended.
        repaired: what was done to the mask by that table, empty for nothing.
        mask_png: the mask's file, where one has to be written.
        fingerprint: the image's difference hash.
        warnings: what is odd, and no fault.
    """

    candidate: Candidate
    row: Row
    problem: Problem | None = None
    known: bool = False
    repaired: str = ""
    mask_png: bytes = b""
    fingerprint: int = 0
    warnings: tuple[str, ...] = ()


def examine(root: Path, candidate: Candidate, dataset: str, split: Split) -> Examined:
    """Decode a candidate's files and check them; its source group is left empty."""
    try:
        if candidate.problem:
            raise ProblemError(
                candidate.problem.check, candidate.problem.value, candidate.problem.fix
            )
        return _sound(root, candidate, dataset, split)
    except ProblemError as error:
        problem = error.problem
    except TooLargeError as error:
        problem = _of_error("bomb", root, candidate, error)
    except AdvbenchError as error:
        problem = _of_error("unreadable", root, candidate, error)
    problem = Problem(problem.check, problem.value.replace(f"{root}/", ""), problem.fix)
    defect = candidate.defect
    known = bool(defect and defect.fix == "exclude" and defect.check == problem.check)
    if known and defect:
        problem = Problem(problem.check, f"{problem.value} ({defect.note})", "")
    row = _row(root, candidate, dataset, split, excluded=problem.reason)
    return Examined(candidate, row, problem, known)


def slug(stem: str) -> str:
    """The stem where it is plain and short, else its plain part with a hash of the whole."""
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", stem):
        return stem
    digest = hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', stem)[:50]}-{digest}"


def name_of(candidate: Candidate) -> str:
    """The part of its sample id after the dataset."""
    return slug(candidate.name or candidate.image.stem)


def _sound(root: Path, candidate: Candidate, dataset: str, split: Split) -> Examined:
    for file in (candidate.image, *candidate.masks):
        if not stays_inside(file, root):
            value = f"{file.relative_to(root).as_posix()} points outside the folder"
            raise ProblemError("link", value, "put the file itself there")
    decoded = decode_image(candidate.image)
    height, width = decoded.pixels.shape[:2]
    flags, warnings = list(decoded.flags), _oddities(candidate.image, decoded)
    fields: dict[str, object] = {}
    mask_png, done = b"", ""
    if candidate.label:
        found = read_mask(candidate.masks, candidate.mask_rule)
        mask, fix = _fitted(found.mask, candidate, decoded)
        if fix in ("rot90", "transpose"):
            done = f"mask turned by {fix}"
        _refuse_empty(found, mask, candidate)
        warnings += _mask_oddities(mask)
        if found.levels > 2:
            flags.append(f"mask_levels_{found.levels}")
        made = mask_is_made(candidate.mask_rule, fix)
        first = candidate.masks[0]
        where = first.relative_to(root).as_posix()
        mask_file = f"{MASKS_FOLDER}/{name_of(candidate)}.png" if made else where
        mask_png = as_png(mask) if made else b""
        notes = [f"mask from {where}" + _more(candidate)] if made else []
        if found.off_palette:
            notes.append(f"{found.off_palette:.4f} of the mask off its palette")
        fields = {
            "mask": mask_file,
            "mask_sha256": hashlib.sha256(mask_png).hexdigest() if made else file_sha256(first),
            "maskbits_sha256": mask_sha256(mask),
            "mask_fix": fix,
            "fg_fraction": round(float(mask.mean()), 6),
            "provenance": "; ".join(notes),
        }
    row = _row(
        root,
        candidate,
        dataset,
        split,
        pixels_sha256=pixels_sha256(decoded.pixels),
        height=height,
        width=width,
        orig_mode=decoded.mode,
        orig_format=decoded.format,
        flags=";".join(flags),
        **fields,
    )
    fingerprint = dhash(decoded.pixels)
    return Examined(
        candidate,
        row,
        repaired=done,
        mask_png=mask_png,
        fingerprint=fingerprint,
        warnings=tuple(warnings),
    )


def _fitted(mask: Mask, candidate: Candidate, decoded: DecodedImage) -> tuple[Mask, str]:
    """The mask at the image's size, and the fix that the manifest names."""
    shape = decoded.pixels.shape[:2]
    defect = candidate.defect
    if mask.shape != shape and defect and defect.fix in ("rot90", "transpose"):
        turned = repaired(mask, defect.fix)
        if turned.shape == shape:
            return turned, defect.fix
    if mask.shape == shape:
        return mask, "union" if candidate.mask_rule == UNION else "none"
    name = candidate.masks[0].name
    value = f"its mask {name} is {_size(mask.shape)}, the image {_size(shape)}"
    fix = "put the right mask there; sizes are never changed"
    if mask.shape == shape[::-1]:
        fix = "turn the mask: whether by rotation or transposition, its shape cannot tell"
        if "exif_orientation" in decoded.flags and orientation(candidate.image) > 4:
            value += ", whose EXIF orientation turns it"
            fix = "save image and mask both upright, without orientation"
    raise ProblemError("size-mismatch", value, fix)


def _refuse_empty(found: ReadMask, mask: Mask, candidate: Candidate) -> None:
    name = candidate.masks[0].name
    if not mask.any():
        value = f"its mask {name} is empty (highest level {found.highest} of 255)"
        raise ProblemError("empty-mask", value, "put the right mask there, white for forged")
    if mask.all():
        value = f"its mask {name} is full: everything is forged"
        raise ProblemError("full-mask", value, "put the right mask there")


def _mask_oddities(mask: Mask) -> list[str]:
    share = float(mask.mean())
    if share <= 0.5:
        return []
    border = np.concatenate((mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    inverted = "; it may be inverted" if border.mean() > 0.9 else ""
    return [f"mask covers {share:.1%}{inverted}"]


def _oddities(path: Path, decoded: DecodedImage) -> list[str]:
    found = []
    suffixes = _SUFFIXES.get(decoded.format)
    if suffixes and path.suffix.lower() not in suffixes:
        found.append(f"is {decoded.format}, whatever its suffix says")
    height, width = decoded.pixels.shape[:2]
    if height * width > LARGE:
        found.append(f"has {height * width / 1e6:.0f} million pixels")
    if "exif_orientation" in decoded.flags:
        found.append("has an EXIF orientation, which is not applied")
    return found


def _more(candidate: Candidate) -> str:
    return f" and {len(candidate.masks) - 1} more" if len(candidate.masks) > 1 else ""


def _of_error(check: str, root: Path, candidate: Candidate, error: AdvbenchError) -> Problem:
    value, _, fix = str(error).rpartition("; ")
    value = value.removeprefix(f"{candidate.image}: ")
    return Problem(check, value.replace(f"{root}/", ""), fix)


def _row(root: Path, candidate: Candidate, dataset: str, split: Split, **fields: object) -> Row:
    """The row, with what can be said of any image; the rest is empty where it is not given."""
    values: dict[str, object] = {
        "sample_id": f"{dataset}/{name_of(candidate)}",
        "split": split,
        "label": candidate.label,
        "kind": candidate.kind,
        "image": candidate.image.relative_to(root).as_posix(),
        "mask": "",
        "image_sha256": _sum(candidate.image),
        "mask_sha256": "",
        "pixels_sha256": "",
        "maskbits_sha256": "",
        "height": 0,
        "width": 0,
        "orig_mode": "",
        "orig_format": "",
        "orig_name": candidate.image.name,
        "mask_rule": candidate.mask_rule if candidate.label else "",
        "mask_fix": "none",
        "fg_fraction": 0,
        "source_group": "",
        "excluded": "",
        "flags": "",
        "provenance": "",
    }
    return Row.model_validate(values | fields)


def _sum(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:  # missing, or not ours to read: the row is left out for that
        return ""


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"
