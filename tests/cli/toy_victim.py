"""A victim of somebody else's, as ``--plugin`` finds it."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from advbench.victims.base import Depth, Size, Victim


class ToyVictim(Victim):
    """A fixed random convolution net."""

    name: ClassVar[str] = "toy"

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 1, 1))

    def logits(self, images: Tensor) -> Tensor:
        return self.network(images - 0.5) + 20 * (images.mean(1, keepdim=True) - 0.5)

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        return {"0": self.network[0]}
