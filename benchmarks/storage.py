"""Shards against PNG folders and float32 HDF5: seconds to write and to read, and bytes.

    python benchmarks/storage.py [--images 64] [--csv PATH]

Originals are built-in images; the adversarial ones differ from them by whole levels of ±3 as
iterated attacks leave them, the worst case for compression. Every way stores originals, adversarial
images and masks, and gives them back as uint8; float32 HDF5 is what public code writes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import h5py
import numpy as np
from PIL import Image as PillowImage
from timing import put_out, table_options, turns

from advbench.attacks.pgd import PGD
from advbench.images import Image, Mask
from advbench.pipelines.load import cache_folder, load_dataset
from advbench.shards.reader import Originals, Shard
from advbench.shards.schema import (
    ADVERSARIAL,
    ORIGINALS,
    AdversarialRecord,
    Original,
    Provenance,
    Settings,
)
from advbench.shards.store import ShardStore

Triple = tuple[Image, Image, Mask]


@click.command()
@click.option("--images", "count", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@table_options
def main(count: int, repeats: int, csv_path: Path | None, as_json: bool) -> None:
    """Print the table."""
    triples = images(count)
    ways: dict[str, tuple[Callable[..., None], Callable[..., list[Triple]]]] = {
        "shards": (write_shards, read_shards),
        "PNG": (write_png, read_png),
        "float32 HDF5": (write_float, read_float),
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as where:
        folders = {name: Path(where) / name for name in ways}
        written = turns(
            {name: lambda name=name: ways[name][0](folders[name], triples) for name in ways},
            repeats,
        )
        read = turns(
            {name: lambda name=name: ways[name][1](folders[name]) for name in ways}, repeats
        )
        for name, folder in folders.items():
            assert all(
                all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
                for one, other in zip(triples, ways[name][1](folder), strict=True)
            )
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            rows.append(
                {
                    "way": name,
                    "images": count,
                    "write_s": round(median(written[name]), 3),
                    "read_s": round(median(read[name]), 3),
                    "megabytes": round(size / 1e6, 2),
                }
            )
    put_out(
        rows,
        csv_path,
        as_json,
        lambda row: (
            f"{row['way']:<14} write {row['write_s']:7.2f} s  read {row['read_s']:7.2f} s  "
            f"{row['megabytes']:8.2f} MB"
        ),
    )


def images(count: int) -> list[Triple]:
    """Originals, adversarial images, masks."""
    dataset = load_dataset("builtin", cache_folder())
    stream = np.random.default_rng(0)
    found = []
    for row in dataset.select("test", label=1, limit=count):
        original = dataset.image(row)
        noise = stream.integers(-3, 4, original.shape)
        found.append(
            (original, (original + noise).clip(0, 255).astype(np.uint8), dataset.mask(row))
        )
    return found


def write_shards(folder: Path, triples: list[Triple]) -> None:
    attack = PGD(eps=(3.0,))
    victim = dict.fromkeys(("name", "size", "weights", "weights_sha256"), "x")
    space = Settings(ORIGINALS, "d", "native")
    settings = Settings(
        ADVERSARIAL, "d", "native", victim, "pgd-3", attack.variant_spec(3), 3, 0, "fp32"
    )
    made = Provenance("", "", {}, "")
    names = [f"d/{number:04}" for number in range(len(triples))]
    originals = [
        Original(name, "splice", name, image, mask, "0" * 64)
        for name, (image, _, mask) in zip(names, triples, strict=True)
    ]
    attacked = [
        AdversarialRecord(name, image, adversarial)
        for name, (image, adversarial, _) in zip(names, triples, strict=True)
    ]
    store = ShardStore(folder)
    store.add(space, originals, made, 0)
    store.add(settings, attacked, made, 0)


def read_shards(folder: Path) -> list[Triple]:
    entries = ShardStore(folder).entries()
    originals = Originals(entries)
    found = []
    for entry in entries:
        if entry.settings.kind == ADVERSARIAL:
            with Shard(entry.path) as shard:
                for number, name in enumerate(entry.sample_ids):
                    image, mask = originals.get(name)
                    found.append((image, shard.adversarial(number, image), mask))
    return found


def write_png(folder: Path, triples: list[Triple]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (original, adversarial, mask) in enumerate(triples):
        for name, pixels in (("o", original), ("a", adversarial), ("m", mask * np.uint8(255))):
            PillowImage.fromarray(pixels).save(folder / f"{number:04}{name}.png")


def read_png(folder: Path) -> list[Triple]:
    def pixels(number: int, name: str) -> Image:
        return np.asarray(PillowImage.open(folder / f"{number:04}{name}.png"))

    count = len(list(folder.glob("*o.png")))
    return [(pixels(n, "o"), pixels(n, "a"), pixels(n, "m") > 0) for n in range(count)]


def write_float(folder: Path, triples: list[Triple]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "images.h5", "w") as file:
        for number, triple in enumerate(triples):
            for name, pixels in zip("oam", triple, strict=True):
                data = pixels.astype(np.float32) / (1 if name == "m" else 255)
                file.create_dataset(f"{number:04}{name}", data=data, compression="gzip")


def read_float(folder: Path) -> list[Triple]:
    with h5py.File(folder / "images.h5") as file:

        def pixels(number: int, name: str) -> Image:
            return np.rint(file[f"{number:04}{name}"][:] * 255).astype(np.uint8)

        return [(pixels(n, "o"), pixels(n, "a"), pixels(n, "m") > 0) for n in range(len(file) // 3)]


if __name__ == "__main__":
    main()
