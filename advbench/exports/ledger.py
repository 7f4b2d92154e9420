"""Count what an export holds: counted while it is written, told in its card."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from advbench.exports.columns import Row
from advbench.exports.photographs import Photograph, attack_of
from advbench.exports.samples import Sample
from advbench.exports.selection import Group
from advbench.shards.reader import Shard


@dataclass
class Ledger:
    """Counts, hashes and provenance.

    Attributes:
        photographs: sample ids, each once for all victims.
        other_size: photographs whose mask has another size than the image.
        pixels: sha256 of the pixels of every image and original.
        samples: a few of the images, for the card.
        identities: the lines behind ``content_sha256``, as ``advbench verify`` makes them.
    """

    photographs: set[str] = field(default_factory=set)
    other_size: dict[str, set[str]] = field(default_factory=dict)
    identities: set[str] = field(default_factory=set)
    pixels: set[str] = field(default_factory=set)
    samples: list[Sample] = field(default_factory=list)
    images: int = 0

    def note_photograph(self, photograph: Photograph) -> None:
        """Count an original."""
        group = photograph.group
        self.photographs.add(photograph.sample_id)
        self.identities.add(photograph.identity)
        self.pixels.add(str(photograph.row["original_sha256"]))
        if photograph.mask.shape != photograph.image.shape[:2]:
            self.other_size.setdefault(group.dataset, set()).add(photograph.sample_id)

    def note_image(self, identity: str, row: Row) -> None:
        """Count an adversarial image."""
        self.identities.add(identity)
        self.pixels.add(str(row["image_sha256"]))
        self.images += 1

    @property
    def content_sha256(self) -> str:
        """The identity of all images, whatever files they lie in."""
        return hashlib.sha256("\n".join(sorted(self.identities)).encode()).hexdigest()


@dataclass(frozen=True)
class ShardOrigin:
    """Hold where and when the shards were made.

    Attributes:
        last_day: of the newest shard, YYYY-MM-DD.
    """

    versions: tuple[str, ...]
    advbench_versions: tuple[str, ...]
    devices: tuple[str, ...]
    last_day: str


def made(groups: Sequence[Group]) -> ShardOrigin:
    """The provenance of all adversarial shards together; reads their heads."""
    found: list[dict[str, Any]] = []
    paths = {e.path for group in groups for entries in group.variants.values() for e in entries}
    for path in sorted(paths):
        with Shard(path) as shard:
            found.append(shard.provenance)
    versions = {
        f"{name} {number}" for one in found for name, number in one.get("versions", {}).items()
    }
    return ShardOrigin(
        tuple(sorted(versions)),
        tuple(sorted({str(one.get("advbench_version", "?")) for one in found})),
        tuple(sorted({str(one.get("device", "?")) for one in found})),
        max(str(one.get("created_utc", ""))[:10] for one in found),
    )


def setting_rows(groups: Sequence[Group]) -> list[Row]:
    """One row a dataset, victim and variant, with the number of its images."""
    rows: list[Row] = []
    for group in groups:
        for entries in group.variants.values():
            settings = entries[0].settings
            rows.append(
                attack_of(settings)
                | {name: str(value) for name, value in (settings.victim or {}).items()}
                | {
                    "dataset": group.dataset,
                    "space": group.space,
                    "budget": settings.budget,
                    "seed": settings.seed,
                    "precision": settings.precision,
                    "n": sum(len(entry.sample_ids) for entry in entries),
                }
            )
    return rows
