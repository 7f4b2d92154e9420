"""Write the built-in dataset as ordinary image files with their manifest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from advbench.codec import encode_jpeg
from advbench.datasets.builtin.forgeries import KINDS, Forgery, make_forgery
from advbench.datasets.builtin.photographs import photographs_of
from advbench.datasets.decoding import MASK_RULE
from advbench.datasets.manifest import Kind, Row, Split, read_manifest, write_manifest
from advbench.images import Image, mask_sha256, pixels_sha256
from advbench.rng import numpy_stream

DATASET_ID = "builtin"
VERSION = "1"
SEED = 20260
SIDE = 256
# Forged images of each split; a fifth as many authentic ones come on top.
SIZES: dict[Split, int] = {"train": 1200, "val": 80, "test": 160}
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def planned(split: Split) -> list[tuple[str, Kind]]:
    """Names and kinds of a split's images, in order."""
    forged: list[tuple[str, Kind]] = [
        (f"{split}_{index:04d}_{kind}", kind)
        for index in range(SIZES[split])
        for kind in [KINDS[index % len(KINDS)]]
    ]
    authentic: list[tuple[str, Kind]] = [
        (f"{split}_{index:04d}_authentic", "none")
        for index in range(SIZES[split], SIZES[split] + SIZES[split] // 5)
    ]
    return forged + authentic


def build(
    folder: Path,
    splits: Sequence[Split] = SPLITS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the images of ``splits`` and their manifest; the same bytes every time.

    Returns:
        how many images decode to other pixels than the published manifest says (another codec
        build can do that; 0 with the pinned versions).
    """
    plan = [(split, name, kind) for split in splits for name, kind in planned(split)]
    rows = []
    for done, (split, name, kind) in enumerate(plan):
        progress(done, len(plan))
        rows.append(_write_image(folder, split, name, kind))
    progress(len(plan), len(plan))
    write_manifest(folder, rows, **_INFO)
    published = published_rows()
    return sum(
        (row.pixels_sha256, row.maskbits_sha256)
        != (published[row.sample_id].pixels_sha256, published[row.sample_id].maskbits_sha256)
        for row in rows
        if row.sample_id in published
    )


@cache
def published_rows() -> dict[str, Row]:
    """The manifest as published with this version, by sample id; empty while none is."""
    folder = resources.files("advbench.manifests") / "datasets" / DATASET_ID
    with resources.as_file(folder) as path:
        if not (path / "manifest.csv").is_file():
            return {}
        return {row.sample_id: row for row in read_manifest(path)[1]}


def make_image(split: Split, name: str, kind: Kind) -> tuple[Forgery, str, bytes, Image]:
    """One image: what it is, its suffix, its file's bytes and the pixels these decode to."""
    rng = numpy_stream(SEED, DATASET_ID, VERSION, name)
    forgery = make_forgery(kind, photographs_of(split), SIDE, rng)
    if rng.integers(0, 2):
        quality = (95, 98)[rng.integers(0, 2)]
        forgery.notes.append(f"saved q{quality}")
        encoded = encode_jpeg(forgery.image, quality)
        with PillowImage.open(io.BytesIO(encoded)) as decoded:
            return forgery, ".jpg", encoded, np.asarray(decoded.convert("RGB"))
    return forgery, ".png", _png(forgery.image), forgery.image


def _write_image(folder: Path, split: Split, name: str, kind: Kind) -> Row:
    forgery, suffix, data, pixels = make_image(split, name, kind)
    image_path = f"images/{name}{suffix}"
    _write(folder / image_path, data)
    mask_path, mask_data = "", b""
    if kind != "none":
        mask_path, mask_data = f"masks/{name}.png", _png(forgery.mask.astype(np.uint8) * 255)
        _write(folder / mask_path, mask_data)
    return Row(
        sample_id=f"{DATASET_ID}/{name}",
        split=split,
        label=int(kind != "none"),
        kind=kind,
        image=image_path,
        mask=mask_path,
        image_sha256=hashlib.sha256(data).hexdigest(),
        mask_sha256=hashlib.sha256(mask_data).hexdigest() if mask_data else "",
        pixels_sha256=pixels_sha256(pixels),
        maskbits_sha256=mask_sha256(forgery.mask) if mask_data else "",
        height=SIDE,
        width=SIDE,
        orig_mode="RGB",
        orig_format="PNG" if suffix == ".png" else "JPEG",
        orig_name=f"{name}{suffix}",
        mask_rule=MASK_RULE if mask_data else "",
        mask_fix="none",
        fg_fraction=round(float(forgery.mask.mean()), 6),
        source_group=forgery.host.group,
        excluded="",
        flags="",
        provenance="; ".join(forgery.notes),
    )


def _png(pixels: Image) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    """Plain write: a half-built dataset has no manifest, so it is never taken for a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


_INFO = {
    "dataset_id": DATASET_ID,
    "title": "advbench built-in forgeries",
    "version": VERSION,
    "licence": {
        "id": "mixed",
        "redistribution": "no",
        "text": "made at run time from photographs inside the wheels of scikit-image, "
        "scikit-learn and matplotlib; china.jpg and flower.jpg are CC BY 2.0",
    },
    "importer": {"name": "advbench.builtin", "version": VERSION},
    "rules": {"mask_rule": MASK_RULE, "seed": str(SEED), "side": str(SIDE)},
    "known_issues": [
        "synthetic forgeries from 19 photographs: scores say nothing about real forgeries"
    ],
}
