"""EfficientNet's inverted-residual block in the layout of efficientnet_pytorch.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
No library offers this block at other widths with these keys and this padding: padding is "same"
for one fixed image size, and stays as it is for all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Where efficientnet_pytorch's B4 computes its static padding.
DESIGN_SIDE = 380


@dataclass(frozen=True)
class Stage:
    """Blocks of one width: the first has the stride, all have the kernel and the expansion."""

    channels: int
    kernel: int
    stride: int
    expansion: int
    blocks: int


class SamePadConv(nn.Conv2d):
    """A convolution padded so that ``side`` becomes ceil(side / stride), the odd pixel at the end;
    without bias."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, *, side: int, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        self.before, self.after = total // 2, total - total // 2
        if self.before == self.after:
            self.padding = (self.before, self.before)

    def forward(self, x: Tensor) -> Tensor:
        if self.before != self.after:
            x = F.pad(x, (self.before, self.after, self.before, self.after))
        return super().forward(x)


class MBConv(nn.Module):
    """Expand, depthwise convolution, squeeze-and-excitation of a quarter of the input, project."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, *, expansion: int, side: int
    ) -> None:
        super().__init__()
        width, squeezed = inputs * expansion, max(1, inputs // 4)
        self.expands, self.skips = expansion != 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self._bn0 = _norm(width)
        self._depthwise_conv = SamePadConv(width, width, kernel, stride, side=side, groups=width)
        self._bn1 = _norm(width)
        self._se_reduce = nn.Conv2d(width, squeezed, 1)
        self._se_expand = nn.Conv2d(squeezed, width, 1)
        self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs
        if self.expands:
            x = F.silu(self._bn0(self._expand_conv(x)))
        x = F.silu(self._bn1(self._depthwise_conv(x)))
        squeezed = self._se_reduce(x.mean((2, 3), keepdim=True))
        x = x * torch.sigmoid(self._se_expand(F.silu(squeezed)))
        x = self._bn2(self._project_conv(x))
        return x + inputs if self.skips else x


class Blocks(nn.Module):
    """Stages one after the other, as ``blocks.0``, ``blocks.1`` and so on."""

    def __init__(self, inputs: int, stages: tuple[Stage, ...], side: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for stage in stages:
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                block = MBConv(
                    inputs,
                    stage.channels,
                    stage.kernel,
                    stride,
                    expansion=stage.expansion,
                    side=side,
                )
                self.blocks.append(block)
                inputs, side = stage.channels, -(-side // stride)
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
