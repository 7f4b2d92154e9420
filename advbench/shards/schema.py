"""``advbench.shard/2``: what a shard holds and what its hashes cover.

Two kinds share one layout, one HDF5 group an image:

* ``originals`` of a dataset at a working size: ``records/000000/image`` (uint8 H×W×3) and
  ``mask`` (uint8 h×w of 0 and 1, at the ground truth's own size);
* ``adversarial`` images of one victim and variant: ``residual`` (int8 H×W×3, to be added to the
  original modulo 256), or ``image`` (uint8) where a difference does not fit.

``index/`` holds a column a property, one value an image (:data:`COLUMNS`). Settings and all
columns, the images' hashes among them, are hashed together (``content_sha256``). Dates, seconds,
versions and devices stand beside them with a hash of their own, so that a run that was interrupted
and resumed has the content of one that was not.

``advbench.shard/1``, which is still read, differs in its ``content_sha256``: it covers settings,
sample ids and the hashes of images and masks alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from advbench.files import as_part
from advbench.images import Image, Mask

SCHEMA = "advbench.shard/2"
FIRST_SCHEMA = "advbench.shard/1"
ORIGINALS, ADVERSARIAL = "originals", "adversarial"
_INTENSITY = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")
# As for the files that images are decoded from.
MAX_PIXELS = 200_000_000

# Columns of the index by kind of shard: text in UTF-8, a sha256 as 32 bytes, or a numpy type.
TEXT, DIGEST = "text", "digest"
COLUMNS: dict[str, dict[str, str]] = {
    ORIGINALS: {
        "sample_id": TEXT,
        "kind": TEXT,
        "source_group": TEXT,
        "height": "<i4",
        "width": "<i4",
        "image_sha256": DIGEST,
        "mask_sha256": DIGEST,
        "source_sha256": DIGEST,
    },
    ADVERSARIAL: {
        "sample_id": TEXT,
        "height": "<i4",
        "width": "<i4",
        "image_sha256": DIGEST,
        "original_sha256": DIGEST,
        "linf": "|u1",
        "psnr": "<f4",
        "loss_first": "<f4",
        "loss_last": "<f4",
        "zero_gradients": "<i4",
        "encoding": "|u1",
    },
}
# What the first schema hashed.
_FIRST_COLUMNS = {
    ORIGINALS: ("image_sha256", "mask_sha256"),
    ADVERSARIAL: ("original_sha256", "image_sha256"),
}
# Names in settings become folders: none may leave the store or be hidden in it.
_NAME = re.compile(r"[^./\\\s\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,127}")


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
    """Hold what decides the content of a shard; its JSON is the provenance key.

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
        """Read what :meth:`to_json` wrote, or what anybody wrote.

        Raises:
            ValueError: no JSON, other fields, types that are not theirs, a name that is no name.
        """
        values = json.loads(text)
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError("settings of other fields")
        settings = cls(**values)
        settings._check()
        if settings.to_json() != text:
            raise ValueError("settings written in another way")
        return settings

    def _check(self) -> None:
        adversarial = self.kind == ADVERSARIAL
        victim = self.victim if adversarial else {}
        texts = isinstance(victim, dict) and all(isinstance(v, str) for v in victim.values())
        wanted = {"name", "size", "weights_sha256", "weights"} if adversarial else set()
        attack = self.attack if adversarial else {}
        named = isinstance(attack, dict) and isinstance(attack.get("attack", ""), str)
        if self.kind not in COLUMNS or not texts or not named or not wanted <= set(victim or {}):
            raise ValueError("settings without a kind, a victim or an attack that are any")
        if not all(isinstance(n, int | None) for n in (self.budget, self.seed)):
            raise ValueError("settings whose budget or seed is no number")
        names: list[Any] = [self.dataset, self.space, self.precision or "fp32"]
        names += [(victim or {})["name"], self.variant] if adversarial else []
        if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
            raise ValueError("settings with a name that cannot be one")

    @property
    def sha256(self) -> str:
        """The provenance key."""
        return text_sha256(self.to_json())

    @property
    def intensity(self) -> float | None:
        """The number in the variant's name: 3 of ``pgd-3`` and of ``pgd-3@jpeg-90``; None where
        there is none."""
        label = str((self.attack or {}).get("attack", ""))
        found = _INTENSITY.match((self.variant or "").removeprefix(f"{label}-"))
        return float(found.group()) if found else None

    @property
    def folder(self) -> PurePosixPath:
        """Name the folder of such shards, relative to the shards' root."""
        if self.victim is None or self.variant is None:
            return PurePosixPath(self.dataset, f"originals-{self.space}")
        return PurePosixPath(self.dataset, as_part(self.victim["name"]), self.variant)

    def differences(self, other: Settings) -> list[str]:
        """Tell what differs, as ``attack.alpha 1.0 / 2.0``."""
        return list(_differences("", vars(self), vars(other)))


def _differences(prefix: str, ours: Any, theirs: Any) -> Iterable[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _differences(f"{prefix}{key}.", ours.get(key), theirs.get(key))
    elif ours != theirs:
        yield f"{prefix.rstrip('.')} {theirs} / {ours}"


@dataclass(frozen=True)
class Provenance:
    """Hold what stands in a shard unhashed: where, when and at what cost it was made.

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


def content_sha256(settings: Settings, columns: Mapping[str, Any]) -> str:
    """Hash settings and every column of the index, image by image in order of sample id."""
    digest = hashlib.sha256(settings.sha256.encode())
    names = sorted(COLUMNS[settings.kind])
    for number in _in_order(columns):
        values = (columns[name][number] for name in names)
        # Text without the padding that the longest in its shard gives it.
        plain = (v if isinstance(v, bytes) else v.tobytes() for v in values)
        line = ",".join(f"{n}={v.hex()}" for n, v in zip(names, plain, strict=True))
        digest.update(f"\n{line}".encode())
    return digest.hexdigest()


def first_content_sha256(settings: Settings, columns: Mapping[str, Any]) -> str:
    """The content's hash of the first schema."""
    digest = hashlib.sha256(settings.sha256.encode())
    for number in _in_order(columns):
        hashes = [columns[n][number].tobytes().hex() for n in _FIRST_COLUMNS[settings.kind]]
        digest.update(("\n" + ",".join([columns["sample_id"][number].decode(), *hashes])).encode())
    return digest.hexdigest()


def text_sha256(text: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def largest_difference(image: Image, original: Image) -> int:
    """The L∞ distance in grey levels."""
    return int(np.abs(image.astype(np.int16) - original).max(initial=0))


def psnr(image: Image, original: Image) -> float:
    """The peak signal-to-noise ratio in dB, infinite where nothing differs."""
    error = np.mean((image.astype(np.float64) - original) ** 2)
    return math.inf if error == 0 else float(10 * math.log10(255**2 / error))


def _in_order(columns: Mapping[str, Any]) -> Sequence[int]:
    return np.argsort(columns["sample_id"], kind="stable").tolist()
