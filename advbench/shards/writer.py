"""Write a shard: built in memory, read back, then put in its place whole."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from advbench.files import write_atomically
from advbench.images import Image, mask_sha256, pixels_sha256, residual
from advbench.shards.reader import Shard
from advbench.shards.schema import (
    ADVERSARIAL,
    ORIGINALS,
    SCHEMA,
    AdversarialRecord,
    Original,
    Provenance,
    Settings,
    content_sha256,
)

GZIP_LEVEL = 4
_STORAGE = {"compression": "gzip", "compression_opts": GZIP_LEVEL, "fletcher32": True}


def write_originals(
    path: Path, settings: Settings, records: Sequence[Original], provenance: Provenance
) -> None:
    """Write a shard of originals; see :func:`write_adversarial`."""
    assert settings.kind == ORIGINALS
    columns = {
        "sample_id": _text([r.sample_id for r in records]),
        "kind": _text([r.kind for r in records]),
        "source_group": _text([r.source_group for r in records]),
        "height": np.array([r.image.shape[0] for r in records], np.int32),
        "width": np.array([r.image.shape[1] for r in records], np.int32),
        "image_sha256": _digests([pixels_sha256(r.image) for r in records]),
        "mask_sha256": _digests([mask_sha256(r.mask) for r in records]),
        "source_sha256": _digests([r.source_sha256 for r in records]),
    }
    hashed = [(r.sample_id, pixels_sha256(r.image), mask_sha256(r.mask)) for r in records]
    arrays = [{"image": r.image, "mask": r.mask.astype(np.uint8)} for r in records]
    _write(path, settings, columns, hashed, arrays, provenance)


def write_adversarial(
    path: Path, settings: Settings, records: Sequence[AdversarialRecord], provenance: Provenance
) -> None:
    """Write a shard of adversarial images.

    The file is built in memory, opened again and every record compared with its hash before the
    file is written under a temporary name, fsynced and renamed.

    Raises:
        ValueError: an image is not within the budget of its settings.
        OSError: the disk is full or the folder read-only; nothing is left behind.
    """
    assert settings.kind == ADVERSARIAL
    arrays: list[dict[str, Any]] = []
    columns: dict[str, Any] = {
        "sample_id": _text([r.sample_id for r in records]),
        "height": np.array([r.image.shape[0] for r in records], np.int32),
        "width": np.array([r.image.shape[1] for r in records], np.int32),
        "image_sha256": _digests([pixels_sha256(r.image) for r in records]),
        "original_sha256": _digests([pixels_sha256(r.original) for r in records]),
        "linf": np.array([_linf(r) for r in records], np.uint8),
        "psnr": np.array([_psnr(r.image, r.original) for r in records], np.float32),
        "loss_first": np.array([r.loss_first for r in records], np.float32),
        "loss_last": np.array([r.loss_last for r in records], np.float32),
        "zero_gradients": np.array([r.zero_gradients for r in records], np.int32),
    }
    if settings.budget is not None and columns["linf"].max(initial=0) > settings.budget:
        raise ValueError(f"{path}: an image exceeds the budget of {settings.budget} grey levels")
    for record in records:
        noise = residual(record.image, record.original)
        arrays.append({"image": record.image} if noise is None else {"residual": noise})
    columns["encoding"] = np.array(["residual" in a for a in arrays], np.uint8)
    hashed = [(r.sample_id, pixels_sha256(r.original), pixels_sha256(r.image)) for r in records]
    _write(path, settings, columns, hashed, arrays, provenance)


def _write(
    path: Path,
    settings: Settings,
    columns: dict[str, Any],
    hashed: Sequence[tuple[str, ...]],
    arrays: Sequence[dict[str, Any]],
    provenance: Provenance,
) -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        file.attrs.update(
            {
                "schema": SCHEMA,
                "kind": settings.kind,
                "settings": settings.to_json(),
                "settings_sha256": settings.sha256,
                "content_sha256": content_sha256(settings.sha256, hashed),
                "n_records": len(hashed),
                "provenance": json.dumps(vars(provenance), sort_keys=True),
            }
        )
        for name, column in columns.items():
            file.create_dataset(f"index/{name}", data=column)
        for number, record in enumerate(arrays):
            for name, array in record.items():
                file.create_dataset(
                    f"records/{number:06d}/{name}", data=array, chunks=array.shape, **_STORAGE
                )
    data = buffer.getvalue()
    with Shard(path, io.BytesIO(data)) as shard:
        shard.check_content()
    write_atomically(path, data)


def _text(values: Sequence[str]) -> Any:
    return np.array([value.encode("utf-8") for value in values], dtype="S96")


def _digests(values: Sequence[str]) -> Any:
    raw = b"".join(bytes.fromhex(value) for value in values)
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)


def _linf(record: AdversarialRecord) -> int:
    return int(np.abs(record.image.astype(np.int16) - record.original).max(initial=0))


def _psnr(image: Image, original: Image) -> float:
    error = np.mean((image.astype(np.float64) - original) ** 2)
    return math.inf if error == 0 else float(10 * math.log10(255**2 / error))
