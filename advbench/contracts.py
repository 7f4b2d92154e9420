"""Check what plug-ins return where it enters: shape, type, range, finite values, inputs left alone.

Each error names the plug-in and the rule that it breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advbench.errors import AdvbenchError


def check_shape(what: str, found: Any, shape: tuple[int, ...], rule: str) -> None:
    """Refuse anything but a tensor of floats of one shape.

    Args:
        what: as in ``victim code: logits``.
        rule: as in ``floats N×1×H×W``.

    Raises:
        AdvbenchError: it is something else.
    """
    if isinstance(found, Tensor) and found.is_floating_point() and found.shape == shape:
        return
    is_ = (
        f"{str(found.dtype).removeprefix('torch.')} {'×'.join(map(str, found.shape))}"
        if isinstance(found, Tensor)
        else f"of type {type(found).__name__}"
    )
    wanted = "×".join(map(str, shape))
    raise AdvbenchError(f"{what}: must be {rule}, here {wanted}; they are {is_}")


def check_logits(victim: str, images: Tensor, logits: Any) -> None:
    """Refuse logits that are not floats N×1×H×W, which would spread over each other."""
    shape = (len(images), 1, *images.shape[2:])
    check_shape(f"victim {victim}: logits", logits, shape, "floats N×1×H×W")


def check_finite(what: str, found: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        AdvbenchError: there is some.
    """
    bad = found.numel() - int(found.isfinite().sum())
    if bad:
        raise AdvbenchError(f"{what}: {bad} of {found.numel()} values are NaN or infinite")


def check_given(what: str, images: Any) -> None:
    """Refuse what a caller gives in place of images: anything but floats N×3×H×W.

    Args:
        what: as in ``victim code``.

    Raises:
        AdvbenchError: they are something else.
    """
    if not isinstance(images, Tensor):
        is_ = type(images).__name__
    elif not images.is_floating_point() or images.ndim != 4 or images.shape[1] != 3:
        is_ = f"{str(images.dtype).removeprefix('torch.')} {'×'.join(map(str, images.shape))}"
    else:
        return
    raise AdvbenchError(
        f"{what}: images must be float in [0, 1], a torch tensor N×3×H×W; they are {is_}"
    )


def check_images(what: str, found: Any, like: Tensor) -> None:
    """Refuse images that are not floats in [0, 1] of the shape of ``like``, a rounding error aside.

    Where ``like`` itself holds NaN, or leaves [0, 1], so may they.

    Raises:
        AdvbenchError: they are something else.
    """
    check_shape(what, found, tuple(like.shape), "floats N×3×H×W as they came")
    if not (found.isfinite().all() or like.isfinite().all()):
        return
    check_finite(what, found)
    if _leave_range(found) and not _leave_range(like):
        low, high = (float(value) for value in torch.aminmax(found.detach()))
        raise AdvbenchError(f"{what}: must lie in [0, 1]; they reach from {low:g} to {high:g}")


def check_pixels(what: str, found: Any, like: Tensor) -> None:
    """Refuse anything but a uint8 H×W×3 array of the size of ``like``, 3×H×W.

    Args:
        what: as in ``defense jpeg-75: filter``.

    Raises:
        AdvbenchError: it is something else.
    """
    _, height, width = like.shape
    if not isinstance(found, np.ndarray):
        is_ = f"type {type(found).__name__}"
    elif found.dtype != np.uint8 or found.shape != (height, width, 3):
        is_ = f"{found.dtype} {'×'.join(map(str, found.shape))}"
    else:
        return
    raise AdvbenchError(
        f"{what} must return uint8 H×W×3, grey levels 0 to 255 of an image of the same size, here "
        f"{height}×{width}×3; it returned {is_}"
    )


def check_named(kind: str, plugin: type) -> None:
    """Refuse a class of plug-ins without a name of its own.

    Args:
        kind: as in ``defense``.

    Raises:
        AdvbenchError: it has none, or a field of each object in its place.
    """
    if not isinstance(getattr(plugin, "name", None), str):
        raise AdvbenchError(
            f"{kind} class {plugin.__name__} has no name; give it one: "
            f'name: ClassVar[str] = "{plugin.__name__.lower()}"'
        )


def _leave_range(images: Tensor) -> bool:
    low, high = torch.aminmax(images.detach())
    return bool(low < -1e-4 or high > 1 + 1e-4)


@contextmanager
def unchanged(what: str, images: Tensor) -> Iterator[None]:
    """Refuse that ``images`` are changed in place, which would change what comes after.

    Raises:
        AdvbenchError: they were.
    """
    tracked = not images.is_inference()  # such tensors do not count their changes
    before = images._version if tracked else 0
    yield
    if tracked and images._version != before:
        raise AdvbenchError(f"{what} changes its images in place; it must work on a copy")
