"""Maps of images that nobody has a mask of: probability, overlay and mask as PNG files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from advbench.codec import encode_png
from advbench.datasets.decoding import decode_image
from advbench.errors import AdvbenchError
from advbench.exports.pictures import mask_png
from advbench.files import write_atomically
from advbench.images import Image, to_tensor, to_unit
from advbench.inference.numerics import deterministic_mode
from advbench.pipelines.cells import Cell
from advbench.pipelines.scoring import predict
from advbench.pipelines.sizes import check_forward
from advbench.victims.base import Victim

_OPACITY = 0.6
_RED = np.array([255, 0, 0], np.float32)


@dataclass(frozen=True)
class Prediction:
    """Hold what was found in one image, and the files that show it.

    Attributes:
        marked: share of pixels in the mask.
        highest: the highest probability.
        seconds: decoding and writing included.
    """

    image: str
    map: str
    overlay: str
    mask: str
    marked: float
    highest: float
    seconds: float


def predict_files(
    paths: Sequence[Path], victim: Victim, cell: Cell, to: Path, *, seed: int = 0
) -> Iterator[Prediction]:
    """Write ``NAME-map.png``, ``NAME-overlay.png`` and ``NAME-mask.png`` of each image.

    Maps are brought to the image's own size bilinearly, as for scores; the mask is where they are
    above the victim's threshold.

    Raises:
        AdvbenchError: an image cannot be decoded, memory cannot hold a pass of it, two have one
            name, or the victim or the defense breaks a rule; what was written stays.
    """
    names = [path.stem for path in paths]
    for name, path in zip(names, paths, strict=True):
        if names.count(name) > 1:
            raise AdvbenchError(f"{path}: another image is called {name}; give them one by one")
    checked = 0
    with deterministic_mode(victim.network):
        for name, path in zip(names, paths, strict=True):
            started = time.perf_counter()
            image = decode_image(path).pixels
            if image.size > checked:
                check_forward(victim, {str(path): image.shape[:2]}, [cell], alone=True)
                checked = image.size
            x = to_unit(to_tensor(victim.fit(image)).to(victim.device))
            found = _to_size(predict(victim, cell, x, name, seed=seed), image)
            mask = found > victim.threshold
            shown = {
                "map": encode_png(np.round(255 * found).astype(np.uint8)),
                "overlay": encode_png(_overlay(image, found)),
                "mask": mask_png(mask),
            }
            files = {what: to / f"{name}-{what}.png" for what in shown}
            for what, data in shown.items():
                write_atomically(files[what], data)
            yield Prediction(
                str(path),
                **{what: str(file) for what, file in files.items()},
                marked=float(mask.mean()),
                highest=float(found.max()),
                seconds=round(time.perf_counter() - started, 3),
            )


def _to_size(found: npt.NDArray[np.float32], image: Image) -> npt.NDArray[np.float32]:
    height, width = image.shape[:2]
    resized = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32).clip(0, 1)


def _overlay(image: Image, found: npt.NDArray[np.float32]) -> Image:
    """Red over the image, as opaque as the probability is high."""
    opacity = _OPACITY * found[..., None]
    return np.round((1 - opacity) * image + opacity * _RED).astype(np.uint8)
