"""Write a set of forgeries as ordinary image files with their manifest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from advbench.codec import encode_jpeg, encode_png
from advbench.datasets.builtin.editions import Edition, published_rows
from advbench.datasets.builtin.forgeries import KINDS, Forgery
from advbench.datasets.decoding import MASK_RULE
from advbench.datasets.manifest import Kind, Row, Split, write_manifest
from advbench.images import Image, mask_sha256, pixels_sha256
from advbench.progress import CountProgress
from advbench.rng import numpy_stream


def planned(edition: Edition, split: Split) -> list[tuple[str, Kind]]:
    """List the names and kinds of a split's images, in order."""
    size = edition.sizes[split]
    forged: list[tuple[str, Kind]] = [
        (f"{split}_{index:04d}_{kind}", kind)
        for index in range(size)
        for kind in [KINDS[index % len(KINDS)]]
    ]
    authentic: list[tuple[str, Kind]] = [
        (f"{split}_{index:04d}_authentic", "none") for index in range(size, size + size // 5)
    ]
    return forged + authentic


def build(
    folder: Path,
    edition: Edition,
    splits: Sequence[Split] = (),
    progress: CountProgress = lambda done, total: None,
) -> int:
    """Write the images of ``splits`` (all where empty) and their manifest; the same bytes every
    time.

    Returns:
        how many images decode to other pixels than the published manifest says (another codec
        build can do that; 0 with the pinned versions).
    """
    plan = [
        (split, name, kind)
        for split in splits or edition.splits
        for name, kind in planned(edition, split)
    ]
    rows = []
    for done, (split, name, kind) in enumerate(plan):
        progress(done, len(plan))
        rows.append(_write_image(folder, edition, split, name, kind=kind))
    progress(len(plan), len(plan))
    write_manifest(folder, rows, **_info(edition))
    published = published_rows(edition.dataset_id)
    return sum(
        (row.pixels_sha256, row.maskbits_sha256)
        != (published[row.sample_id].pixels_sha256, published[row.sample_id].maskbits_sha256)
        for row in rows
        if row.sample_id in published
    )


def make_image(
    edition: Edition, split: Split, name: str, kind: Kind
) -> tuple[Forgery, str, bytes, Image]:
    """Make one image: what it is, its suffix, its file's bytes and the pixels these decode to."""
    rng = numpy_stream(edition.seed, edition.dataset_id, edition.version, name)
    forgery = edition.make(kind, edition.photographs(split), edition.side, rng)
    if rng.integers(0, 2):
        quality = (95, 98)[rng.integers(0, 2)]
        forgery.notes.append(f"saved q{quality}")
        encoded = encode_jpeg(forgery.image, quality)
        with PillowImage.open(io.BytesIO(encoded)) as decoded:
            return forgery, ".jpg", encoded, np.asarray(decoded.convert("RGB"))
    return forgery, ".png", encode_png(forgery.image), forgery.image


def _write_image(folder: Path, edition: Edition, split: Split, name: str, *, kind: Kind) -> Row:
    forgery, suffix, data, pixels = make_image(edition, split, name, kind)
    image_path = f"images/{name}{suffix}"
    _write(folder / image_path, data)
    mask_path, mask_data = "", b""
    if kind != "none":
        mask_path, mask_data = f"masks/{name}.png", encode_png(forgery.mask.astype(np.uint8) * 255)
        _write(folder / mask_path, mask_data)
    return Row(
        sample_id=f"{edition.dataset_id}/{name}",
        split=split,
        label=int(kind != "none"),
        kind=kind,
        image=image_path,
        mask=mask_path,
        image_sha256=hashlib.sha256(data).hexdigest(),
        mask_sha256=hashlib.sha256(mask_data).hexdigest() if mask_data else "",
        pixels_sha256=pixels_sha256(pixels),
        maskbits_sha256=mask_sha256(forgery.mask) if mask_data else "",
        height=edition.side,
        width=edition.side,
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


def _write(path: Path, data: bytes) -> None:
    """Plain write: a half-built dataset has no manifest, so it is never taken for a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _info(edition: Edition) -> dict[str, Any]:
    return {
        "dataset_id": edition.dataset_id,
        "title": edition.title,
        "version": edition.version,
        "licence": {"id": "mixed", "redistribution": "no", "text": edition.materials},
        "importer": {"name": "advbench.builtin", "version": edition.version},
        "rules": {
            "mask_rule": MASK_RULE,
            "seed": str(edition.seed),
            "side": str(edition.side),
        },
        "known_issues": list(edition.known_issues),
    }
