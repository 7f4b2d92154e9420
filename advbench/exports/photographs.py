"""The exported images, photograph by photograph, decoded from the shards and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advbench.codec import encode_png
from advbench.errors import AdvbenchError
from advbench.exports.columns import Row
from advbench.exports.pictures import mask_png, residual_image
from advbench.exports.selection import Group
from advbench.images import Image, Mask, fit_mask
from advbench.shards.reader import Handles, Shard, ShardEntry
from advbench.shards.schema import Settings

Places = dict[str, tuple[Path, int]]


@dataclass(frozen=True)
class Attacked:
    """One adversarial image.

    Attributes:
        image: uint8 H×W×3, as decoded from the shard.
        row: the columns of :data:`advbench.exports.columns.COLUMNS`.
        identity: the line of it that ``advbench verify`` hashes.
    """

    variant: str
    image: Image
    row: Row
    identity: str


@dataclass(frozen=True)
class Photograph:
    """One original at its working size, its mask, and what a victim's attacks made of it.

    Attributes:
        image: uint8 H×W×3.
        mask: bool, at the ground truth's own size.
        row: the columns that all its variants share.
        identity: as in :class:`Attacked`.
    """

    group: Group
    sample_id: str
    image: Image
    mask: Mask
    row: Row
    identity: str
    places: dict[str, tuple[Path, int]]
    handles: Handles

    @property
    def name(self) -> str:
        """The sample id without its dataset."""
        return self.sample_id.partition("/")[2]

    def pictures(self) -> dict[str, bytes]:
        """``original``, ``mask`` (at the image's size) and ``mask_native``, as PNG files."""
        return {
            "original": encode_png(self.image),
            "mask": mask_png(fit_mask(self.mask, self.image)),
            "mask_native": mask_png(self.mask),
        }

    def published(self, attacked: Attacked, with_images: bool) -> bytes:
        """An adversarial image, or its residual alone, as a PNG file."""
        if with_images:
            return encode_png(attacked.image)
        return encode_png(residual_image(attacked.image, self.image))

    def attacked(self) -> Iterator[Attacked]:
        """Its adversarial images, one decoded at a time, in order of variant.

        Raises:
            DamagedShardError: one is not what was written.
        """
        for variant, (path, number) in self.places.items():
            shard = self.handles(path)
            image = shard.adversarial(number, self.image)
            row = self.row | _row_of(shard, number)
            identity = _identity(shard, number)
            yield Attacked(variant, image, row, identity)


def photographs(group: Group) -> Iterator[Photograph]:
    """The photographs of a group in order of sample id; as many files are open as variants.

    Raises:
        AdvbenchError: an original is missing.
        DamagedShardError: a shard is not what was written.
    """
    originals = _places(group.originals)
    variants = {name: _places(entries) for name, entries in group.variants.items()}
    handles = Handles(limit=len(variants) + 2)
    try:
        for sample_id in group.sample_ids:
            if sample_id not in originals:
                raise AdvbenchError(
                    f"the original of {sample_id} is missing; run the same generate command again"
                )
            path, number = originals[sample_id]
            shard = handles(path)
            image, mask = shard.original(number)
            yield Photograph(
                group,
                sample_id,
                image,
                mask,
                {
                    "sample_id": sample_id,
                    "split": group.split,
                    "kind": shard.texts("kind")[number],
                    "source_group": shard.texts("source_group")[number],
                    "height": image.shape[0],
                    "width": image.shape[1],
                    "mask_height": mask.shape[0],
                    "mask_width": mask.shape[1],
                    "original_sha256": shard.sha256_of(number),
                    "source_sha256": shard.sha256_of(number, "source_sha256"),
                    "mask_sha256": shard.sha256_of(number, "mask_sha256"),
                },
                _identity(shard, number),
                {
                    name: places[sample_id]
                    for name, places in variants.items()
                    if sample_id in places
                },
                handles,
            )
    finally:
        handles.close()


def _places(entries: tuple[ShardEntry, ...]) -> Places:
    return {
        sample_id: (entry.path, number)
        for entry in entries
        for number, sample_id in enumerate(entry.sample_ids)
    }


def _row_of(shard: Shard, number: int) -> Row:
    settings = shard.settings
    victim = settings.victim or {}
    return {
        "dataset": settings.dataset,
        "victim": victim.get("name", ""),
        "victim_size": victim.get("size", ""),
        "weights": victim.get("weights", ""),
        "weights_sha256": victim.get("weights_sha256", ""),
        **attack_of(settings),
        "seed": settings.seed,
        "precision": settings.precision,
        "space": settings.space,
        "linf": int(shard.column("linf")[number]),
        "psnr": _shortest(shard.column("psnr")[number]),
        "image_sha256": shard.sha256_of(number),
        "settings_sha256": settings.sha256,
        "shard_sha256": shard.content_sha256,
    }


def attack_of(settings: Settings) -> Row:
    """The columns that tell of the attack."""
    specification = settings.attack or {}
    return {
        "attack": str(specification.get("attack", "")),
        "intensity": settings.intensity,
        "variant": settings.variant or "",
        "attack_spec": json.dumps(specification, sort_keys=True, separators=(",", ":")),
    }


def _identity(shard: Shard, number: int) -> str:
    sample_id = shard.sample_ids[number]
    return f"{shard.settings.sha256},{sample_id},{shard.sha256_of(number)}"


def _shortest(value: np.float32) -> float | None:
    """The shortest decimal that is this float32; None where it is infinite."""
    return float(str(value)) if np.isfinite(value) else None
