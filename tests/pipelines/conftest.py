"""A victim that is quick enough for whole pipelines."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from advbench.victims.base import Size
from advbench.victims.weights import Weights

from ..cli.toy_victim import ToyVictim


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
