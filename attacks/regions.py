"""Parts of an image that an attack may change, by the ground truth."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Region = Literal["whole", "forged", "authentic", "seam"]

SEAM = 32  # the band reaches 1/32 of the longer side to each side of the seam


def region_mask(region: Region, y: Tensor) -> Tensor | None:
    """Find where an image may change.

    ``forged`` is the paste, which is all that a careful forger touches; ``seam`` a band around its
    border. An authentic image has neither, and stays as it is under them.

    Args:
        y: float N×1×H×W, 1 = forged.

    Returns:
        bool N×1×H×W; None for the whole image.
    """
    if region == "whole":
        return None
    if region == "forged":
        return y > 0.5
    if region == "authentic":
        return y <= 0.5
    reach = max(1, max(y.shape[2:]) // SEAM)
    return (_spread(y, reach) + _spread(1 - y, reach)) > 1.5


def _spread(y: Tensor, reach: int) -> Tensor:
    """Grow what is 1 by so many pixels in each direction."""
    return F.max_pool2d(y, 2 * reach + 1, stride=1, padding=reach)
