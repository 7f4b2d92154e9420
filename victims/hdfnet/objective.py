"""Train HDF-Net: focal, Dice and structural losses on its three maps.

Han, Wang, Bai, Wang, Hou, Xue, "HDF-Net: Capturing Homogeny Difference Features to Localize the
Tampered Image", T-PAMI 2024; weights of the terms as in the authors' code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from advbench.overlap import dice
from advbench.victims.hdfnet.victim import HDFNet
from advbench.victims.objective import Objective

MAP_WEIGHTS = (1.0, 1 / 4, 1 / 8)


class ThreeMaps(Objective):
    """0.8 focal + 0.1 Dice + 0.1 (1 - SSIM), on the final map and, for 1/4 and 1/8, the others."""

    guided = "bkbone.multi_scale"

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        victim = self.victim
        assert isinstance(victim, HDFNet)
        total = torch.zeros((), device=masks.device)
        for weight, logits in zip(MAP_WEIGHTS, victim.maps(images), strict=True):
            total = total + weight * map_loss(logits.float(), masks)
        return total


def map_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """The loss of one map: 0.8 focal, 0.1 Dice per sample, 0.1 structural dissimilarity."""
    probability = torch.sigmoid(logits)
    return (
        0.8 * focal_loss(logits, masks)
        + 0.1 * sample_dice_loss(probability, masks)
        + 0.1 * (1 - ssim(probability, masks).mean())
    )


def focal_loss(logits: Tensor, masks: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; α weighs both classes."""
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    return (alpha * (1 - torch.exp(-entropy)) ** gamma * entropy).mean()


def sample_dice_loss(probability: Tensor, masks: Tensor) -> Tensor:
    """One minus the Dice coefficient of each sample, smooth 1, averaged."""
    return (1 - dice(probability, masks, squared=False, smooth=1.0)).mean()


def ssim(x: Tensor, y: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity of maps N×1×H×W in [0, 1] at every pixel, N×1×H×W.

    Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment", T-IP 2004; zero padding.
    """
    line = torch.exp(-((torch.arange(window) - window // 2) ** 2) / (2 * sigma**2)).to(x)
    line = line / line.sum()

    def smooth(z: Tensor) -> Tensor:
        # Variances are differences of nearly equal moments: half precision would round them away.
        with torch.autocast(z.device.type, enabled=False):
            z = F.conv2d(z, line.view(1, 1, 1, -1), padding=(0, window // 2))
            return F.conv2d(z, line.view(1, 1, -1, 1), padding=(window // 2, 0))

    mean_x, mean_y = smooth(x), smooth(y)
    variance_x, variance_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)
