"""IF-OSN: an SCSE U-Net on a SENet encoder.

Wu, Zhou, Tian, Liu, "Robust Image Forgery Detection over Online Social Network Shared Images",
CVPR 2022 and T-IFS 2022. The full size (SENet-154) has the authors' state_dict keys; the small
size is the same code with narrower and shallower settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.victims.base import Size
from advbench.victims.bottleneck import ResidualBottleneck


@dataclass(frozen=True)
class Widths:
    """Channels and depths that tell the sizes apart."""

    stem: tuple[int, int]
    planes: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    groups: int
    reduction: int
    decoder: tuple[int, int, int, int, int]


SIZES: dict[Size, Widths] = {
    "full": Widths((64, 128), (64, 128, 256, 512), (3, 8, 36, 3), 64, 16, (384, 256, 128, 64, 32)),
    "small": Widths((16, 24), (8, 16, 24, 32), (1, 2, 2, 1), 1, 4, (64, 48, 32, 16, 8)),
}


class UpConv(nn.Module):
    """Nearest ×2, 3×3 convolution, ReLU; ``size`` trims the result to the encoder's map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class SCSE(nn.Module):
    """Concurrent channel and spatial squeeze-and-excitation, joined by the elementwise maximum."""

    def __init__(self, channels: int, reduction: int = 2) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)
        self.spatial_se = nn.Sequential(nn.Conv2d(channels, 1, 1, bias=False), nn.Sigmoid())

    def open_gates(self) -> None:
        """Let most of a map through at the start of a training run: its channels times 0.88."""
        assert self.fc2.bias is not None
        nn.init.constant_(self.fc2.bias, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean((2, 3), keepdim=True)
        channel = torch.sigmoid(self.fc2(F.relu(self.fc1(squeezed))))
        return torch.maximum(x * channel, x * self.spatial_se(x))


class Bottleneck(nn.Module):
    """Decoder and encoder maps concatenated, 3×3 convolution, ReLU, SCSE."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), SCSE(outputs))

    def forward(self, decoded: Tensor, encoded: Tensor) -> Tensor:
        if decoded.shape[2:] != encoded.shape[2:]:
            decoded = F.interpolate(decoded, encoded.shape[2:], mode="nearest")
        return self.seq(torch.cat([decoded, encoded], 1))


class ScseUnet(nn.Module):
    """The network: RGB in [-1, 1], N×3×H×W of any H, W → probabilities N×1×H×W."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.encoder_stages = _encoder(widths)
        encoder = [widths.stem[1], *(4 * planes for planes in widths.planes)]
        decoder = widths.decoder
        # The authors index decoder_stages from shallow to deep, bottlenecks from deep to shallow.
        self.decoder_stages = nn.ModuleList(
            [
                UpConv(decoder[2], decoder[3]),
                UpConv(decoder[1], decoder[2]),
                UpConv(decoder[0], decoder[1]),
                UpConv(encoder[4], decoder[0]),
            ]
        )
        self.bottlenecks = nn.ModuleList(
            [Bottleneck(decoder[i] + encoder[3 - i], decoder[i]) for i in range(4)]
        )
        self.last_upsample = UpConv(decoder[3], decoder[4])
        self.final = nn.Sequential(nn.Conv2d(decoder[4], 1, 1), nn.Sigmoid())

    def logits(self, x: Tensor) -> Tensor:
        """Compute what the last Sigmoid is given: same value, gradients that do not saturate."""
        size = x.shape[2:]
        maps = []
        for stage in self.encoder_stages:
            x = stage(x)
            maps.append(x)
        for depth, bottleneck in enumerate(self.bottlenecks):
            x = bottleneck(self.decoder_stages[3 - depth](x), maps[3 - depth])
        logits = self.final[0](self.last_upsample(x))
        return logits if logits.shape[2:] == size else F.interpolate(logits, size, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        return self.final[1](self.logits(x))


def _encoder(widths: Widths) -> nn.ModuleList:
    first, last = widths.stem
    stem = nn.Sequential()
    for index, (inputs, outputs) in enumerate([(3, first), (first, first), (first, last)], start=1):
        conv = nn.Conv2d(inputs, outputs, 3, stride=2 if index == 1 else 1, padding=1, bias=False)
        stem.add_module(f"conv{index}", conv)
        stem.add_module(f"bn{index}", nn.BatchNorm2d(outputs))
        stem.add_module(f"relu{index}", nn.ReLU(inplace=True))
    stages: list[nn.Module] = [stem]
    inputs = last
    for index, (planes, blocks) in enumerate(zip(widths.planes, widths.blocks, strict=True)):
        stages.append(_stage(inputs, planes, blocks, 1 if index == 0 else 2, widths=widths))
        inputs = 4 * planes
    stages[1] = nn.Sequential(nn.MaxPool2d(3, stride=2, ceil_mode=True), stages[1])
    return nn.ModuleList(stages)


def _stage(inputs: int, planes: int, blocks: int, stride: int, *, widths: Widths) -> nn.Sequential:
    kernel = 1 if stride == 1 else 3
    downsample = nn.Sequential(
        nn.Conv2d(inputs, 4 * planes, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(4 * planes),
    )
    shape = (2 * planes, 4 * planes, 4 * planes)
    block = partial(ResidualBottleneck, groups=widths.groups, reduction=widths.reduction)
    first = block(inputs, shape, stride=stride, downsample=downsample)
    others = [block(4 * planes, shape) for _ in range(1, blocks)]
    return nn.Sequential(first, *others)
