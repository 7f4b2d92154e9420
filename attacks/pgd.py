"""PGD: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from advbench.attacks.linf import IteratedAttack
from advbench.images import level_budget
from advbench.rng import torch_stream


class PGD(IteratedAttack):
    """BIM from a random point of the ball.

    Attributes:
        random_start: ``uniform`` in the ball, ``grid`` (whole grey levels), or ``none``.
    """

    name: ClassVar[str] = "pgd"

    random_start: Literal["uniform", "grid", "none"] = "uniform"

    def start(self, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]) -> Tensor:
        if self.random_start == "none":
            return x
        noise = torch.stack(
            [
                self._draw(x.shape[1:], float(radius) * 255, key)
                for radius, key in zip(eps.flatten(), keys, strict=True)
            ]
        )
        return (x + noise.to(x)).clamp(0, 1)

    def _draw(self, shape: torch.Size, levels: float, key: tuple[object, ...]) -> Tensor:
        """Noise of up to ``levels`` grey levels from the image's own stream, in [0, 1] units."""
        stream = torch_stream(*key, "start")
        if self.random_start == "grid":
            whole = level_budget(levels)
            return torch.randint(-whole, whole + 1, shape, generator=stream).float() / 255
        return (torch.rand(shape, generator=stream) * 2 - 1) * levels / 255
