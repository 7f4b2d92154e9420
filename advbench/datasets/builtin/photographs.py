"""The real photographs that ship inside the wheels of scikit-image, scikit-learn and matplotlib.

They are split by photograph, never by crop, so that nothing of the test split was seen in training.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image as PillowImage

from advbench.datasets.builtin.qt_resources import read_resource
from advbench.datasets.decoding import decode_image
from advbench.datasets.manifest import Split
from advbench.errors import AdvbenchError
from advbench.files import file_sha256
from advbench.images import Image


class Source(Protocol):
    """A photograph that forgeries are made from; those of one scene share a ``group``."""

    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str: ...
    def load(self) -> Image: ...


@dataclass(frozen=True)
class Photograph:
    """A photograph inside an installed package.

    ``group`` is shared by views of one scene; ``sha256`` holds the file's first 16 hex digits.
    """

    name: str
    split: Split
    package: str
    path: str
    sha256: str
    licence: str
    group: str

    def load(self) -> Image:
        """RGB uint8 H×W×3.

        Raises:
            AdvbenchError: the package is missing or ships another file under that name.
        """
        path = _package_folder(self.package) / self.path
        if not path.is_file():
            raise AdvbenchError(
                f"{path}: photograph {self.name} is missing; reinstall {self.package}"
            )
        if not file_sha256(path).startswith(self.sha256):
            raise AdvbenchError(
                f"{path}: not the photograph that the built-in dataset is made from; "
                f"install a release of {self.package} within the range of advbench's metadata"
            )
        return _decode(path)


@dataclass(frozen=True)
class PhotographFile:
    """A photograph in a file of the user's; ``sha256`` is checked unless it is empty.

    Where ``inside`` is given, ``path`` is a compiled Qt resource that holds the photograph under
    that name.
    """

    name: str
    group: str
    path: Path
    sha256: str = ""
    inside: str = ""

    def load(self) -> Image:
        """Return RGB uint8 H×W×3.

        Raises:
            AdvbenchError: the file is missing, is another one, or cannot be decoded.
        """
        if not self.path.is_file():
            raise AdvbenchError(f"{self.path}: photograph {self.name} is missing")
        return _checked(self.path, self.sha256, self.inside)


_CACHE_BYTES = 1 << 30
_cached: dict[tuple[Path, str, str], Image] = {}


def _checked(path: Path, sha256: str, inside: str) -> Image:
    """Decode a file of that sum; a gigabyte of decoded photographs is kept."""
    key = path, sha256, inside
    if key in _cached:
        return _cached[key]
    content = read_resource(path, inside) if inside else b""
    found = hashlib.sha256(content).hexdigest() if inside else file_sha256(path)
    if sha256 and found != sha256:
        raise AdvbenchError(
            f"{path}: not the photograph that manifests/photographs.csv lists; take the packages' "
            "versions of Debian 12"
        )
    if inside:
        with PillowImage.open(BytesIO(content)) as source:
            pixels = np.asarray(source.convert("RGB"), dtype=np.uint8)
    else:
        pixels = decode_image(path).pixels
    pixels = np.ascontiguousarray(pixels)
    pixels.flags.writeable = False
    if sum(image.nbytes for image in _cached.values()) + pixels.nbytes <= _CACHE_BYTES:
        _cached[key] = pixels
    return pixels


@cache
def _decode(path: Path) -> Image:
    pixels = decode_image(path).pixels
    pixels.flags.writeable = False
    return np.ascontiguousarray(pixels)


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise AdvbenchError(f"package {package} is not installed; pip install advbench brings it")
    return Path(spec.origin).parent


def _skimage(name: str, split: Split, sha256: str, licence: str, *, group: str = "") -> Photograph:
    stem = name.partition(".")[0]
    return Photograph(stem, split, "skimage", f"data/{name}", sha256, licence, group or stem)


_CC0 = "CC0"
_PD = "public domain"
_CC_BY = "CC BY 2.0 (scikit-learn, sklearn/datasets/images/README.txt)"
_FREE = "no known restrictions (scikit-image)"
_UNSTATED = "not stated (scikit-image)"

PHOTOGRAPHS = (
    _skimage("astronaut.png", "train", "88431cd9653ccd53", _PD),
    _skimage("coffee.png", "train", "cc02f8ca188b167c", _CC0),
    _skimage("motorcycle_left.png", "train", "db18e9c415761740", _UNSTATED, group="motorcycle"),
    _skimage("motorcycle_right.png", "train", "5fc913ae870e42a4", _UNSTATED, group="motorcycle"),
    _skimage("rocket.jpg", "train", "c2dd0de7c538df8d", _PD),
    _skimage("retina.jpg", "train", "38a07f36f27f095e", _CC0),
    _skimage("brick.png", "train", "7966caf324f6ba84", _CC0),
    _skimage("grass.png", "train", "b6b6022426b38936", _CC0),
    _skimage("ihc.png", "train", "f8dd1aa387ddd1f4", _FREE),
    Photograph(
        "grace_hopper",
        "val",
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        "a8ca6d734765703b",
        _PD,
        "grace_hopper",
    ),
    _skimage("moon.png", "val", "78739619d11f7eb9", _UNSTATED),
    _skimage("clock_motion.png", "val", "f029226b28b642e8", _PD),
    _skimage("chelsea.png", "test", "596aa1e7cb875eb7", _CC0),
    Photograph(
        "china", "test", "sklearn", "datasets/images/china.jpg", "8378025ad2519d64", _CC_BY, "china"
    ),
    Photograph(
        "flower",
        "test",
        "sklearn",
        "datasets/images/flower.jpg",
        "a77f6ec41e353afd",
        _CC_BY,
        "flower",
    ),
    _skimage("camera.png", "test", "b0793d2adda0fa6a", _CC0),
    _skimage("gravel.png", "test", "c48615b451bf1e60", _CC0),
    _skimage("coins.png", "test", "f8d773fc9cfa6f4d", _FREE),
    _skimage("hubble_deep_field.jpg", "test", "3a19c5dd8a927a93", _PD),
)


def photographs_of(split: Split) -> list[Photograph]:
    """The photographs that the images of ``split`` are made from."""
    return [photograph for photograph in PHOTOGRAPHS if photograph.split == split]
