"""Train MVSS-Net: regions, their edges, and whether an image is forged at all.

Dong, Chen, Hu, Cao, Li, "MVSS-Net: Multi-View Multi-Scale Supervised Networks for Image
Manipulation Detection", T-PAMI 2022. The authors published no training code; weights of the terms
and the edge target are those of the IMDLBenCo benchmark.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from advbench.victims.mvssnet.victim import MVSSNet
from advbench.victims.objective import Objective, dice_loss

REGION, IMAGE, EDGE = 0.16, 0.04, 0.80
EDGE_WIDTH = 7


class RegionsAndEdges(Objective):
    """0.16 Dice of the regions + 0.04 cross-entropy of the image's score + 0.80 Dice of the edges.

    The image's score is the largest logit of its map. Binary cross-entropy of the regions stands
    beside their Dice, weighed alike: without ImageNet weights to start from, Dice alone stays long
    where everything or nothing is forged. Edges meet their target at a quarter of the size, where
    it is reduced by the maximum.
    """

    guided = "noise_extractor.model.layer1"

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        victim = self.victim
        assert isinstance(victim, MVSSNet)
        edges, regions = (logits.float() for logits in victim.edges_and_regions(images))
        entropy = F.binary_cross_entropy_with_logits(regions, masks)
        forged = F.binary_cross_entropy_with_logits(regions.amax((1, 2, 3)), masks.amax((1, 2, 3)))
        target = F.adaptive_max_pool2d(edge_target(masks), (*edges.shape[2:],))
        return (
            REGION * (dice_loss(torch.sigmoid(regions), masks) + entropy)
            + IMAGE * forged
            + EDGE * dice_loss(torch.sigmoid(edges), target)
        )


def edge_target(masks: Tensor, width: int = EDGE_WIDTH) -> Tensor:
    """Mark where both the mask and its complement reach within a cross of ``width`` pixels,
    N×1×H×W."""
    return _dilated(masks, width) * _dilated(1 - masks, width)


def _dilated(masks: Tensor, width: int) -> Tensor:
    across = F.max_pool2d(masks, (1, width), 1, (0, width // 2))
    return torch.maximum(across, F.max_pool2d(masks, (width, 1), 1, (width // 2, 0)))
