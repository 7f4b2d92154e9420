"""The sets of forgeries that advbench makes: the built-in ones, ``open``, and a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from advbench.datasets.builtin import forgeries, mixed
from advbench.datasets.builtin.forgeries import Forgery
from advbench.datasets.builtin.listed import listed_photographs
from advbench.datasets.builtin.photographs import PhotographFile, Source, photographs_of
from advbench.datasets.decoding import decode_image
from advbench.datasets.manifest import Kind, Row, Split, read_manifest
from advbench.errors import AdvbenchError
from advbench.images import pixels_sha256

SIDE = 256
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}

Maker = Callable[[Kind, Sequence[Source], int, np.random.Generator], Forgery]


@dataclass(frozen=True)
class Edition:
    """A set of forgeries that comes out the same every time.

    Attributes:
        dataset_id: first part of its sample ids, and its name in shards and records.
        seed: of every random stream, with the id, the version and the image's name.
        side: of the square pictures, in pixels.
        sizes: forged images of each split; a fifth as many authentic ones come on top.
        photographs: the photographs that the images of a split are made from.
        make: makes one picture.
        materials: where the photographs come from and under which licences, in one sentence.
    """

    dataset_id: str
    version: str
    title: str
    seed: int
    sizes: Mapping[Split, int]
    photographs: Callable[[Split], Sequence[Source]]
    make: Maker
    materials: str
    known_issues: tuple[str, ...] = ()
    side: int = SIDE
    splits: tuple[Split, ...] = ("train", "val", "test")


BUILTIN_1 = Edition(
    dataset_id="builtin",
    version="1",
    title="advbench built-in forgeries",
    seed=20260,
    sizes={"train": 1200, "val": 80, "test": 160},
    photographs=photographs_of,
    make=forgeries.make_forgery,
    materials="made at run time from photographs inside the wheels of scikit-image, "
    "scikit-learn and matplotlib; china.jpg and flower.jpg are CC BY 2.0",
    known_issues=(
        "synthetic forgeries from 19 photographs: scores say nothing about real forgeries",
    ),
)
BUILTIN_2 = Edition(
    dataset_id="builtin2",
    version="2",
    title="advbench built-in forgeries, version 2",
    seed=20261,
    sizes=BUILTIN_1.sizes,
    photographs=photographs_of,
    make=mixed.make_forgery,
    materials=BUILTIN_1.materials,
    known_issues=BUILTIN_1.known_issues,
)
# The version that ``--dataset builtin`` names.
CURRENT = BUILTIN_2
BUILTIN: dict[str, Edition] = {"builtin": CURRENT, "builtin1": BUILTIN_1, "builtin2": BUILTIN_2}
OPEN = "open"
RESERVED = (*BUILTIN, OPEN)


def recorded_name(name: str) -> str:
    """Return the name in shards and records of a dataset that a user names: ``builtin2`` for
    ``builtin``, ``builtin2-val`` for ``builtin-val``; other names stay as they are."""
    dataset, dash, split = name.partition("-")
    edition = BUILTIN.get(dataset)
    return f"{edition.dataset_id}{dash}{split}" if edition else name


def open_edition(root: Path) -> Edition:
    """The set ``open``: 240 forged test images from 69 photographs of Debian packages.

    Args:
        root: where the packages of ``manifests/photographs.csv`` are installed or unpacked.
    """
    return Edition(
        dataset_id=OPEN,
        version="1",
        title="advbench forgeries of openly licensed photographs",
        seed=20262,
        sizes={"val": 80, "test": 240},
        photographs=lambda split: listed_photographs(root, split),
        make=mixed.make_forgery,
        materials="made at run time from photographs in Debian packages under the licences that "
        "manifests/photographs.csv lists",
        known_issues=("synthetic forgeries: scores say nothing about real forgeries",),
        splits=("val", "test"),
    )


def synthesized_edition(folder: Path, name: str, *, images: int, side: int, seed: int) -> Edition:
    """Forgeries made from the photographs below ``folder``: of these, in order of the hash of their
    pixels, 60 % are for training, 10 % for validation and 30 % for test, and never two of one
    photograph.

    Args:
        images: forged images of all splits together, shared out as the photographs are.

    Raises:
        AdvbenchError: there are fewer than three photographs, or one is smaller than ``side`` or
            cannot be read.
    """
    sources = _photographs_below(folder, side)
    if len(sources) < 3:
        raise AdvbenchError(
            f"{folder}: {len(sources)} different photographs in it (JPEG, PNG, WebP, TIFF or BMP); "
            "three splits need at least 3"
        )
    test, val = max(1, round(0.3 * len(sources))), max(1, round(0.1 * len(sources)))
    parts: dict[Split, list[Source]] = {
        "test": sources[:test],
        "val": sources[test : test + val],
        "train": sources[test + val :],
    }
    return Edition(
        dataset_id=name,
        version="1",
        title=f"forgeries made from {len(sources)} photographs",
        seed=seed,
        sizes={
            split: max(1, round(images * len(part) / len(sources))) for split, part in parts.items()
        },
        photographs=lambda split: parts[split],
        make=mixed.make_forgery,
        materials="made from the user's own photographs",
        known_issues=("synthetic forgeries: scores say nothing about real forgeries",),
        side=side,
    )


def _photographs_below(folder: Path, side: int) -> list[Source]:
    """Different photographs in order of the hash of their pixels, which is their group."""
    found: dict[str, Source] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _SUFFIXES or not path.is_file():
            continue
        pixels = decode_image(path).pixels
        if min(pixels.shape[:2]) < side:
            raise AdvbenchError(
                f"{path}: {pixels.shape[1]}×{pixels.shape[0]} pixels; a photograph needs {side} "
                "on its shorter side: take it out, or give a smaller --side"
            )
        digest = pixels_sha256(pixels)
        name = path.relative_to(folder).as_posix()
        found.setdefault(digest, PhotographFile(name, digest[:16], path))
    return [found[digest] for digest in sorted(found)]


@cache
def published_rows(dataset_id: str) -> dict[str, Row]:
    """The manifest of a set as published with this version, by sample id; empty where none is."""
    folder = resources.files("advbench.manifests") / "datasets" / dataset_id
    with resources.as_file(folder) as path:
        if not (path / "manifest.csv").is_file():
            return {}
        return {row.sample_id: row for row in read_manifest(path)[1]}
