"""Build shards in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from advbench.images import mask_sha256, pixels_sha256, residual
from advbench.shards.reader import Shard
from advbench.shards.schema import (
    ORIGINALS,
    SCHEMA,
    AdversarialRecord,
    Original,
    Provenance,
    Settings,
    content_sha256,
    largest_difference,
    psnr,
    text_sha256,
)

GZIP_LEVEL = 4
_STORAGE = {"compression": "gzip", "compression_opts": GZIP_LEVEL, "fletcher32": True}


def encode(
    settings: Settings, records: Sequence[Original] | Sequence[AdversarialRecord], made: Provenance
) -> bytes:
    """Build a shard in memory, open it again and compare every record with its hash.

    Raises:
        ValueError: an adversarial image is not within the budget of its settings.
    """
    originals = [record for record in records if isinstance(record, Original)]
    attacked = [record for record in records if isinstance(record, AdversarialRecord)]
    if settings.kind == ORIGINALS:
        columns, arrays = _originals(originals)
    else:
        columns, arrays = _adversarial(settings, attacked)
    data = _file(settings, columns, arrays, json.dumps(vars(made), sort_keys=True))
    with Shard(Path("the new shard"), io.BytesIO(data)) as shard:
        shard.check_content()
    return data


Columns = dict[str, Any]
Arrays = list[dict[str, Any]]


def _originals(records: Sequence[Original]) -> tuple[Columns, Arrays]:
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
    return columns, [{"image": r.image, "mask": r.mask.astype(np.uint8)} for r in records]


def _adversarial(
    settings: Settings, records: Sequence[AdversarialRecord]
) -> tuple[Columns, Arrays]:
    columns = {
        "sample_id": _text([r.sample_id for r in records]),
        "height": np.array([r.image.shape[0] for r in records], np.int32),
        "width": np.array([r.image.shape[1] for r in records], np.int32),
        "image_sha256": _digests([pixels_sha256(r.image) for r in records]),
        "original_sha256": _digests([pixels_sha256(r.original) for r in records]),
        "linf": np.array([largest_difference(r.image, r.original) for r in records], np.uint8),
        "psnr": np.array([psnr(r.image, r.original) for r in records], np.float32),
        "loss_first": np.array([r.loss_first for r in records], np.float32),
        "loss_last": np.array([r.loss_last for r in records], np.float32),
        "zero_gradients": np.array([r.zero_gradients for r in records], np.int32),
    }
    if settings.budget is not None and columns["linf"].max(initial=0) > settings.budget:
        raise ValueError(
            f"{settings.folder}: an image exceeds the budget of {settings.budget} grey levels"
        )
    arrays: Arrays = []
    for record in records:
        noise = residual(record.image, record.original)
        arrays.append({"image": record.image} if noise is None else {"residual": noise})
    columns["encoding"] = np.array(["residual" in a for a in arrays], np.uint8)
    return columns, arrays


def _file(settings: Settings, columns: Columns, arrays: Arrays, made: str) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        file.attrs.update(
            {
                "schema": SCHEMA,
                "kind": settings.kind,
                "settings": settings.to_json(),
                "settings_sha256": settings.sha256,
                "content_sha256": content_sha256(settings, columns),
                "n_records": len(arrays),
                "provenance": made,
                "provenance_sha256": text_sha256(made),
            }
        )
        for name, column in columns.items():
            file.create_dataset(f"index/{name}", data=column)
        for number, record in enumerate(arrays):
            for name, array in record.items():
                file.create_dataset(
                    f"records/{number:06d}/{name}", data=array, chunks=array.shape, **_STORAGE
                )
    return buffer.getvalue()


def _text(values: Sequence[str]) -> Any:
    raw = [value.encode("utf-8") for value in values]
    return np.array(raw, dtype=f"S{max(1, *map(len, raw))}")


def _digests(values: Sequence[str]) -> Any:
    raw = b"".join(bytes.fromhex(value) for value in values)
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)
