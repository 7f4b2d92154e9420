"""Import a folder of images and masks as it lies: nothing in it is touched."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from advbench.datasets.dataset import LOCATION_FILE, stays_inside
from advbench.datasets.decoding import MASK_RULE, decode_image, decode_mask
from advbench.datasets.manifest import DatasetInfo, Row, Split, write_manifest
from advbench.errors import AdvbenchError
from advbench.files import file_sha256, write_atomically
from advbench.pixels import mask_sha256, pixels_sha256

# Pairs of folder names, as users and IMDLBenCo have them; compared without case.
LAYOUTS = (("tp", "gt"), ("images", "masks"))
_MASK_SUFFIXES = ("", "_gt", "_mask")
_CLUTTER = {"thumbs.db", "desktop.ini", ".ds_store"}


@dataclass(frozen=True)
class Imported:
    """What was written, and which images were left out and why."""

    info: DatasetInfo
    excluded: dict[str, str]


def import_folder(
    path: Path,
    folder: Path,
    name: str,
    images: str | None = None,
    masks: str | None = None,
    split: Split = "test",
    allow_exclude: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Write a manifest of the forged images below ``path`` into ``folder``.

    Args:
        images, masks: globs relative to ``path``; both or neither.
        allow_exclude: keep images at fault in the manifest as excluded rows, instead of stopping.

    Raises:
        AdvbenchError: no images, a name that is taken or not allowed, or images at fault, all of
            them counted and the first ones named.
    """
    if not re.fullmatch(r"[a-z0-9_]{1,32}", name):
        raise AdvbenchError(f"--name {name!r}: use a-z, 0-9 and _, at most 32 of them")
    if name == "builtin":
        raise AdvbenchError("--name builtin is the built-in dataset; take another name")
    if not path.is_dir():
        raise AdvbenchError(f"{path}: no such folder")
    if bool(images) != bool(masks):
        raise AdvbenchError("--images and --masks belong together; give both")
    root = path.resolve()
    image_files, mask_files = _find(root, images, masks)
    by_stem: dict[str, list[Path]] = {}
    for mask in mask_files:
        by_stem.setdefault(mask.stem, []).append(mask)
    rows, faults = [], {}
    for done, image in enumerate(image_files):
        progress(done, len(image_files))
        relative = image.relative_to(root).as_posix()
        _check_name(relative)
        try:
            rows.append(_row(root, image, _mask_of(image, by_stem), name, split))
        except AdvbenchError as error:
            reason = str(error).removeprefix(f"{image}: ")
            faults[relative] = reason.replace(f"{root}/", "")
            rows.append(_excluded_row(root, image, name, split, faults[relative]))
    progress(len(image_files), len(image_files))
    _refuse_twins(rows)
    if faults and not allow_exclude:
        shown = "; ".join(f"{image}: {reason}" for image, reason in list(faults.items())[:3])
        raise AdvbenchError(
            f"{path}: {len(faults)} of {len(image_files)} images are at fault ({shown}); "
            "mend them, or leave them out with --allow-exclude"
        )
    if len(faults) == len(image_files):
        raise AdvbenchError(f"{path}: no image is left; nothing was imported")
    info = write_manifest(
        folder,
        rows,
        dataset_id=name,
        title=name,
        version="1",
        licence={"id": "unknown", "redistribution": "no"},
        importer={"name": "advbench.folder", "version": "1"},
        rules={"mask_rule": MASK_RULE, "alpha_rule": "over white", "mismatch_rule": "refuse"},
    )
    write_atomically(folder / LOCATION_FILE, json.dumps({"root": str(root)}).encode())
    return Imported(info, faults)


def _find(root: Path, images: str | None, masks: str | None) -> tuple[list[Path], list[Path]]:
    if images and masks:
        found = _files(root, images), _files(root, masks)
        for glob, files in zip((images, masks), found, strict=True):
            if not files:
                raise AdvbenchError(f"{root}: no file matches {glob!r}")
        return found
    folders = {entry.name.lower(): entry.name for entry in root.iterdir() if entry.is_dir()}
    for tampered, truth in LAYOUTS:
        if tampered in folders and truth in folders:
            found = _files(root, f"{folders[tampered]}/*"), _files(root, f"{folders[truth]}/*")
            if found[0]:
                return found
            raise AdvbenchError(f"{root / folders[tampered]}: no images there")
    raise AdvbenchError(
        f"{root}: holds neither Tp and Gt nor images and masks; say where they are with "
        "--images GLOB --masks GLOB"
    )


