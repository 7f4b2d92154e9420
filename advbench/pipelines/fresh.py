"""Training data that is made on the fly: forgeries of version 2, anew for each epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from advbench.codec import through_jpeg
from advbench.datasets.builtin.build import make_image, planned
from advbench.datasets.builtin.editions import open_edition
from advbench.datasets.builtin.forgeries import KINDS
from advbench.datasets.builtin.listed import listed_photographs
from advbench.datasets.builtin.mixed import make_forgery
from advbench.datasets.builtin.photographs import PHOTOGRAPHS, Source, photographs_of
from advbench.datasets.builtin.processing import noisy, rescaled
from advbench.datasets.manifest import Kind
from advbench.images import Image, Mask
from advbench.rng import numpy_stream
from advbench.training.data import Examples, FreshExamples, joined

SIDE = 256
# Of five images one is authentic.
_KINDS: tuple[Kind, ...] = (*KINDS, "none")


def fresh_forgeries(count: int, root: Path | None, seed: int) -> FreshExamples:
    """Make ``count`` images anew for each epoch, a fifth of them authentic.

    Args:
        root: where the packages of ``manifests/photographs.csv`` lie; without them the photographs
            are those of the built-in dataset's training split alone.
    """
    photographs: list[Source] = [*photographs_of("train")]
    if root:
        photographs += listed_photographs(root, "train")

    def of_epoch(number: int) -> Examples:
        names = [f"fresh/{number}/{index}" for index in range(count)]

        def load(index: int) -> tuple[Image, Mask]:
            kind = _KINDS[index % len(_KINDS)]
            rng = numpy_stream("fresh", seed, names[index])
            forgery = make_forgery(kind, photographs, SIDE, rng)
            return forgery.image, forgery.mask

        return Examples(names, load)

    return FreshExamples(count, of_epoch)


def open_validation(root: Path, *, forged: bool = True) -> Examples:
    """The forged or the authentic images of the validation split of ``open``, made in memory."""
    edition = open_edition(root)
    plan = [(name, kind) for name, kind in planned(edition, "val") if (kind != "none") == forged]

    def load(index: int) -> tuple[Image, Mask]:
        name, kind = plan[index]
        forgery, _, _, pixels = make_image(edition, "val", name, kind)
        return pixels, forgery.mask

    return Examples([f"{edition.dataset_id}/{name}" for name, _ in plan], load)


def processed_in_turn(*parts: Examples) -> Examples:
    """All images of ``parts``, a third as they are, the others through JPEG 70, resizing to 70 %
    and back, a median filter or noise of 5 levels in turn: what a robust victim is chosen by."""
    every = joined(*parts)

    def load(number: int) -> tuple[Image, Mask]:
        image, mask = every.load(number)
        # Kinds of forgery follow each other in fours.
        step = _IN_TURN[number // len(KINDS) % len(_IN_TURN)]
        return step(image, every.names[number]), mask

    return Examples(every.names, load)


def photographs_sha256(root: Path | None) -> str:
    """Hash what the training images are made from."""
    sums: Sequence[str] = [photograph.sha256 for photograph in PHOTOGRAPHS]
    listed = [one.sha256 for one in listed_photographs(root, "train")] if root else []
    return hashlib.sha256("\n".join([*sums, *listed]).encode()).hexdigest()


_IN_TURN: tuple[Callable[[Image, str], Image], ...] = (
    lambda image, name: image,
    lambda image, name: image,
    lambda image, name: through_jpeg(image, 70),
    lambda image, name: rescaled(image, 70),
    lambda image, name: np.asarray(cv2.medianBlur(image, 3), dtype=np.uint8),
    lambda image, name: noisy(image, 50, numpy_stream("validation noise", name)),
)
