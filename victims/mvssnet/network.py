"""MVSS-Net: edges and noise seen by two dilated ResNets, joined by dual attention.

Dong, Chen, Hu, Cao, Li, "MVSS-Net: Multi-View Multi-Scale Supervised Networks for Image
Manipulation Detection", T-PAMI 2022. The full size (two ResNet-50) has the authors' state_dict
keys; the small size is the same code with narrower and shallower settings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.victims.base import Size
from advbench.victims.bottleneck import ResidualBottleneck

_GRAY = (0.1140, 0.5870, 0.2989)
_SOBEL = {
    "x": ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)),
    "y": ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0)),
}


@dataclass(frozen=True)
class Widths:
    """Channels and depths that tell the sizes apart.

    Attributes:
        dilations: of each block of layer1 to layer4, so their lengths are the depths.
        inter: channels of the dual attention; its queries and keys have an eighth.
        classes: of the trunks' ImageNet classifiers, unused but stored; 0 leaves them out.
    """

    stem: int
    planes: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    dilations: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    inter: int
    classes: int


SIZES: dict[Size, Widths] = {
    "full": Widths(
        64,
        (64, 128, 256, 512),
        (1, 2, 2, 1),
        ((1,) * 3, (1,) * 4, (1,) * 6, (1, 2, 4)),
        1024,
        1000,
    ),
    "small": Widths(24, (12, 24, 32, 32), (1, 2, 1, 1), ((1, 1), (1, 1), (2, 2), (4,)), 32, 0),
}


class Trunk(nn.Module):
    """ResNet v1.5: N×3×H×W → the outputs of layer1 to layer4."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths.stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths.stem)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = widths.stem
        stages = zip(widths.planes, widths.strides, widths.dilations, strict=True)
        for number, (planes, stride, dilations) in enumerate(stages, start=1):
            self.add_module(f"layer{number}", _layer(inputs, planes, stride, dilations))
            inputs = 4 * planes
        if widths.classes:
            self.fc = nn.Linear(inputs, widths.classes)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        maps = []
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            maps.append(x)
        return maps


def _layer(inputs: int, planes: int, stride: int, dilations: tuple[int, ...]) -> nn.Sequential:
    downsample = nn.Sequential(
        nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes)
    )
    shape = (planes, planes, 4 * planes)
    first = ResidualBottleneck(
        inputs, shape, stride=stride, dilation=dilations[0], downsample=downsample
    )
    others = [
        ResidualBottleneck(4 * planes, shape, dilation=dilation) for dilation in dilations[1:]
    ]
    return nn.Sequential(first, *others)


class BayarConv(nn.Module):
    """Constrained 5×5 convolution, N×1×H×W → N×3×H×W: -1 at the centre, the rest sums to 1."""

    def __init__(self) -> None:
        super().__init__()
        # Positive, so that the sum by which each filter is divided starts far from 0.
        self.kernel = nn.Parameter(torch.rand(1, 3, 24))

    def filters(self) -> Tensor:
        """The constrained filters, 3×1×5×5. The authors store the quotients at every forward;
        here the parameter stays as it is, which gives the same filters."""
        rest = self.kernel[0] / self.kernel[0].sum(1, keepdim=True)
        centre = -torch.ones_like(rest[:, :1])
        return torch.cat([rest[:, :12], centre, rest[:, 12:]], 1).view(3, 1, 5, 5)

    def forward(self, x: Tensor) -> Tensor:
        # Half precision would round the pixels by more than the noise that is looked for.
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, self.filters(), padding=2)


class SobelConv(nn.Conv2d):
    """Sobel filter of the sum of all channels. The weight is a parameter, as in the authors'
    files, but no gradient reaches it, whatever ``requires_grad`` says."""

    def __init__(self, inputs: int, axis: str) -> None:
        super().__init__(inputs, 1, 3, padding=1, bias=False)
        self.weight = nn.Parameter(
            torch.tensor(_SOBEL[axis]).expand(1, inputs, 3, 3).clone(), requires_grad=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.detach(), padding=1)


class ERB(nn.Module):
    """Edge residual block: N×C×H×W → N×1×H×W."""

    def __init__(self, inputs: int, relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, 1, 1)
        self.conv2 = nn.Conv2d(1, 1, 3, padding=1)
        self.bn = nn.BatchNorm2d(1)
        self.conv3 = nn.Conv2d(1, 1, 3, padding=1)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.relu(x + self.conv3(F.relu(self.bn(self.conv2(x)))))


