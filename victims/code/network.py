"""CoDE: a localizer that draws its probability map in three steps, by a policy network.

Peng, Tan, Li, Huang, "Employing Reinforcement Learning to Construct a Decision-Making Environment
for Image Forgery Localization", T-IFS 2024. The full size (EfficientNet-B4 blocks) has the
authors' state_dict keys; the small size is the same code, narrower and shallower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from advbench.victims.base import Size
from advbench.victims.code.mbconv import DESIGN_SIDE, Blocks, SamePadConv, Stage

STEPS = 3
ACTION_SCALE = 0.5
Clip = Literal["straight-through", "autograd"]


@dataclass(frozen=True)
class Widths:
    """Stem channels, and the stages of the four parts of the encoder."""

    stem: int
    downs: tuple[tuple[Stage, ...], ...]


SIZES: dict[Size, Widths] = {
    "full": Widths(
        48,
        (
            (Stage(24, 3, 1, 1, 2), Stage(32, 3, 2, 6, 4)),
            (Stage(56, 5, 2, 6, 4),),
            (Stage(112, 3, 2, 6, 6),),
            (Stage(160, 5, 1, 6, 6), Stage(272, 5, 2, 6, 8)),
        ),
    ),
    "small": Widths(
        12,
        (
            (Stage(16, 3, 1, 1, 1), Stage(24, 3, 2, 4, 2)),
            (Stage(32, 5, 2, 4, 2),),
            (Stage(48, 3, 2, 4, 2),),
            (Stage(64, 5, 1, 4, 1), Stage(80, 5, 2, 4, 2)),
        ),
    ),
}


class Policy(NamedTuple):
    """The action's distribution at every pixel, N×1×H×W each: ``mean`` in (-1, 1) before its
    scale of one half, ``variance`` above 0."""

    mean: Tensor
    variance: Tensor


class CodeNetwork(nn.Module):
    """Actor and critic on one encoder: RGB in [0, 1], sides multiples of 32.

    A state is an image and a probability map. Of the image, features are computed once
    (:meth:`encode`, :meth:`actor`, :meth:`critic`); the map meets them at every step.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        stem = widths.stem
        # A BN of its own, with torch's eps, and no activation: not EfficientNet's stem.
        self.conv_stem = nn.Sequential(
            SamePadConv(3, stem, 3, 2, side=DESIGN_SIDE), nn.BatchNorm2d(stem)
        )
        inputs, side = stem, -(-DESIGN_SIDE // 2)
        channels = [stem]
        for number, stages in enumerate(widths.downs, start=1):
            down = Blocks(inputs, stages, side)
            setattr(self, f"down{number}", down)
            inputs, side = stages[-1].channels, down.side
            channels.append(inputs)
        self._add_side("p", channels)
        self.mu = _head(stem, nn.Softsign())
        self.sigma = _head(stem, nn.Softplus())
        self._add_side("v", channels)
        self.v_head = nn.Sequential(
            *_conv(2 * stem, stem), nn.Upsample(scale_factor=2), _last(stem), nn.Sigmoid()
        )

    def _add_side(self, side: str, channels: list[int]) -> None:
        for number in range(1, 5):
            deep, shallow = channels[5 - number], channels[4 - number]
            up = nn.Sequential(nn.Upsample(scale_factor=2), *_conv(deep, shallow))
            setattr(self, f"{side}_up{number}", up)
            merge = nn.Sequential(*_conv(2 * shallow, shallow), *_conv(shallow, shallow))
            setattr(self, f"{side}_merge{number}", merge)
        stem = channels[0]
        map_encoder = nn.Sequential(
            nn.Conv2d(1, stem, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True),
            *_conv(stem, stem),
            *_conv(stem, stem, stride=2),
        )  # fmt: skip
        setattr(self, f"{side}_mask_out", map_encoder)

    def encode(self, images: Tensor) -> list[Tensor]:
        """float [0, 1] N×3×H×W → five maps, at H/2 to H/32."""
        maps = [self.conv_stem(images)]
        for number in range(1, 5):
            maps.append(self.get_submodule(f"down{number}")(maps[-1]))
        return maps

    def actor(self, maps: list[Tensor]) -> Tensor:
        """Compute what the policy knows of the image, at H/2."""
        return self._decode("p", maps)

    def critic(self, maps: list[Tensor]) -> Tensor:
        """Compute what the value network knows of the image, at H/2."""
        return self._decode("v", maps)

    def _decode(self, side: str, maps: list[Tensor]) -> Tensor:
        x = maps[4]
        for number in range(1, 5):
            up = self.get_submodule(f"{side}_up{number}")(x)
            x = self.get_submodule(f"{side}_merge{number}")(torch.cat([up, maps[4 - number]], 1))
        return x

    def _state(self, side: str, features: Tensor, probability: Tensor) -> Tensor:
        return torch.cat([features, self.get_submodule(f"{side}_mask_out")(probability)], 1)

    def mean(self, actor: Tensor, probability: Tensor) -> Tensor:
        """Mean action of the policy for a map N×1×H×W in [0, 1]: in (-1, 1)."""
        return self.mu(self._state("p", actor, probability))

    def policy(self, actor: Tensor, probability: Tensor) -> Policy:
        """Mean and variance of the action."""
        state = self._state("p", actor, probability)
        return Policy(self.mu(state), self.sigma(state))

    def value(self, critic: Tensor, probability: Tensor) -> Tensor:
        """Expected return of every pixel, in (0, 1)."""
        return self.v_head(self._state("v", critic, probability))

    def rollout(self, images: Tensor, clip: Clip = "straight-through") -> list[Tensor]:
        """The maps P_1, P_2, P_3 of the deterministic policy, N×1×H×W in [0, 1].

        P_t = clip(P_{t-1} + μ/2) from P_0 = 0. A trained policy drives most pixels beyond the
        clip, where its derivative is zero; the straight-through clip passes gradients there.
        """
        actor = self.actor(self.encode(images))
        probability = torch.zeros_like(images[:, :1])
        steps = []
        for _ in range(STEPS):
            moved = probability + ACTION_SCALE * self.mean(actor, probability)
            probability = clip_to_unit(moved, clip)
            steps.append(probability)
        return steps

    def forward(self, images: Tensor) -> Tensor:
        return self.rollout(images)[-1]


def clip_to_unit(x: Tensor, clip: Clip) -> Tensor:
    """Clip to [0, 1]. Backward: the identity, or zero wherever x is not strictly inside (written
    out, since torch's own subgradient at the bounds depends on the version)."""
    clipped = x.detach().clamp(0, 1)
    if clip == "straight-through":
        return replaced(x, clipped)
    return torch.where((x > 0) & (x < 1), x, clipped)


def replaced(x: Tensor, values: Tensor) -> Tensor:
    """``values`` to the bit, with the gradient of ``x``."""
    return x - x.detach() + values.detach()


def _conv(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def _last(inputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, 1, 3, padding=1)


def _head(stem: int, activation: nn.Module) -> nn.Sequential:
    up = nn.Upsample(scale_factor=2)
    return nn.Sequential(*_conv(2 * stem, stem), up, *_conv(stem, stem), _last(stem), activation)
