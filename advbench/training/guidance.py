"""Noise guidance: an auxiliary task that shows a young network where the traces are.

A forgery's traces are differences of noise level, spread over decades under much stronger content;
from the localization loss alone a small network takes hours to find them. A throw-away 1×1 head
on its first feature map predicts the logarithm of the local residual energy, which the input
itself determines. The head is dropped after training, and the network's layout is untouched.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.training.taps import show_black_image
from advbench.victims.base import Victim

WINDOWS = (5, 9)
# The 3×3 residual kernel of the spatial rich model.
_KERNEL = ((-0.25, 0.5, -0.25), (0.5, -1.0, 0.5), (-0.25, 0.5, -0.25))


def noise_energy(images: Tensor) -> Tensor:
    """log(mean |residual| + 0.3) in grey levels, per channel and window: N×6×H×W."""
    kernel = torch.tensor(_KERNEL, device=images.device).expand(3, 1, 3, 3)
    residual = F.conv2d(images * 255, kernel, padding=1, groups=3).abs()
    means = [F.avg_pool2d(residual, w, 1, w // 2, count_include_pad=False) for w in WINDOWS]
    return torch.log(torch.cat(means, 1) + 0.3)


class NoiseGuidance(nn.Module):
    """The head, listening to a module of a victim: the first shallow tap, or the one named."""

    def __init__(self, victim: Victim, crop: int, module: str | None = None) -> None:
        super().__init__()
        listened = (
            victim.network.get_submodule(module)
            if module
            else next(iter(victim.taps("shallow").values()))
        )
        listened.register_forward_hook(self._keep)
        show_black_image(victim, crop)
        self._features: Tensor
        self.head = nn.Conv2d(self._features.shape[1], 3 * len(WINDOWS), 1)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._features = output

    def loss(self, images: Tensor) -> Tensor:
        """Mean squared error of the prediction for the images that the victim saw last."""
        target = F.adaptive_avg_pool2d(noise_energy(images), (*self._features.shape[2:],))
        return F.mse_loss(self.head(self._features), target)
