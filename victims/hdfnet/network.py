"""HDF-Net: an RGB trunk and three transformers on noise residuals, joined by a fusion decoder.

Han, Wang, Bai, Wang, Hou, Xue, "HDF-Net: Capturing Homogeny Difference Features to Localize the
Tampered Image", T-PAMI 2024. The full size has the authors' state_dict keys; the small size is the
same code with narrower and shallower settings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from advbench.errors import AdvbenchError
from advbench.victims.base import Size
from advbench.victims.hdfnet.encoders import SRM, Trunk, VisionTransformer, mean_and_max

SIDE = 256


@dataclass(frozen=True)
class Widths:
    """Channels and depths that tell the sizes apart.

    Attributes:
        trunk: channels of the RGB trunk's maps, at sides 128, 64, 32, 16 and 8.
        blocks: blocks of each of its four layers, with their expansions.
        reduction: of the channel attention.
        fusion: channels of the decoder, and width of the transformers' tokens.
        heads: number and width of attention heads.
        mlp: hidden width of the transformers' MLPs.
        depths: of the three transformers.
    """

    trunk: tuple[int, int, int, int, int]
    blocks: tuple[tuple[int, int], ...]
    reduction: int
    fusion: int
    heads: tuple[int, int]
    mlp: int
    depths: tuple[int, int, int]


SIZES: dict[Size, Widths] = {
    "full": Widths(
        trunk=(64, 64, 128, 256, 512),
        blocks=((1, 1), (3, 6), (3, 6), (1, 6)),
        reduction=16,
        fusion=64,
        heads=(16, 64),
        mlp=2048,
        depths=(2, 4, 6),
    ),
    "small": Widths(
        trunk=(16, 24, 40, 64, 96),
        blocks=((1, 1), (2, 4), (2, 4), (1, 4)),
        reduction=4,
        fusion=32,
        heads=(4, 16),
        mlp=128,
        depths=(1, 2, 2),
    ),
}


def _up(x: Tensor, side: int) -> Tensor:
    """Bilinear to side×side, corners aligned."""
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=True)


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _conv_bn_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class _Refinement(nn.Module):
    """Twice 3×3 convolution, batch norm, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_1 = _conv3x3(channels, channels)
        self.bn_1 = nn.BatchNorm2d(channels)
        self.conv_2 = _conv3x3(channels, channels)
        self.bn_2 = nn.BatchNorm2d(channels)

    def refine(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn_1(self.conv_1(x)))
        return F.relu(self.bn_2(self.conv_2(x)))


class FFB(_Refinement):
    """Feature fusion: the product of two maps, refined."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.refine(a * b)


class ERB(_Refinement):
    """Sum of two maps, its channels weighed by their global averages, refined."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv_atten = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = a + b
        attention = torch.sigmoid(self.conv_atten(x.mean((2, 3), keepdim=True)))
        return self.refine(x + x * attention)


class SAB(nn.Module):
    """Spatial attention from channel mean and maximum, then 3×3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_atten = _conv3x3(2, 1)
        self.conv = _conv3x3(inputs, outputs)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        attention = torch.sigmoid(self.conv_atten(mean_and_max(x)))
        return F.relu(self.bn(self.conv(x * attention)))


class CFB(nn.Module):
    """Cross fusion of a deep map with one of twice its side: products at both, then an FFB."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(_conv3x3(channels, channels, 2), nn.BatchNorm2d(channels))
        self.conv_1 = _conv3x3(channels, channels)
        self.bn_1 = nn.BatchNorm2d(channels)
        self.conv_2 = _conv3x3(channels, channels)
        self.bn_2 = nn.BatchNorm2d(channels)
        self.mul = FFB(channels)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        side = low.shape[-1]
        left = F.relu(self.bn_1(self.conv_1(low * _up(high, side))))
        right = F.relu(self.bn_2(self.conv_2(F.relu(self.down(low)) * high)))
        return self.mul(left, _up(right, side))


