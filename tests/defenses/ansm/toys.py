"""A victim in three thirds, pairs to learn from, and a network that corrects something."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from advbench.defenses.ansm.network import AnsmNetwork
from advbench.training.data import Examples
from advbench.victims.base import Depth, Size, Victim
from advbench.victims.weights import Weights

LAYERS: dict[Depth, tuple[str, ...]] = {
    "shallow": ("0", "1"),
    "middle": ("2",),
    "topmost": ("3", "4"),
}


class Layered(Victim):
    """Fixed random convolutions and a batch normalisation; bright pixels look forged."""

    name: ClassVar[str] = "layered"
    threshold: ClassVar[float] = 0.4

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, 2, padding=1)
        for convolution in (first, second):
            convolution.weight.data.mul_(3)
        return nn.Sequential(first, nn.BatchNorm2d(4), second, nn.Tanh(), nn.Conv2d(5, 1, 1))

    def logits(self, images: Tensor) -> Tensor:
        coarse = self.network(images - 0.5)
        fine = nn.functional.interpolate(coarse, images.shape[2:], mode="nearest")
        return fine + 20 * (images.mean(1, keepdim=True) - 0.5)

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        return {name: self.network.get_submodule(name) for name in LAYERS[depth]}


def layered(seed: int = 3, cls: type[Layered] = Layered) -> Layered:
    """One with the weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(cls.build_network("small"), Weights(f"{seed:064x}", f"random:{seed}"), "small")


def pairs(count: int, start: int = 0, noise: int = 3, fading: bool = False) -> Examples:
    """Images 40×44 with a bright forged part, and the same with ``noise`` added to half of the
    pixels and taken from the others; or, ``fading``, taken from the forged ones alone."""

    def load(number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(start + number)
        mask = np.zeros((40, 44), np.bool_)
        mask[6:26, 5 : 28 + number] = True
        image = rng.integers(60, 140, (40, 44, 3)) + 50 * mask[..., None]
        signs = -mask[..., None].astype(int) if fading else rng.choice([-1, 1], image.shape)
        both = np.concatenate([image, image + noise * signs], 2)
        return both.astype(np.uint8), mask

    return Examples([f"made/{start + number}" for number in range(count)], load)


def disturbed(seed: int = 0) -> AnsmNetwork:
    """A small network whose correction is not nothing, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AnsmNetwork("small")
        for parameter in network.gamma1.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return network.eval()
