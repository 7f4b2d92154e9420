"""Show a victim one image, so that whoever listens to its modules learns their shapes."""

from __future__ import annotations

import torch

from advbench.victims.base import Victim


@torch.no_grad()
def show_black_image(victim: Victim, side: int) -> None:
    """Run one pass in eval mode, which leaves the statistics of batch normalisations alone; modules
    that train do so again afterwards."""
    network = victim.network
    training = [module for module in network.modules() if module.training]
    network.eval()
    victim.logits(torch.zeros(1, 3, side, side, device=victim.device))
    for module in training:
        module.training = True
