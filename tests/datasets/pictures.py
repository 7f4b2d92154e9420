"""Small pictures, folders of them, and manifests whose sums are worked out without advbench."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from advbench.datasets.dataset import Dataset, open_folder
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.datasets.manifest import Row, write_manifest
from advbench.errors import AdvbenchError

Pixels = npt.NDArray[np.uint8]
Truth = npt.NDArray[np.bool_]

INFO: dict[str, Any] = {
    "dataset_id": "mine",
    "title": "Mine",
    "version": "1",
    "licence": {"id": "CC0"},
    "importer": {"name": "tests", "version": "1"},
    "rules": {"mask_rule": "gray>127"},
}


def picture(seed: int = 0, height: int = 12, width: int = 20) -> Pixels:
    """Random RGB levels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def truth(seed: int = 0, height: int = 12, width: int = 20) -> Truth:
    """A mask with a few forged pixels, at least one."""
    mask = np.random.default_rng(seed).random((height, width)) < 0.2
    mask[height // 2, width // 2] = True
    return mask


def save(path: Path, pixels: npt.NDArray[Any], how: str = "PNG", **options: Any) -> Path:
    """Write pixels to a file, of format ``how`` whatever the file is called."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    PillowImage.fromarray(pixels).save(path, how, **options)
    return path


def forged_folder(
    root: Path, names: Sequence[str] = ("a", "b"), images: str = "Tp/{}.png", masks: str = "Gt/{}"
) -> Path:
    """Images and their masks below ``root``, by name; patterns say where."""
    for seed, name in enumerate(names):
        save(root / images.format(name), picture(seed))
        mask = root / masks.format(name)
        save(mask if mask.suffix else mask.with_name(f"{mask.name}.png"), truth(seed))
    return root


def sha256(data: bytes) -> str:
    """The hex digest."""
    return hashlib.sha256(data).hexdigest()


def row(name: str = "a", seed: int = 0, **changes: Any) -> Row:
    """A forged image's row, as :func:`dataset` writes its files; fields may be changed."""
    pixels, mask = picture(seed), truth(seed)
    fields: dict[str, Any] = {
        "sample_id": f"mine/{name}",
        "split": "test",
        "label": 1,
        "kind": "splice",
        "image": f"images/{name}.png",
        "mask": f"masks/{name}.png",
        "image_sha256": "0" * 64,
        "mask_sha256": "1" * 64,
        "pixels_sha256": sha256(pixels.tobytes()),
        "maskbits_sha256": sha256(np.packbits(mask.astype(np.uint8).ravel()).tobytes()),
        "height": mask.shape[0],
        "width": mask.shape[1],
        "orig_mode": "RGB",
        "orig_format": "PNG",
        "orig_name": f"{name}.png",
        "mask_rule": "gray>127",
        "mask_fix": "none",
        "fg_fraction": float(mask.mean()),
        "source_group": name,
        "excluded": "",
        "flags": "",
        "provenance": "",
    }
    return Row(**(fields | changes))


AUTHENTIC: dict[str, Any] = {
    "label": 0,
    "kind": "none",
    "mask": "",
    "mask_sha256": "",
    "maskbits_sha256": "",
}


def dataset(folder: Path, names: Sequence[str] = ("a", "b"), files: Path | None = None) -> Path:
    """A whole dataset: images, masks and their manifest; files elsewhere where asked for."""
    for seed, name in enumerate(names):
        save((files or folder) / f"images/{name}.png", picture(seed))
        save((files or folder) / f"masks/{name}.png", truth(seed))
    write_manifest(folder, [row(name, seed) for seed, name in enumerate(names)], **INFO)
    return folder


def edit_csv(folder: Path, edit: Callable[[list[list[str]]], None], sign: bool = True) -> None:
    """Change the lines of ``manifest.csv`` in place, and its sum in ``dataset.json`` with them."""
    path = folder / "manifest.csv"
    lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    edit(lines)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    path.write_bytes(buffer.getvalue().encode())
    if sign:
        edit_json(folder, manifest_sha256=sha256(path.read_bytes()))


def edit_json(folder: Path, **changes: Any) -> None:
    """Change keys of ``dataset.json``."""
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def set_cell(folder: Path, column: str, value: str, line: int = 1) -> None:
    """Change one cell of the manifest and sign it anew."""

    def edit(lines: list[list[str]]) -> None:
        lines[line][lines[0].index(column)] = value

    edit_csv(folder, edit)


def one_line(error: BaseException) -> str:
    """The message, which must be a single line."""
    text = str(error)
    assert text
    assert "\n" not in text
    return text


def imported_or_refused(source: Path, folder: Path) -> Dataset | None:
    """Import a folder and read all that it holds; None where it was refused, in one line."""
    try:
        import_folder(source, folder, "mine")
    except AdvbenchError as error:
        one_line(error)
        return None
    opened = open_folder(folder)
    for row in opened.rows:
        opened.image(row)
        opened.mask(row)
    return opened
