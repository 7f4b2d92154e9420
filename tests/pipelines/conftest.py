"""A victim that is quick enough for whole pipelines."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from advbench.victims.base import Depth, Size, Victim
from advbench.victims.weights import Weights


class ToyVictim(Victim):
    """A fixed random convolution net at native size."""

    name: ClassVar[str] = "toy"

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 1, 1))

    def logits(self, images: Tensor) -> Tensor:
        return self.network(images - 0.5) + 20 * (images.mean(1, keepdim=True) - 0.5)

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        return {"0": self.network[0]}


class SquareVictim(ToyVictim):
    """The same at a working size of 32²."""

    working_sides: ClassVar[dict[Size, int]] = {"small": 32, "full": 32}


def _make(cls: type[ToyVictim], seed: int) -> ToyVictim:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cls(cls.build_network("small"), Weights(f"{seed:064x}", f"random:{seed}"), "small")


@pytest.fixture
def toy() -> ToyVictim:
    return _make(ToyVictim, 3)


@pytest.fixture
def other_toy() -> ToyVictim:
    """The same network with other weights."""
    return _make(ToyVictim, 4)


@pytest.fixture
def square_toy() -> ToyVictim:
    return _make(SquareVictim, 3)
