"""MI-FGSM: Dong et al., "Boosting Adversarial Attacks with Momentum", CVPR 2018."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import Direction, IteratedAttack


class MIFGSM(IteratedAttack):
    """BIM that follows a momentum of L1-normalised gradients.

    Attributes:
        decay: μ, what is kept of the momentum at each step.
    """

    name: ClassVar[str] = "mifgsm"

    decay: Annotated[float, Field(ge=0)] = 1.0

    def direction(
        self, gradient: InputGradient, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Direction:
        return Momentum(gradient, self.decay)


class Momentum:
    """m ← μ·m + g / mean|g|, per image."""

    def __init__(self, gradient: Direction, decay: float) -> None:
        self._gradient, self._decay = gradient, decay
        self._momentum: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        g = self._gradient(x)
        # The floor keeps a zero gradient from turning the momentum into NaN for good.
        g = g / g.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-30)
        self._momentum = g if self._momentum is None else self._momentum.mul_(self._decay).add_(g)
        return self._momentum
