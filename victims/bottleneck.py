"""The bottleneck of ResNet v1.5 (He, Zhang, Ren, Sun, CVPR 2016, figure 5, the stride in the 3×3
convolution), and that of SENet-154 (Hu, Shen, Sun, CVPR 2018, section 4 and figure 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside a shortcut, N×C×H×W → N×C′×H′×W′.

    Args:
        inputs: C.
        widths: channels after each convolution, the last being C′.
        groups: of the 3×3 convolution.
        reduction: by how much squeeze-and-excitation narrows; None leaves it out.
        downsample: what the shortcut goes through; itself where None.
    """

    def __init__(
        self,
        inputs: int,
        widths: tuple[int, int, int],
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        reduction: int | None = None,
        downsample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        first, middle, last = widths
        self.conv1 = nn.Conv2d(inputs, first, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(
            first, middle, 3, stride, dilation, dilation=dilation, groups=groups, bias=False
        )
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, last, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(last)
        self.se_module = SqueezeExcitation(last, reduction) if reduction else None
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu_(self.bn1(self.conv1(x)))
        out = torch.relu_(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.se_module is not None:
            out = self.se_module(out)
        return torch.relu_(out + (x if self.downsample is None else self.downsample(x)))


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what all of them have in the mean."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu_(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(hidden))
