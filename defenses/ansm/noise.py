"""Adversarial noise that is made while ANSM trains, anew for each crop.

Algorithm 1 of the paper trains on stored FGSM images of one intensity. Noise made on the fly never
repeats; ``varied`` widens what FGSM gives without another attack, ``several`` adds iterated ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from advbench.victims.base import Victim

Noise = Literal["stored", "fgsm", "varied", "several"]

# Of an image under varied noise: the probability of the full intensity (else a lower one), of
# starting away from the image, of random magnitudes, of flipped signs and of a patch alone.
FULL, AWAY, MAGNITUDES, FLIPPED, PATCH = 0.6, 0.3, 0.3, 0.25, 0.15
MOST_FLIPPED = 0.3
# Of a batch under several attacks: the probability of an iterated one, its numbers of steps, and
# the probability that it has momentum.
ITERATED, STEPS, MOMENTUM = 0.6, (2, 3, 5), 0.3


def add_noise(
    noise: Noise, victim: Victim, images: Tensor, masks: Tensor, *, levels: int
) -> Tensor:
    """Attack a batch; draws from torch's default generator.

    Args:
        images: float N×3×H×W in [0, 1], on the grid of 256 levels.
        masks: float N×1×H×W, 1 = forged: the attack lowers the agreement with these.
        levels: φ in grey levels.

    Returns:
        adversarial images of the same shape, on the grid, within ``levels`` of the images.
    """
    gradient = _gradient(victim, masks)
    if noise == "fgsm":
        change = levels * gradient(images).sign()
    elif noise == "several" and torch.rand(()) < ITERATED:
        change = _iterated(gradient, images, levels)
    else:
        change = _varied(gradient, images, levels)
    return ((images * 255).round() + change.round()).clamp(0, 255) / 255


def _gradient(victim: Victim, masks: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the gradient of the binary cross-entropy, by the image that it is taken at."""

    def gradient(images: Tensor) -> Tensor:
        at = images.detach().requires_grad_()
        loss = F.binary_cross_entropy_with_logits(victim.logits(at).float(), masks)
        return torch.autograd.grad(loss, at)[0]

    return gradient


def _varied(gradient: Callable[[Tensor], Tensor], images: Tensor, levels: int) -> Tensor:
    """FGSM's noise of several intensities, some of it from another start, partly flipped, of random
    magnitudes, or on a patch; in grey levels."""
    bound = _intensities(images, levels)
    away = _chosen(images, AWAY) * bound * (2 * torch.rand_like(images) - 1)
    signs = gradient((images + away / 255).clamp(0, 1)).sign()
    share = MOST_FLIPPED * torch.rand_like(bound) * _chosen(images, FLIPPED)
    signs = torch.where(torch.rand_like(images) < share, -signs, signs)
    magnitude = torch.where(_chosen(images, MAGNITUDES), torch.rand_like(images), 1.0)
    change = (away + bound * magnitude * signs).clamp(-bound, bound)
    return change * _patches(images)


def _iterated(gradient: Callable[[Tensor], Tensor], images: Tensor, levels: int) -> Tensor:
    """Noise of BIM, of PGD (a random start) or of MI-FGSM (momentum), in few steps."""
    bound = _intensities(images, levels)
    steps = STEPS[int(torch.randint(len(STEPS), ()))]
    decay = float(torch.rand(()) < MOMENTUM)
    change = _chosen(images, 0.5) * bound * (2 * torch.rand_like(images) - 1)
    velocity = torch.zeros_like(images)
    for _ in range(steps):
        slope = gradient((images + change / 255).clamp(0, 1))
        size = slope.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-30)
        velocity = decay * velocity + slope / size
        change = (change + 1.5 * bound / steps * velocity.sign()).clamp(-bound, bound)
    return change


def _intensities(images: Tensor, levels: int) -> Tensor:
    """N×1×1×1: the full intensity, or a whole number of levels below it."""
    lower = torch.randint(1, max(levels, 2), (len(images), 1, 1, 1), device=images.device)
    return torch.where(_chosen(images, FULL), levels, lower).float()


def _chosen(images: Tensor, probability: float) -> Tensor:
    """N×1×1×1: whether an image is one of those."""
    return torch.rand(len(images), 1, 1, 1, device=images.device) < probability


def _patches(images: Tensor) -> Tensor:
    """N×1×H×W in {0, 1}: everywhere, or in a rectangle of half the sides at a random place."""
    height, width = images.shape[2:]
    top, left = (torch.rand(len(images), 1, 1, 1, device=images.device) / 2 for _ in range(2))
    y = torch.linspace(0, 1, height, device=images.device).view(1, 1, -1, 1)
    x = torch.linspace(0, 1, width, device=images.device).view(1, 1, 1, -1)
    inside = (y >= top) & (y <= top + 0.5) & (x >= left) & (x <= left + 0.5)
    return (inside | ~_chosen(images, PATCH)).float()