class PAM(nn.Module):
    """Position attention: each pixel looks at all pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))
        self.conv_b = nn.Conv2d(channels, channels // 8, 1)
        self.conv_c = nn.Conv2d(channels, channels // 8, 1)
        self.conv_d = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (conv(x).flatten(2) for conv in self._convs())
        attention = torch.softmax(queries.transpose(1, 2) @ keys, 2)
        return self.alpha * (values @ attention.transpose(1, 2)).view(x.shape) + x

    def _convs(self) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
        return self.conv_b, self.conv_c, self.conv_d


class CAM(nn.Module):
    """Channel attention: each channel looks at the channels least like it."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        # Energies are large: half precision would round away the differences between them.
        with torch.autocast(x.device.type, enabled=False):
            flat = x.flatten(2).to(torch.promote_types(x.dtype, torch.float32))
            energy = flat @ flat.transpose(1, 2)
            attention = torch.softmax(energy.amax(2, keepdim=True) - energy, 2)
            return self.beta * (attention @ flat).view(x.shape) + x


class DualAttention(nn.Module):
    """The head: both trunks' layer4, concatenated → one coarse map of logits."""

    def __init__(self, inputs: int, inter: int) -> None:
        super().__init__()
        self.conv_p1, self.conv_c1 = _conv3x3(inputs, inter), _conv3x3(inputs, inter)
        self.pam, self.cam = PAM(inter), CAM()
        self.conv_p2, self.conv_c2 = _conv3x3(inter, inter), _conv3x3(inter, inter)
        self.out = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(inter, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        position = self.conv_p2(self.pam(self.conv_p1(x)))
        return self.out(position + self.conv_c2(self.cam(self.conv_c1(x))))


def _conv3x3(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class MvssNetwork(nn.Module):
    """The network: normalised BGR, N×3×H×W → logits of edges and of forgery."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.model = Trunk(widths)
        self.noise_extractor = nn.ModuleDict({"model": Trunk(widths)})
        self.constrain_conv = BayarConv()
        outputs = [4 * planes for planes in widths.planes]
        for number, channels in enumerate(outputs, start=1):
            for axis in _SOBEL:
                block = nn.Sequential(SobelConv(channels, axis), nn.BatchNorm2d(1))
                self.add_module(f"sobel_{axis}{number}", block)
            self.add_module(f"erb_db_{number}", ERB(channels))
        for number in range(1, 4):
            self.add_module(f"erb_trans_{number}", ERB(1, relu=number < 3))
        self.head = DualAttention(2 * outputs[3], widths.inter)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Edges N×1×⌈H/4⌉×⌈W/4⌉ and forgery N×1×H×W, from one pass of the trunks."""
        maps = self.model(x)
        return self._edges(maps), self._forgery(x, maps[3])

    def segment(self, x: Tensor) -> Tensor:
        """The forgery logits alone, N×1×H×W: the edges do not feed them."""
        return self._forgery(x, self.model(x)[3])

    def _forgery(self, x: Tensor, content: Tensor) -> Tensor:
        gray = (x * x.new_tensor(_GRAY).view(3, 1, 1)).sum(1, keepdim=True)
        noise = self.noise_extractor["model"](self.constrain_conv(gray))[3]
        return _resize(self.head(torch.cat([content, noise], 1)), x)

    def _edges(self, maps: list[Tensor]) -> Tensor:
        edges = self._edge_block(1, maps[0])
        for number in range(2, 5):
            finer = edges + _resize(self._edge_block(number, maps[number - 1]), edges)
            edges = self.get_submodule(f"erb_trans_{number - 1}")(finer)
        return edges

    def _edge_block(self, number: int, x: Tensor) -> Tensor:
        gx = self.get_submodule(f"sobel_x{number}")(x)
        gy = self.get_submodule(f"sobel_y{number}")(x)
        # The gradient of the root is infinite where both are 0, as in a flat region.
        magnitude = torch.sqrt(gx**2 + gy**2 + 1e-12)
        return self.get_submodule(f"erb_db_{number}")(x * torch.sigmoid(magnitude))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)
