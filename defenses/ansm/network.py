"""S_φ: the network that estimates the noise to take away.

Peng, Tan, Mo, Kot, Huang, "Active Adversarial Noise Suppression for Image Forgery Localization":
an EfficientNet-B4 encoder, a U-Net decoder, and two heads whose product is the correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from advbench.defenses.ansm.recipe import Upsampling
from advbench.errors import AdvbenchError

# ImageNet's statistics, which the encoder's pretrained weights expect.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Size = Literal["small", "full"]


@dataclass(frozen=True)
class Widths:
    """An encoder of timm's EfficientNet family, and the decoder's channels at H/16 to H."""

    encoder: str
    decoder: tuple[int, int, int, int, int]


SIZES: dict[Size, Widths] = {
    "full": Widths("tf_efficientnet_b4.in1k", (256, 128, 64, 32, 16)),
    "small": Widths("tinynet_e", (64, 32, 24, 16, 16)),
}


class Up(nn.Sequential):
    """×2, 3×3 convolution, BN, ReLU.

    ``nearest`` repeats each value, so a correction that differs between neighbouring pixels is hard
    to learn; ``subpixel`` makes four channels the four pixels (Shi et al., CVPR 2016).
    """

    def __init__(self, inputs: int, outputs: int, upsampling: Upsampling) -> None:
        subpixel = upsampling == "subpixel"
        super().__init__(
            nn.PixelShuffle(2) if subpixel else nn.Upsample(scale_factor=2),
            nn.Conv2d(inputs // 4 if subpixel else inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Fusion(nn.Module):
    """Decoder and encoder maps concatenated; two 3×3 convolutions with a BN between, then ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, decoded: Tensor, encoded: Tensor) -> Tensor:
        # An odd side is halved upwards, so the decoder's map has a row or column too many.
        decoded = decoded[..., : encoded.shape[2], : encoded.shape[3]]
        return self.layers(torch.cat([decoded, encoded], 1))


class Head(nn.Sequential):
    """3×3 convolution, BN, ReLU, 3×3 convolution to RGB, and what bounds it."""

    def __init__(self, channels: int, bound: nn.Module) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 3, 3, padding=1),
            bound,
        )


def _encoder(name: str, pretrained: bool) -> Any:
    try:
        return timm.create_model(name, features_only=True, pretrained=pretrained)
    except Exception as error:
        if not pretrained:
            raise
        # Whichever way the download fails, of those that timm and its hub have.
        raise AdvbenchError(
            f"pretrained=true: the ImageNet weights of {name} could not be fetched "
            f"({type(error).__name__}); try again with the network, or leave it out"
        ) from error


class AnsmNetwork(nn.Module):
    """RGB in [0, 1], N×3×H×W of any H, W → the image with its adversarial noise suppressed.

    Args:
        pretrained: fetch the encoder's ImageNet weights; random otherwise.
        upsampling: of the decoder, which the paper leaves open.
    """

    def __init__(
        self, size: Size, pretrained: bool = False, upsampling: Upsampling = "nearest"
    ) -> None:
        super().__init__()
        self.size, self.upsampling = size, upsampling
        widths = SIZES[size]
        self.encoder = _encoder(widths.encoder, pretrained)
        encoded = self.encoder.feature_info.channels()
        inputs = encoded[-1]
        self.ups, self.fusions = nn.ModuleList(), nn.ModuleList()
        for level, outputs in enumerate(widths.decoder):
            self.ups.append(Up(inputs, outputs, upsampling))
            if level < 4:
                self.fusions.append(Fusion(outputs + encoded[3 - level], outputs))
            inputs = outputs
        self.gamma1 = Head(inputs, nn.Softsign())
        self.gamma2 = Head(inputs, nn.Sigmoid())
        # The correction starts at nothing, so training starts from the image as it is.
        for name in ("weight", "bias"):
            nn.init.zeros_(self.gamma1.get_parameter(f"3.{name}"))

    def correction(self, images: Tensor) -> Tensor:
        """S_φ(X) = γ1 · γ2, elementwise, in (-1, 1)."""
        height, width = images.shape[2:]
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        maps = self.encoder((images - mean) / std)
        x = maps[-1]
        for level, up in enumerate(self.ups):
            x = up(x)
            if level < 4:
                x = self.fusions[level](x, maps[3 - level])
        x = x[..., :height, :width]
        return self.gamma1(x) * self.gamma2(x)

    def forward(self, images: Tensor) -> Tensor:
        """X_p = TRUNC(X + S_φ(X)), eq. 6."""
        return (images + self.correction(images)).clamp(0, 1)
