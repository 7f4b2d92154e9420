"""A small store with what makes exporting hard, and how to read it without advbench."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from advbench.datasets.manifest import Row, write_manifest
from advbench.exports.export import ExportCounts, ExportJob, export
from advbench.images import mask_sha256, pixels_sha256
from advbench.shards.schema import (
    ADVERSARIAL,
    ORIGINALS,
    AdversarialRecord,
    Original,
    Provenance,
    Settings,
)
from advbench.shards.store import ShardStore

# A dot in a name, two shapes, and masks at the photographs' own size.
SAMPLES = {"photo.0": (24, 20), "photo_1": (17, 33), "photo_2": (24, 20)}
MADE = Provenance("0.1.0", "2026-01-02T03:04:05+00:00", {"torch": "2.0"}, "cpu")
# Victim, working size, weights, variants: a dot in a name, and one without a bound.
RUNS = (
    ("ifosn", "native", "builtin", ("pgd-1", "pgd-2.5", "cw-50")),
    ("code", "bilinear-16", "file:0123", ("pgd-1",)),
)


@dataclass(frozen=True)
class Known:
    """An image as plain h5py reads it: adversarial, original, native mask."""

    image: np.ndarray
    original: np.ndarray
    mask: np.ndarray


@dataclass
class Store:
    """An output folder and what is in it.

    Attributes:
        images: by dataset, victim, variant and name.
    """

    out: Path

    def manifest(self, dataset: str = "data", redistribution: str = "yes", **more: str) -> None:
        """Write the manifest of a dataset with these terms."""
        licence = {"id": "CC-BY-4.0", "redistribution": redistribution, **more}
        write_manifest(
            self.out / "datasets" / dataset,
            [_row(dataset, name, number) for number, name in enumerate(SAMPLES)],
            dataset_id=dataset,
            title="Photographs of nothing",
            version="1",
            licence=licence,
            importer={"name": "test", "version": "1"},
            rules={},
            citation="Nobody, Nothing, 2026",
            known_issues=["none of it is | real"],
        )

    def export(self, kind: str, to: Path, **options: object) -> ExportCounts:
        return export(ExportJob(kind, self.out, to, **options))

    @property
    def images(self) -> dict[tuple[str, str, str, str], Known]:
        root = self.out / "shards"
        originals = {}
        for path in root.glob("*/originals-*/*.h5"):
            with h5py.File(path) as file:
                space = path.parent.name.removeprefix("originals-")
                for number, sample in enumerate(file["index/sample_id"][:]):
                    group = file[f"records/{number:06d}"]
                    key = (path.parts[-3], space, sample.decode().partition("/")[2])
                    originals[key] = (group["image"][:], group["mask"][:] == 1)
        found = {}
        spaces = {victim: space for victim, space, _, _ in RUNS}
        for path in root.glob("*/*/*/*.h5"):
            dataset, victim, variant = path.parts[-4:-1]
            with h5py.File(path) as file:
                for number, sample in enumerate(file["index/sample_id"][:]):
                    group, name = file[f"records/{number:06d}"], sample.decode().partition("/")[2]
                    original, mask = originals[dataset, spaces[victim], name]
                    if "image" in group:
                        image = group["image"][:]
                    else:
                        image = original + group["residual"][:].view("uint8")
                    found[dataset, victim, variant, name] = Known(image, original, mask)
        return found


def add_dataset(out: Path, dataset: str, sample_dataset: str = "data") -> None:
    store = ShardStore(out / "shards")
    names = list(SAMPLES)
    for victim, space, weights, variants in RUNS:
        settings = Settings(ORIGINALS, dataset, space)
        fitted = {
            name: _fit(_image(number, SAMPLES[name]), space) for number, name in enumerate(SAMPLES)
        }
        for start in (0, 2):
            records = [
                Original(
                    f"{sample_dataset}/{name}",
                    "splice",
                    f"source {name}",
                    fitted[name],
                    _mask(SAMPLES[name]),
                    pixels_sha256(_image(names.index(name), SAMPLES[name])),
                )
                for name in names[start : start + 2]
            ]
            store.add(settings, records, MADE, start)
        identity = {
            "name": victim,
            "size": "small",
            "weights": weights,
            "weights_sha256": "a1" * 32,
        }
        for variant in variants:
            attack, _, intensity = variant.partition("-")
            budget = None if attack == "cw" else int(float(intensity))
            spec = {"attack": attack, "eps": float(intensity), "alpha": 0.5}
            settings = Settings(
                ADVERSARIAL, dataset, space, identity, variant, spec, budget, 0, "fp32"
            )
            for start in (0, 2):
                changed = [
                    AdversarialRecord(
                        f"{sample_dataset}/{name}", fitted[name], _changed(fitted[name], budget)
                    )
                    for name in names[start : start + 2]
                ]
                store.add(settings, changed, MADE, start)
    store.write_index()


def _image(seed: int, shape: tuple[int, int]) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image[:3, :3] = (0, 255, 0)
    return image


def _mask(shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[2 : shape[0] // 2, 3 : shape[1] // 2] = True
    return mask


def _fit(image: np.ndarray, space: str) -> np.ndarray:
    return image if space == "native" else np.ascontiguousarray(image[:16, :16])


def _changed(image: np.ndarray, budget: int | None) -> np.ndarray:
    if budget is None:
        changed = image.copy()
        changed[:3, :3] = 255 - changed[:3, :3]
        return changed
    noise = np.random.default_rng(9).integers(-budget, budget + 1, image.shape)
    return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)


def _row(dataset: str, name: str, number: int) -> Row:
    shape, zero = SAMPLES[name], "0" * 64
    return Row(
        sample_id=f"{dataset}/{name}",
        split="test",
        label=1,
        kind="splice",
        image=f"{name}.png",
        mask=f"{name}_mask.png",
        image_sha256=zero,
        mask_sha256=zero,
        pixels_sha256=pixels_sha256(_image(number, shape)),
        maskbits_sha256=mask_sha256(_mask(shape)),
        height=shape[0],
        width=shape[1],
        orig_mode="RGB",
        orig_format="PNG",
        orig_name=f"{name}.png",
        mask_rule="gray>127",
        mask_fix="none",
        fg_fraction=0.1,
        source_group=f"source {name}",
        excluded="",
        flags="",
        provenance="",
    )