def _files(root: Path, glob: str) -> list[Path]:
    if glob.startswith("/") or ".." in Path(glob).parts:
        raise AdvbenchError(f"glob {glob!r} leaves the folder; give one relative to {root}")
    try:
        found = list(root.glob(glob))
    except (ValueError, IndexError, NotImplementedError) as error:
        raise AdvbenchError(f"{glob!r} is no glob; give one such as 'images/*.png'") from error
    return sorted(
        file
        for file in found
        if file.is_file() and file.name.lower() not in _CLUTTER and not file.name.startswith(".")
    )


def _check_name(relative: str) -> None:
    """Refuse names that a manifest cannot hold on every system."""
    plain = relative.encode("utf-8", "replace").decode() == relative
    if not plain or "\\" in relative or ":" in relative.partition("/")[0]:
        raise AdvbenchError(
            f"{relative!r}: a name with a backslash, a leading drive or bytes that are no UTF-8 "
            "cannot stand in a manifest; rename the file"
        )


def _mask_of(image: Path, by_stem: dict[str, list[Path]]) -> Path:
    candidates = [
        mask
        for suffix in _MASK_SUFFIXES
        for mask in by_stem.get(image.stem + suffix, [])
        if mask != image
    ]
    if not candidates:
        raise AdvbenchError(f"no mask named {image.stem}, {image.stem}_gt or {image.stem}_mask")
    if len(candidates) > 1:
        names = ", ".join(mask.name for mask in candidates)
        raise AdvbenchError(f"more than one mask ({names}); keep one")
    return candidates[0]


def _row(root: Path, image: Path, mask: Path, name: str, split: Split) -> Row:
    _check_name(mask.relative_to(root).as_posix())
    for file in (image, mask):
        if not stays_inside(file, root):
            raise AdvbenchError(f"{file}: points outside the folder; put the file itself there")
    decoded, truth = decode_image(image), decode_mask(mask)
    if truth.shape != decoded.pixels.shape[:2]:
        raise AdvbenchError(
            f"its mask {mask.name} is {truth.shape[1]}×{truth.shape[0]}, the image "
            f"{decoded.pixels.shape[1]}×{decoded.pixels.shape[0]}"
        )
    if not truth.any():
        raise AdvbenchError(f"its mask {mask.name} is empty")
    return Row(
        sample_id=f"{name}/{_slug(image.stem)}",
        split=split,
        label=1,
        kind="unknown",
        image=image.relative_to(root).as_posix(),
        mask=mask.relative_to(root).as_posix(),
        image_sha256=file_sha256(image),
        mask_sha256=file_sha256(mask),
        pixels_sha256=pixels_sha256(decoded.pixels),
        maskbits_sha256=mask_sha256(truth),
        height=truth.shape[0],
        width=truth.shape[1],
        orig_mode=decoded.mode,
        orig_format=decoded.format,
        orig_name=image.name,
        mask_rule=MASK_RULE,
        mask_fix="none",
        fg_fraction=round(float(truth.mean()), 6),
        source_group=_slug(image.stem),
        excluded="",
        flags=";".join(decoded.flags),
        provenance="",
    )


def _excluded_row(root: Path, image: Path, name: str, split: Split, reason: str) -> Row:
    """What can be said of an image that is left out."""
    return Row(
        sample_id=f"{name}/{_slug(image.stem)}",
        split=split,
        label=1,
        kind="unknown",
        image=image.relative_to(root).as_posix(),
        mask="",
        image_sha256=file_sha256(image),
        mask_sha256="",
        pixels_sha256="",
        maskbits_sha256="",
        height=0,
        width=0,
        orig_mode="",
        orig_format="",
        orig_name=image.name,
        mask_rule=MASK_RULE,
        mask_fix="none",
        fg_fraction=0,
        source_group="",
        excluded=reason,
        flags="",
        provenance="",
    )


def _slug(stem: str) -> str:
    """The stem where it is plain and short, else its plain part with a hash of the whole."""
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", stem):
        return stem
    digest = hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', stem)[:50]}-{digest}"


def _refuse_twins(rows: list[Row]) -> None:
    seen: dict[str, str] = {}
    for row in rows:
        twin = seen.setdefault(row.sample_id.casefold(), row.image)
        if twin != row.image:
            raise AdvbenchError(
                f"{row.image} and {twin}: names that differ only in case, suffix or special "
                "characters; rename one of them"
            )
