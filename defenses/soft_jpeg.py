"""JPEG as a differentiable function: baseline DCT, 4:2:0 chroma, the tables of Annex K.

Rounding is softened to round(c) + (c − round(c))³ (Shin and Song, "JPEG-resistant Adversarial
Images", 2017), whose gradient is 0 at whole coefficients and largest between them.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-T T.81, Annex K, tables K.1 and K.2.
_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)
# JFIF: Y, Cb, Cr from R, G, B.
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def soft_jpeg(images: Tensor, quality: int) -> Tensor:
    """Compress and decompress.

    Args:
        images: float N×3×H×W in [0, 1].
        quality: of libjpeg, 1 to 100.

    Returns:
        float N×3×H×W, close to what the codec returns; may leave [0, 1] a little.
    """
    height, width = images.shape[2:]
    to_ycbcr = images.new_tensor(_YCBCR)
    padded = F.pad(images * 255, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycbcr = torch.einsum("ij,njhw->nihw", to_ycbcr, padded)
    luma = _quantised(ycbcr[:, :1] - 128, _table(_LUMA, quality)) + 128
    chroma = _quantised(F.avg_pool2d(ycbcr[:, 1:], 2), _table(_CHROMA, quality))
    chroma = F.interpolate(chroma, padded.shape[2:], mode="bilinear")
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycbcr), torch.cat([luma, chroma], 1))
    return rgb[..., :height, :width] / 255


def _quantised(planes: Tensor, table: Tensor) -> Tensor:
    """Each 8×8 block through the DCT, the table and back."""
    count, channels, height, width = planes.shape
    basis, table = _dct().to(planes), table.to(planes)
    blocks = planes.view(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = basis @ blocks @ basis.T / table
    whole = coefficients.round().detach()
    soft = (whole + (coefficients - whole) ** 3) * table
    return (basis.T @ soft @ basis).transpose(3, 4).reshape(planes.shape)


@cache
def _dct() -> Tensor:
    """The orthonormal DCT-II of eight samples, 8×8 in float64."""
    rows = torch.arange(8, dtype=torch.float64)[:, None]
    basis = torch.cos((2 * rows.T + 1) * rows * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis


@cache
def _table(values: tuple[int, ...], quality: int) -> Tensor:
    """Quantisation steps as libjpeg scales them."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [min(255, max(1, (value * scale + 50) // 100)) for value in values]
    return torch.tensor(steps, dtype=torch.float64).view(8, 8)
