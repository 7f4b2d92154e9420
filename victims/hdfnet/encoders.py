"""Encoders of HDF-Net: the RGB trunk, the SRM filters, and the transformers on their residuals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Residual filters of the spatial rich model: second difference in a square, KV, and in a row.
_SRM: tuple[tuple[float, tuple[tuple[int, ...], ...]], ...] = (
    (4, ((0,) * 5, (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0,) * 5)),
    (
        12,
        (
            (-1, 2, -2, 2, -1),
            (2, -6, 8, -6, 2),
            (-2, 8, -12, 8, -2),
            (2, -6, 8, -6, 2),
            (-1, 2, -2, 2, -1),
        ),
    ),
    (2, ((0,) * 5, (0,) * 5, (0, 1, -2, 1, 0), (0,) * 5, (0,) * 5)),
)


def mean_and_max(x: Tensor) -> Tensor:
    """Over channels: N×C×H×W → N×2×H×W."""
    return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)


class SeparableConv(nn.Module):
    """Depthwise, then pointwise convolution, nothing between."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            inputs, inputs, kernel, stride, padding=kernel // 2, groups=inputs, bias=False
        )
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.conv1(x))


class MultiScale(nn.Module):
    """Three separable branches of kernels 3, 5 and 7, summed at half the side."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.branch1, self.branch2, self.branch3 = (
            nn.Sequential(
                SeparableConv(3, outputs, kernel),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                SeparableConv(outputs, outputs, kernel - 2, stride=2),
                nn.BatchNorm2d(outputs),
            )
            for kernel in (3, 5, 7)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch1(x) + self.branch2(x) + self.branch3(x))


class ChannelAttention(nn.Module):
    """Weights N×C×1×1 from the global average and maximum."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        average, maximum = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return torch.sigmoid(
            self.fc2(F.relu(self.fc1(average))) + self.fc2(F.relu(self.fc1(maximum)))
        )


class SpatialAttention(nn.Module):
    """Weights N×1×H×W from the channels' mean and maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv1(mean_and_max(x)))


class Block(nn.Module):
    """Inverted residual; of stride 2 with attention and a projected shortcut.

    Of stride 1 the authors add the branch to itself, not to the input; checkpoints depend on it.
    """

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, *, reduction: int
    ) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        if stride == 2:
            self.ca = ChannelAttention(outputs, reduction)
            self.sa = SpatialAttention()
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv1(x)))
        y = F.relu6(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.stride == 1:
            return F.relu6(2 * y)
        y = y * self.ca(y)
        return F.relu6(y * self.sa(y) + self.shortcut(x))


class Trunk(nn.Module):
    """N×3×256×256 → five maps, of sides 128, 64, 32, 16 and 8.

    ``blocks`` holds, for each of the four layers, the number of blocks and their expansion.
    """

    def __init__(
        self, channels: Sequence[int], blocks: Sequence[tuple[int, int]], reduction: int
    ) -> None:
        super().__init__()
        self.multi_scale = MultiScale(channels[0])
        layers = zip(pairwise(channels), blocks, strict=True)
        for number, ((inputs, outputs), (depth, expansion)) in enumerate(layers, start=1):
            first = Block(inputs, outputs, expansion, 2, reduction=reduction)
            others = [Block(outputs, outputs, expansion, 1, reduction=0) for _ in range(1, depth)]
            self.add_module(f"layer{number}", nn.Sequential(first, *others))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.children():
            x = stage(x)
            maps.append(x)
        return maps


class SRM(nn.Module):
    """Residuals of three fixed filters, each summed over the colours: N×3×H×W → N×3×H×W."""

    def __init__(self) -> None:
        super().__init__()
        filters = torch.stack([torch.tensor(rows) / scale for scale, rows in _SRM])
        self.SRMWeights = nn.Parameter(filters[:, None].repeat(1, 3, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        # Detached, so that it stays fixed where all parameters are set to train.
        return F.conv2d(x, self.SRMWeights.detach(), padding=2)


class PatchEmbedding(nn.Linear):
    """Linear on patches flattened as (row, column, colour): N×3×H×W → N×C×H/p×W/p."""

    def __init__(self, patch: int, outputs: int) -> None:
        super().__init__(3 * patch**2, outputs)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.view(-1, self.patch, self.patch, 3).permute(0, 3, 1, 2)
        return F.conv2d(x, weight, self.bias, self.patch)


class PreNorm(nn.Module):
    """LayerNorm before ``fn``, both N×P×C → N×P×C."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class Attention(nn.Module):
    """Multi-head self-attention, N×P×C → N×P×C."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_width, width), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.to_out(attended.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with GELU between, N×P×C → N×P×C."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, width),
            nn.Dropout(0.1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Transformer(nn.Module):
    """Tokens N×P×C → N×P×C; no norm at the end."""

    def __init__(self, width: int, depth: int, heads: tuple[int, int], hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PreNorm(width, Attention(width, *heads)),
                    PreNorm(width, FeedForward(width, hidden)),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            for part in layer.children():
                x = x + part(x)
        return x


class VisionTransformer(nn.Module):
    """Residual map N×3×S×S → N×C×S/p×S/p.

    The map is a raw reshape of the tokens (N×P×C): the authors do not transpose, so that its
    places are not those of the patches.
    """

    def __init__(
        self, side: int, patch: int, width: int, depth: int, *, heads: tuple[int, int], hidden: int
    ) -> None:
        super().__init__()
        self.side = side // patch
        # One row more than there are tokens, as in the authors' checkpoints; it is not used.
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, self.side**2 + 1, width))
        self.to_patch_embedding = nn.Sequential(nn.Identity(), PatchEmbedding(patch, width))
        self.dropout = nn.Dropout(0.1)
        self.transformer = Transformer(width, depth, heads, hidden)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.to_patch_embedding(x).flatten(2).transpose(1, 2)
        tokens = self.transformer(self.dropout(tokens + self.pos_embedding[:, :-1]))
        return tokens.reshape(len(x), -1, self.side, self.side)
