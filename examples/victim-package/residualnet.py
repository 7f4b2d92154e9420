"""Residual-Net: convolutions on what a 3×3 mean leaves of the image, at native size."""

from collections import OrderedDict
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from advbench.victims.base import Depth, Size, Victim

WIDTHS: dict[Size, tuple[int, int, int]] = {"small": (16, 32, 64), "full": (64, 128, 256)}


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
    norms = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
    return nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU())


class ResidualNet(Victim):
    """Three blocks of convolutions on the residual, any sides, threshold 0.5."""

    name: ClassVar[str] = "residual-net"

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        a, b, c = WIDTHS[size]
        stages = {"shallow": block(3, a, 1), "middle": block(a, b, 2), "topmost": block(b, c, 2)}
        return nn.Sequential(OrderedDict(stages | {"head": nn.Conv2d(c, 16, 1)}))

    def logits(self, images: Tensor) -> Tensor:
        residual = images - F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
        logits = F.pixel_shuffle(self.network(16 * residual), 4)
        return logits[..., : images.shape[2], : images.shape[3]]

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        return {depth: self.network.get_submodule(depth)}
