"""PGD: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from advbench.attacks.linf import IteratedAttack
from advbench.images import level_budget
from advbench.rng import torch_stream

Restarts = Annotated[int, Field(ge=1, le=1000)]
RandomStart = Literal["uniform", "grid", "none"]


class PGD(IteratedAttack):
    """BIM from a random point of the ball.

    Attributes:
        random_start: ``uniform`` in the ball, ``grid`` (whole grey levels), or ``none``.
        restarts: from how many random points; the strongest image is kept.
    """

    name: ClassVar[str] = "pgd"
    added: ClassVar[dict[str, Any]] = IteratedAttack.added | {"restarts": 1}

    random_start: RandomStart = "uniform"
    restarts: Restarts = 1

    def passes(self) -> int:
        return super().passes() * self.restarts

    def runs(self) -> int:
        return self.restarts

    def start(self, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]) -> Tensor:
        return random_point(x, eps, keys, self.random_start)


def random_point(
    x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]], how: RandomStart
) -> Tensor:
    """Draw a point of each image's ball of radius ``eps``, in [0, 1]."""
    if how == "none":
        return x
    noise = torch.stack(
        [
            _draw(x.shape[1:], float(radius) * 255, key, how)
            for radius, key in zip(eps.flatten(), keys, strict=True)
        ]
    )
    return (x + noise.to(x)).clamp(0, 1)


def _draw(shape: torch.Size, levels: float, key: tuple[object, ...], how: RandomStart) -> Tensor:
    """Noise of up to ``levels`` grey levels from the image's own stream, in [0, 1] units."""
    stream = torch_stream(*key, "start")
    if how == "grid":
        whole = level_budget(levels)
        return torch.randint(-whole, whole + 1, shape, generator=stream).float() / 255
    return (torch.rand(shape, generator=stream) * 2 - 1) * levels / 255
