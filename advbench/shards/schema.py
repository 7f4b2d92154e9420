"""``advbench.shard/1``: what a shard holds and what its hashes cover.

Two kinds share one layout, one HDF5 group an image:

* ``originals`` of a dataset at a working size: ``records/000000/image`` (uint8 H×W×3) and
  ``mask`` (uint8 h×w of 0 and 1, at the ground truth's own size);
* ``adversarial`` images of one victim and variant: ``residual`` (int8 H×W×3, to be added to the
  original modulo 256), or ``image`` (uint8) where a difference does not fit.

Settings and records are hashed; dates, seconds, versions and devices stand beside them unhashed,
so that a run that was interrupted and resumed has the content of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from advbench.images import Image, Mask

SCHEMA = "advbench.shard/1"
ORIGINALS, ADVERSARIAL = "originals", "adversarial"
_INTENSITY = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")


@dataclass(frozen=True)
class Original:
    """An original image as stored: at the working size, with its mask at native size.

    ``source_sha256`` is the manifest's hash of the decoded file it was made from.
    """

    sample_id: str
    kind: str
    source_group: str
    image: Image
    mask: Mask
    source_sha256: str


@dataclass(frozen=True)
class AdversarialRecord:
    """An adversarial image as stored, with the numbers of its making."""

    sample_id: str
    original: Image
    image: Image
    loss_first: float = 0.0
    loss_last: float = 0.0
    zero_gradients: int = 0


@dataclass(frozen=True)
class Settings:
    """What decides the content of a shard; its JSON is the provenance key.

    Attributes:
        kind: ``originals`` or ``adversarial``.
        space: the rule of the working size.
        victim: name, size, weights' sha256 and label; None for originals.
        variant: such as ``pgd-3``; None for originals.
        attack: the variant's specification; None for originals.
        budget: largest |residual| allowed; None where there is no bound.
    """

    kind: str
    dataset: str
    space: str
    victim: dict[str, str] | None = None
    variant: str | None = None
    attack: dict[str, Any] | None = None
    budget: int | None = None
    seed: int | None = None
    precision: str | None = None

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no blanks."""
        return json.dumps(vars(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse of :meth:`to_json`."""
        return cls(**json.loads(text))

    @property
    def sha256(self) -> str:
        """The provenance key."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def intensity(self) -> float | None:
        """The number in the variant's name: 3 of ``pgd-3`` and of ``pgd-3@jpeg-90``; None where
        there is none."""
        label = str((self.attack or {}).get("attack", ""))
        found = _INTENSITY.match((self.variant or "").removeprefix(f"{label}-"))
        return float(found.group()) if found else None

    @property
    def folder(self) -> PurePosixPath:
        """Where such shards lie, relative to the shards' root."""
        if self.victim is None or self.variant is None:
            return PurePosixPath(self.dataset, f"originals-{self.space}")
        return PurePosixPath(self.dataset, self.victim["name"], self.variant)

    def differences(self, other: Settings) -> list[str]:
        """What differs, as ``attack.alpha 1.0 / 2.0``."""
        return list(_differences("", vars(self), vars(other)))


def _differences(prefix: str, ours: Any, theirs: Any) -> Iterable[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _differences(f"{prefix}{key}.", ours.get(key), theirs.get(key))
    elif ours != theirs:
        yield f"{prefix.rstrip('.')} {theirs} / {ours}"


@dataclass(frozen=True)
class Provenance:
    """What stands in a shard unhashed: where, when and at what cost it was made.

    Attributes:
        passes: forward and backward passes.
        batch: rows that met the victim at once, by which a GPU may choose its kernels.
    """

    advbench_version: str
    created_utc: str
    versions: dict[str, str]
    device: str
    passes: int = 0
    seconds: float = 0.0
    batch: int = 1


def content_sha256(settings_sha256: str, records: Sequence[tuple[str, ...]]) -> str:
    """Hash over settings and records (sample id and hashes), in order of sample id."""
    digest = hashlib.sha256(settings_sha256.encode())
    for record in sorted(records):
        digest.update(("\n" + ",".join(record)).encode())
    return digest.hexdigest()
