"""Show a victim one image, so that whoever listens to its modules learns their shapes."""

from __future__ import annotations

import torch

from advbench.inference.numerics import deterministic_mode
from advbench.victims.base import Victim


def show_black_image(victim: Victim, side: int) -> None:
    """Run one pass in eval mode, which leaves the statistics of batch normalisations alone."""
    with deterministic_mode(victim.network), torch.no_grad():
        victim.logits(torch.zeros(1, 3, side, side, device=victim.device))
