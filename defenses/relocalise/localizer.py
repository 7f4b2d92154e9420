"""The second localizer, whose map is drawn for the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from advbench.errors import AdvbenchError
from advbench.registry import VICTIMS
from advbench.victims.base import Victim


def described(localizer: Victim) -> dict[str, str]:
    """Name a localizer for a card; :func:`read_localizer` loads it again."""
    sha256 = localizer.weights.sha256
    return {"name": localizer.name, "size": localizer.size, "weights_sha256": sha256}


def read_localizer(card: Mapping[str, Any]) -> Victim:
    """Load the localizer that a card names, with the shipped weights of that sum.

    Raises:
        AdvbenchError: the card names none, or no such weights are shipped.
    """
    named = card.get("localizer")
    if not isinstance(named, dict) or not {"name", "size", "weights_sha256"} <= named.keys():
        raise AdvbenchError("its card, the JSON file beside it, names no localizer")
    name, size, sha256 = (str(named[key]) for key in ("name", "size", "weights_sha256"))
    found: Victim = VICTIMS.get(name).load(size=size)
    if found.weights.sha256 != sha256:
        raise AdvbenchError(f"{name} ({size}): advbench ships no weights {sha256[:12]}")
    return found


def localised(localizer: Victim, images: Tensor) -> Tensor:
    """Images N×3×H×W in [0, 1] of any size → the localizer's probabilities N×1×H×W."""
    side, size = localizer.working_side, images.shape[2:]
    if side is None or size == (side, side):
        return localizer.probabilities(images)
    smooth = localizer.resampling == "antialias"
    fitted = F.interpolate(images, (side, side), mode="bilinear", antialias=smooth)
    return F.interpolate(localizer.probabilities(fitted.clamp(0, 1)), size, mode="bilinear")
