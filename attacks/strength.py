"""Measure how much an adversarial image does, and the strongest of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from advbench.attacks.batch import Adversarial
from advbench.attacks.gradient import logit
from advbench.attacks.losses import localization_loss
from advbench.images import quantise
from advbench.inference.runner import BatchRunner
from advbench.scores.counts import Counts, f1, marked, mcc
from advbench.victims.base import Victim


def damage(logits: Tensor, y: Tensor, threshold: float) -> Tensor:
    """Measure what is left of a localization, at the victim's threshold; larger is worse.

    −(F1 + MCC), the two scores of the tables; for an authentic image the share that is marked; for
    one that is forged all over, −F1.

    Args:
        logits, y: N×1×H×W.
        threshold: as a probability.

    Returns:
        N values in float64.
    """
    counts = counted(logits, y, threshold)
    scores = f1(counts) + np.nan_to_num(mcc(counts))
    return torch.from_numpy(np.where(np.isnan(scores), marked(counts), -scores))


def counted(logits: Tensor, y: Tensor, threshold: float) -> Counts:
    """Count the pixels of N×1×H×W maps and masks as :func:`damage` takes them; N float64 each."""
    found, truth = (logits > logit(threshold)).flatten(1), (y > 0.5).flatten(1)
    pairs = ((found, truth), (found, ~truth), (~found, truth), (~found, ~truth))
    return Counts(*((a & b).sum(1).double().cpu().numpy() for a, b in pairs))


def measured(
    victim: Victim,
    x: Tensor,
    y: Tensor,
    floats: Sequence[Tensor],
    *,
    budget: int | None,
    keys: Sequence[tuple[object, ...]],
    runner: BatchRunner,
) -> list[tuple[float, float]]:
    """Measure images as they will be stored: damage, and mean cross-entropy, each as the mean over
    the victim's random draws."""
    originals = x.mul(255).round().byte()

    @torch.no_grad()
    def measure(index: Sequence[int]) -> list[tuple[float, float]]:
        some = list(index)
        stored = torch.stack([floats[i] for i in some])
        images = quantise(stored, originals[some], budget).to(x) / 255
        damages = torch.zeros(len(some), dtype=torch.float64)
        losses = torch.zeros(len(some), dtype=torch.float64)
        for draw in range(victim.draws):
            drawn = [(*keys[i], "measure", draw) for i in some]
            logits = victim.logits_for(images, drawn)
            damages += damage(logits, y[some], victim.threshold)
            losses += localization_loss(logits, y[some]).double().cpu()
        pairs = torch.stack([damages, losses], 1) / victim.draws
        return [(hurt, loss) for hurt, loss in pairs.tolist()]

    return runner.map(range(len(x)), measure)


def strongest_of(
    candidates: Sequence[list[Adversarial]],
    victim: Victim,
    x: Tensor,
    y: Tensor,
    *,
    budget: int | None,
    keys: Sequence[tuple[object, ...]],
    runner: BatchRunner,
) -> list[Adversarial]:
    """Keep for each image the candidate of the most damage, of equals that of the largest
    cross-entropy.

    Args:
        candidates: lists of one :class:`Adversarial` an image.
        keys: stream keys of the images, for a victim behind a random defense.
    """
    if len(candidates) == 1:
        return candidates[0]
    values = []
    for candidate in candidates:
        floats = [one.float_image for one in candidate]
        values.append(measured(victim, x, y, floats, budget=budget, keys=keys, runner=runner))
    best = [max(range(len(values)), key=lambda k: values[k][i]) for i in range(len(x))]
    return [candidates[k][i] for i, k in enumerate(best)]
