"""APGD: Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
Parameter-free Attacks", ICML 2020: PGD whose step halves where it stops paying."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import BoundedAttack, Iterations
from advbench.attacks.pgd import Restarts, random_point

MOMENTUM, RISES = 0.75, 0.75  # share of the new step; of steps that must have risen


class APGD(BoundedAttack):
    """From a random point, steps of 2 φ with momentum; at checkpoints a row whose loss rose too
    seldom goes back to its best point with half the step. The best point is the result.

    Attributes:
        iterations: T; the gradient at the start is one more.
        restarts: from how many random points; the strongest image is kept.
    """

    name: ClassVar[str] = "apgd"
    added: ClassVar[dict[str, Any]] = BoundedAttack.added | {"restarts": 1}
    profiles: ClassVar[dict[str, dict[str, Any]]] = {"quick": {"iterations": 5}}

    iterations: Iterations = 20
    restarts: Restarts = 1

    def brief(self, steps: int = 1) -> Self:
        return super().brief().model_copy(update={"iterations": steps})

    def passes(self) -> int:
        return len(self.eps) * (self.iterations + 1) * self.restarts

    def runs(self) -> int:
        return self.restarts

    def perturb_rows(
        self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        def inside(images: Tensor) -> Tensor:
            return (x + (images - x).minimum(eps).maximum(-eps)).clamp(0, 1)

        start = random_point(x, eps, keys, "uniform")
        current = gradient.kept_in_region(start, x)
        g = gradient(current)
        best = _Best(current, g, gradient.losses)
        step, before = 2 * eps, current
        rises = torch.zeros(len(x), device=x.device)
        checkpoint, halved = best.loss, torch.ones(len(x), dtype=torch.bool, device=x.device)
        ends = _checkpoints(self.iterations)
        since = 0
        for number in range(self.iterations):
            gradient.progress = number / self.iterations
            share = MOMENTUM if number else 1.0
            stepped = inside(current + step * g.sign())
            moved = inside(current + share * (stepped - current) + (1 - share) * (current - before))
            before, previous = current, gradient.losses
            current = moved
            g = gradient(current)
            rises += gradient.losses > previous
            best.update(current, g, gradient.losses)
            since += 1
            if number + 1 in ends:
                stuck = (rises <= RISES * since) | (~halved & (checkpoint >= best.loss))
                wide = stuck.view(-1, 1, 1, 1)
                step = torch.where(wide, step / 2, step)
                current, g = torch.where(wide, best.images, current), torch.where(wide, best.g, g)
                rises, since = torch.zeros_like(rises), 0
                checkpoint, halved = best.loss, stuck
        return best.images


class _Best:
    """The image of the largest loss in each row, with its gradient."""

    def __init__(self, images: Tensor, g: Tensor, loss: Tensor) -> None:
        self.images, self.g, self.loss = images, g, loss

    def update(self, images: Tensor, g: Tensor, loss: Tensor) -> None:
        better = loss > self.loss
        wide = better.view(-1, 1, 1, 1)
        self.images, self.g = torch.where(wide, images, self.images), torch.where(wide, g, self.g)
        self.loss = torch.where(better, loss, self.loss)


def _checkpoints(iterations: int) -> set[int]:
    """Numbers of steps after which the step size is looked at: 22 % of all, then ever shorter
    periods, by 3 % each time, down to 6 %."""
    period, least = max(int(0.22 * iterations), 1), max(int(0.06 * iterations), 1)
    found, at = set(), 0
    while at + period <= iterations:
        at += period
        found.add(at)
        period = max(period - max(int(0.03 * iterations), 1), least)
    return found
