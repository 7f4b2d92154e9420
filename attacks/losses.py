"""Objectives that attacks on localizers maximise: one value an image, summed over nothing else.

y is 1 where a pixel is forged, z its logit, p = σ(z), and q the probability of its true label: p or
1 − p. All are computed from logits in float32 or wider, because a float32 sigmoid is exactly 1 from
17 on and its gradient exactly 0. Weights of pixels are constants: no gradient flows through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossName = Literal["bce", "balanced", "dice", "segpgd", "cospgd", "js", "margin"]

# logits, masks (both N×1×H×W), the logit of the victim's threshold, progress in [0, 1] → N values.
Loss = Callable[[Tensor, Tensor, float, float], Tensor]

MARGIN = 1.0  # logits beyond the threshold at which a wrong pixel stops counting for ``margin``


def localization_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Compute J of eq. 3 of the ANSM paper: binary cross-entropy, the mean over an image's pixels.

    A mean per image, because the gradient of an image must not depend on its batch-mates.

    Args:
        logits, y: N×1×H×W.

    Returns:
        N values.
    """
    return _cross_entropy(logits, y).mean((1, 2, 3))


def bce(logits: Tensor, y: Tensor, threshold: float, progress: float) -> Tensor:
    """Mean cross-entropy, as :func:`localization_loss`."""
    return localization_loss(logits, y)


def balanced(logits: Tensor, y: Tensor, threshold: float, progress: float) -> Tensor:
    """Mean of the forged pixels' and of the authentic pixels' mean cross-entropy.

    A forgery of a few pixels counts as much as all the rest; an image of one class has that one's.
    """
    losses = _cross_entropy(logits, y)
    forged, authentic = _mean_over(losses, y), _mean_over(losses, 1 - y)
    classes = (y.amax((1, 2, 3)) > 0).to(losses) + (y.amin((1, 2, 3)) < 1).to(losses)
    return (forged + authentic) / classes


def dice(logits: Tensor, y: Tensor, threshold: float, progress: float) -> Tensor:
    """1 − soft F1 of the forged pixels, soft F1 = 2 Σ p·y / (Σ p² + Σ y²).

    An image with nothing forged has the soft F1 of its authentic pixels: its own is 0 anyway.
    """
    forged = y.amax((1, 2, 3), keepdim=True) > 0
    truth = _wide(torch.where(forged, y, 1 - y))
    p = torch.sigmoid(_wide(torch.where(forged, logits, -logits)))
    overlap = (p * truth).sum((1, 2, 3))
    return 1 - 2 * overlap / (p.square() + truth.square()).sum((1, 2, 3))


def segpgd(logits: Tensor, y: Tensor, threshold: float, progress: float) -> Tensor:
    """Cross-entropy of pixels that are right, weighted 1 − λ, and of wrong ones, weighted λ, with
    λ = progress / 2 (Gu et al., "SegPGD", ECCV 2022)."""
    right = (logits.detach() > threshold) == (y > 0.5)
    losses = _cross_entropy(logits, y)
    weight = progress / 2 + right.to(losses) * (1 - progress)
    return (weight * losses).mean((1, 2, 3))


def cospgd(logits: Tensor, y: Tensor, threshold: float, progress: float) -> Tensor:
    """Cross-entropy weighted by the cosine of the prediction (1 − p, p) and the one-hot label
    (Agnihotri et al., "CosPGD", ICML 2024)."""
    q = torch.sigmoid(_signed(logits, y).detach())
    weight = q / (q.square() + (1 - q).square()).sqrt()
    return (weight * _cross_entropy(logits, y)).mean((1, 2, 3))


def js(logits: Tensor, y: Tensor, threshold: float, progress: float) -> Tensor:
    """Jensen-Shannon divergence of prediction and label, at most ln 2, so that wrong pixels stop
    dominating (Croce, Singh, Hein, "Towards Reliable Evaluation ... Segmentation", ECCV 2024)."""
    signed = _signed(logits, y)
    q, log_q = torch.sigmoid(signed), F.logsigmoid(signed)
    log_mixed = torch.log1p(q)  # of 2·m, m the mixture's share of the true label
    divergence = 0.5 * (
        q * (math.log(2) + log_q - log_mixed) + (1 - q) * math.log(2) + math.log(2) - log_mixed
    )
    return divergence.mean((1, 2, 3))


def margin(logits: Tensor, y: Tensor, threshold: float, progress: float) -> Tensor:
    """Measure how far pixels are on the wrong side of the victim's threshold, in logits, up to 1
    each."""
    wrong_by = -_signed(_wide(logits) - threshold, y)
    return wrong_by.clamp_max(MARGIN).mean((1, 2, 3))


LOSSES: dict[LossName, Loss] = {
    "bce": bce,
    "balanced": balanced,
    "dice": dice,
    "segpgd": segpgd,
    "cospgd": cospgd,
    "js": js,
    "margin": margin,
}


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(_wide(logits), _wide(y), reduction="none")


def _signed(logits: Tensor, y: Tensor) -> Tensor:
    """Logits of the true label."""
    return (2 * y - 1) * _wide(logits)


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen pixels of each image; 0 where there are none."""
    return (values * chosen).sum((1, 2, 3)) / chosen.sum((1, 2, 3)).clamp_min(1)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