class FLA(nn.Module):
    """Fully attentional block: in every column and row, channels attend to channels.

    Keys of a column are the means of the rows, those of a row the means of the columns, each of
    the sample itself: the authors' code mixes the samples of a batch here, and agrees for one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.conv1 = nn.Linear(channels, channels)
        self.conv2 = nn.Linear(channels, channels)
        self.conv = _conv_bn_relu(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        columns, rows = x.permute(0, 3, 1, 2), x.permute(0, 2, 1, 3)  # N×W×C×H, N×H×C×W
        along_columns = _channel_attention(columns, self.conv1(x.mean(3).transpose(1, 2)))
        along_rows = _channel_attention(rows, self.conv2(x.mean(2).transpose(1, 2)))
        attended = along_columns.permute(0, 2, 3, 1) + along_rows.permute(0, 2, 1, 3)
        return self.conv(self.gamma * attended + x)


def _channel_attention(lines: Tensor, keys: Tensor) -> Tensor:
    """Lines N×L×C×P and keys N×P×C → N×L×C×P; attention is C×C a line."""
    attention = torch.softmax(lines @ keys[:, None], -1)
    return attention @ lines


class HdfNetwork(nn.Module):
    """The network: ImageNet-normalised RGB, N×3×256×256 → three logit maps N×1×256×256.

    They come from decoder maps of sides 64, 32 and 16; the first is the result.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        _, l2, l3, l4, l5 = widths.trunk
        width = widths.fusion
        self.bkbone = Trunk(widths.trunk, widths.blocks, widths.reduction)
        self.path1_1 = _conv_bn_relu(l5, width, 1)
        self.path1_2 = _conv_bn_relu(l4, width, 1)
        self.path2 = SAB(l3, width)
        self.path3 = _conv_bn_relu(l2, width, 1)
        self.srm = SRM()
        self.v1, self.v2, self.v3 = (
            VisionTransformer(SIDE, patch, width, depth, heads=widths.heads, hidden=widths.mlp)
            for patch, depth in zip((32, 16, 8), widths.depths, strict=True)
        )
        self.aspp = ASPP(l5, [6, 12, 18], width)
        self.fuse1_1 = FFB(width)
        self.fuse1_2 = FFB(width)
        self.fuse12 = CFB(width)
        self.fuse13 = FFB(width)
        self.fuse23 = ERB(width)
        self.fla = FLA(width)
        self.fused = nn.Identity()  # what head_1 is given, under a name to tap
        self.head_1, self.head_2, self.head_3 = (
            nn.Conv2d(width, 1, 3, padding=1) for _ in range(3)
        )

    def logits(self, x: Tensor) -> Tensor:
        """The first of the three maps alone."""
        return _up(self.head_1(self._decode(x)[0]), SIDE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine, middle, coarse = self._decode(x)
        return (
            _up(self.head_1(fine), SIDE),
            _up(self.head_2(middle), SIDE),
            _up(self.head_3(coarse), SIDE),
        )

    def _decode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fused maps of sides 64, 32 (shown at 64) and 16."""
        if x.shape[2:] != (SIDE, SIDE):
            raise AdvbenchError(
                f"hdfnet takes images of {SIDE}×{SIDE} pixels, not {x.shape[2]}×{x.shape[3]};"
                " resize them first"
            )
        residuals = self.srm(x)
        _, l2, l3, l4, l5 = self.bkbone(x)
        noise_1, noise_2, noise_3 = (v(residuals) for v in (self.v1, self.v2, self.v3))
        deep = _up(self.fuse1_1(self.aspp(l5), self.path1_1(l5)), 16)
        p1 = self.fuse1_2(deep, self.path1_2(l4)) + _up(noise_1, 16)
        p1 = p1 + self.fla(p1)
        p12 = self.fuse12(p1, self.path2(l3)) + _up(noise_2, 32)
        p12 = _up(p12 + self.fla(p12), 64)
        p3 = self.fuse13(self.path3(l2), _up(deep, 64))
        p13 = self.fuse23(p12, p3) + _up(noise_3, 64)
        return self.fused(p13 + self.fla(p13)), p12, p1
