"""Soft Dice, the overlap of a probability map and a mask, as losses and attacks use it."""

from __future__ import annotations

from torch import Tensor

SMALLEST = 1e-8  # of a denominator


def dice(
    probability: Tensor,
    masks: Tensor,
    *,
    squared: bool = True,
    smooth: float = 0.0,
    by_image: bool = True,
) -> Tensor:
    """Compute 2 Σ PM / (Σ P² + Σ M²), from 0 to 1.

    Args:
        probability, masks: N×1×H×W in [0, 1].
        squared: sum squares in the denominator (Milletari et al., 3DV 2016), else P and M.
        smooth: added to numerator and denominator.
        by_image: one coefficient an image, N; else one over the batch.
    """
    over = (1, 2, 3) if by_image else (0, 1, 2, 3)
    overlap = 2 * (probability * masks).sum(over)
    sizes = [(x**2 if squared else x).sum(over) for x in (probability, masks)]
    return (overlap + smooth) / (sizes[0] + sizes[1] + smooth).clamp_min(SMALLEST)
