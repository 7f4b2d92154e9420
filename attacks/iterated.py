"""The loop of the iterated sign attacks: BIM, PGD, MI-FGSM and PGN differ in two hooks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator
from torch import Tensor

from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import BoundedAttack

Direction = Callable[[Tensor], Tensor]


class IteratedAttack(BoundedAttack):
    """x ← Π(x + α · sign(direction)), Π onto the ball of radius φ and onto [0, 1].

    Attributes:
        iterations: T.
        alpha: step size in grey levels, or a part of φ: ``"eps/10"``, ``"eps/T"``.
    """

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "torchattacks": {"alpha": 2.0},
        "original": {"alpha": "eps/T"},
        "quick": {"iterations": 5},
    }

    iterations: Annotated[int, Field(ge=1, le=10_000)] = 10
    alpha: float | str = 1.0

    @field_validator("alpha")
    @classmethod
    def _positive_or_part(cls, value: float | str) -> float | str:
        if isinstance(value, str):
            if re.fullmatch(r"eps/(T|[1-9]\d*)", value):
                return value
            value = _number(value)
        if not 0 < value <= 255:
            raise ValueError("must be grey levels above 0, or a part of eps such as eps/10")
        return value

    def brief(self, steps: int = 1) -> Self:
        return super().brief().model_copy(update={"iterations": steps})

    def passes(self) -> int:
        return len(self.eps) * self.iterations - self.from_the_image * (len(self.eps) - 1)

    def start(self, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]) -> Tensor:
        """Where the iteration begins: the image itself."""
        return x

    def direction(
        self, gradient: InputGradient, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Direction:
        """What each step follows the sign of; a fresh closure a run, so that it may remember."""
        return gradient

    def perturb_rows(
        self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        alpha, direction = self.step_size(eps), self.direction(gradient, eps, keys)
        current = self.start(x, eps, keys)
        for _ in range(self.iterations):
            stepped = direction(current).sign().mul_(alpha).add_(current)
            noise = stepped.sub_(x).minimum(eps).maximum(-eps)
            current = noise.add_(x).clamp_(0, 1)
        return current

    def step_size(self, eps: Tensor) -> Tensor | float:
        """α in [0, 1] units, for each row."""
        if isinstance(self.alpha, str):
            parts = self.alpha.removeprefix("eps/")
            return eps / (self.iterations if parts == "T" else int(parts))
        return self.alpha / 255


def _number(text: str) -> float:
    """A number from the command line; NaN, which no range admits, for any other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan
