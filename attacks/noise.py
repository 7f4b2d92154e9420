"""Random noise of the same budget: the control that every attack must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import BoundedAttack
from advbench.rng import torch_stream


class Noise(BoundedAttack):
    """Uniform signs times φ, from the image's own stream: the victim is never asked."""

    name: ClassVar[str] = "noise"
    needs_gradients: ClassVar[bool] = False

    def passes(self) -> int:
        return 0

    def perturb_rows(
        self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        signs = torch.stack([self._signs(x.shape[1:], key) for key in keys])
        return gradient.kept_in_region((x + signs.to(x) * eps).clamp(0, 1), x)

    def _signs(self, shape: torch.Size, key: tuple[object, ...]) -> Tensor:
        return torch.randint(0, 2, shape, generator=torch_stream(*key)) * 2 - 1
