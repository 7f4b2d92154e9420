"""Mean pixel F1 on validation images, shared out among processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from advbench.engines.processes import Processes
from advbench.images import Mask, to_tensor, to_unit
from advbench.training.data import Examples
from advbench.victims.base import Victim


def own_part(
    examples: Examples, processes: Processes, device: torch.device
) -> Iterator[tuple[Tensor, Mask]]:
    """Yield this process' images, float [0, 1] 1×C×H×W, and their masks."""
    for number in range(processes.rank, len(examples.names), processes.count):
        pixels, truth = examples.load(number)
        yield to_unit(to_tensor(pixels).to(device)), truth


def pixel_f1(victim: Victim, image: Tensor, truth: Mask) -> float:
    """F1 of the victim's map of one image 1×3×H×W at its threshold; 0 where nothing is forged."""
    forged = victim.probabilities(image)[0, 0].cpu().numpy() > victim.threshold
    return float(2 * (forged & truth).sum() / max(forged.sum() + truth.sum(), 1))


def mean_over_all(
    scores: Sequence[float], examples: Examples, processes: Processes, device: torch.device
) -> float:
    """The mean over all images, of which this process scored its own; perhaps none."""
    total = torch.tensor(sum(scores, 0.0), device=device, dtype=torch.float64)
    return float(processes.total(total)) / len(examples.names)
