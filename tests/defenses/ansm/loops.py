"""The losses written out as loops over Python numbers, which are float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, fsum, log

import numpy as np
import torch
from torch import Tensor


def ffa(clean: Sequence[Tensor], processed: Sequence[Tensor]) -> float:
    """Eqs. 7 to 13: channels, then layers, averaged; images of a batch as if one by one."""
    layers = []
    for q_maps, m_maps in zip(clean, processed, strict=True):
        channels = []
        for q_image, m_image in zip(q_maps.tolist(), m_maps.tolist(), strict=True):
            for q_map, m_map in zip(q_image, m_image, strict=True):
                q, m = over_positions(q_map), over_positions(m_map)
                terms = [b * log((b + 1e-8) / (a + 1e-8)) for a, b in zip(q, m, strict=True)]
                channels.append(fsum(terms) / len(terms))
        layers.append(fsum(channels) / len(channels))
    return fsum(layers) / len(layers)


def over_positions(rows: list[list[float]]) -> list[float]:
    """Eq. 9."""
    values = [value for row in rows for value in row]
    powers = [exp(value - max(values)) for value in values]
    return [power / fsum(powers) for power in powers]


def mask(logits: Tensor, masks: Tensor, weight: float) -> float:
    """Eqs. 14 to 17; all images of a size."""
    found = [
        weight * entropy(z, m) + (1 - weight) * dice([1 / (1 + exp(-x)) for x in z], m)
        for z, m in zip(logits.flatten(1).tolist(), masks.flatten(1).tolist(), strict=True)
    ]
    return fsum(found) / len(found)


def entropy(logits: list[float], truth: list[float]) -> float:
    """Binary cross-entropy of one image."""
    probabilities = [1 / (1 + exp(-z)) for z in logits]
    terms = [m * log(p) + (1 - m) * log(1 - p) for p, m in zip(probabilities, truth, strict=True)]
    return -fsum(terms) / len(terms)


def dice(probabilities: list[float], truth: list[float]) -> float:
    """One minus the coefficient of one image."""
    overlap = fsum(p * m for p, m in zip(probabilities, truth, strict=True))
    return 1 - 2 * overlap / (fsum(p * p for p in probabilities) + fsum(m * m for m in truth))


def slopes(function: Callable[[Tensor], float], at: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences in float64, one for each number of ``at``."""
    point = at.detach().double()
    found = np.zeros(point.numel())
    for number in range(point.numel()):
        beside = [point.clone(), point.clone()]
        for sign, moved in zip((1, -1), beside, strict=True):
            moved.view(-1)[number] += sign * step
        found[number] = (function(beside[0]) - function(beside[1])) / (2 * step)
    return torch.from_numpy(found).view(at.shape)
