"""PGN: Ge et al., "Boosting Adversarial Transferability by Achieving Flat Local Maxima",
NeurIPS 2023: momentum over gradients that are penalised by their norm, averaged over neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import Direction, IteratedAttack, Iterations
from advbench.attacks.mifgsm import Momentum
from advbench.rng import torch_stream


class PGN(IteratedAttack):
    """Two first-order gradients at each of N random neighbours, mixed by δ.

    Attributes:
        neighbours: N.
        zeta: radius of the neighbourhood, in φ.
        delta: weight of the gradient at the lower-loss point.
        decay: of the momentum.
    """

    name: ClassVar[str] = "pgn"
    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "original": {"alpha": "eps/T"},
        "quick": {"neighbours": 5, "iterations": 5, "alpha": "eps/5"},
    }

    iterations: Iterations = 10
    alpha: float | str = "eps/10"
    neighbours: Annotated[int, Field(ge=1)] = 20
    zeta: Annotated[float, Field(ge=0)] = 3.0
    delta: Annotated[float, Field(ge=0, le=1)] = 0.5
    decay: Annotated[float, Field(ge=0)] = 1.0

    def brief(self, steps: int = 1) -> Self:
        return super().brief(steps).model_copy(update={"neighbours": 1})

    def passes(self) -> int:
        return super().passes() * 2 * self.neighbours

    def direction(
        self, gradient: InputGradient, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Direction:
        streams = [torch_stream(*key, "neighbours") for key in keys]
        alpha = self.step_size(eps)
        # On the CPU one neighbour at a time: sums then have one order whatever the batch. So too
        # behind a random defense, whose draws are numbered by call.
        alone = eps.device.type == "cpu" or gradient.victim.draws > 1
        at_once = 1 if alone else max(1, gradient.runner.batch // len(eps))

        def flat(x: Tensor) -> Tensor:
            total = torch.zeros_like(x)
            for start in range(0, self.neighbours, at_once):
                count = min(at_once, self.neighbours - start)
                noise = torch.stack(
                    [torch.rand((count, *x.shape[1:]), generator=stream) for stream in streams], 1
                )
                radius = self.zeta * eps
                near = (x + (noise.to(x) * 2 - 1) * radius).flatten(0, 1)
                first = gradient(near)
                scale = first.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-30)
                step = alpha if isinstance(alpha, float) else alpha.repeat(count, 1, 1, 1)
                second = gradient(near - step * first / scale)
                mixed = (1 - self.delta) * first + self.delta * second
                for neighbour in mixed.view(count, *x.shape):
                    total += neighbour
            return total

        return Momentum(flat, self.decay)
