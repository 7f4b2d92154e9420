"""Mean pixel F1 on validation images, shared out among processes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from advbench.engines.processes import Processes
from advbench.images import Mask, to_tensor, to_unit
from advbench.scores.protocols import protocol
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
    """Score the victim's map of one image 1×3×H×W under f1/v1; 0 where nothing is forged."""
    probability = victim.probabilities(image)[0, 0].float().cpu().numpy()
    score = protocol("f1/v1").f1_of_map(probability, truth, victim.threshold)
    return 0.0 if math.isnan(score) else score


def mean_over_all(
    scores: Sequence[float], examples: Examples, processes: Processes, device: torch.device
) -> float:
    """The mean over all images, of which this process scored its own; perhaps none."""
    total = torch.tensor(sum(scores, 0.0), device=device, dtype=torch.float64)
    return float(processes.total(total)) / len(examples.names)
