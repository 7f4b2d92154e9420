"""FGSM: Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015.

Eq. 3 of the ANSM paper: ξ = φ · range · sign(∇ J(V(X), M_gt)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from advbench.attacks.batch import Adversarial, Batch
from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import BoundedAttack, traced
from advbench.attacks.regions import region_mask
from advbench.victims.base import Victim


class FGSM(BoundedAttack):
    """One step of size φ; one gradient serves all φ."""

    name: ClassVar[str] = "fgsm"

    def passes(self) -> int:
        return 1

    def perturb_rows(
        self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        return (x + eps * gradient(x).sign()).clamp(0, 1)

    def perturb(self, victim: Victim, batch: Batch) -> dict[float, list[Adversarial]]:
        region = region_mask(self.region, batch.y)
        wanted = self.targets(victim, batch)

        def attack(index: Sequence[int]) -> list[list[Adversarial]]:
            gradient = InputGradient(
                victim,
                wanted[list(index)],
                batch.runner,
                loss=self.loss,
                keys=[(batch.seed, batch.ids[image], self.name) for image in index],
                region=None if region is None else region[list(index)],
            )
            base = batch.x[list(index)]
            sign = gradient(base).sign()
            per_eps = [
                traced(base.add(sign, alpha=eps / 255).clamp_(0, 1), gradient) for eps in self.eps
            ]
            return [list(rows) for rows in zip(*per_eps, strict=True)]

        found = batch.runner.map(range(len(batch)), attack)
        return {eps: [rows[k] for rows in found] for k, eps in enumerate(self.eps)}
