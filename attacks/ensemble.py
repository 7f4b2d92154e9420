"""A fixed ensemble in the spirit of AutoAttack and SEA (Croce, Singh, Hein, ECCV 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import model_validator
from torch import Tensor

from advbench.attacks.apgd import APGD
from advbench.attacks.batch import Adversarial, Batch
from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import BoundedAttack
from advbench.attacks.losses import LossName
from advbench.attacks.strength import strongest_of
from advbench.victims.base import Victim

# By version: the losses, and the steps of APGD with each. Never changed once published.
PRESETS: dict[int, tuple[tuple[LossName, ...], int]] = {1: (("dice", "js", "margin"), 20)}


class Ensemble(BoundedAttack):
    """APGD with several losses; for each image the one that leaves the lowest F1 + MCC.

    Attributes:
        version: of the preset; 1 is 20 steps with each of ``dice``, ``js`` and ``margin``.
    """

    name: ClassVar[str] = "ensemble"

    version: Literal[1] = 1

    @model_validator(mode="after")
    def _own_losses(self) -> Self:
        if self.loss != "bce":
            raise ValueError("the ensemble has losses of its own; leave loss out")
        return self

    @property
    def members(self) -> list[APGD]:
        """The attacks whose strongest image is kept."""
        losses, iterations = PRESETS[self.version]
        return [
            APGD(
                eps=self.eps,
                target=self.target,
                region=self.region,
                loss=loss,
                iterations=iterations,
            )
            for loss in losses
        ]

    def brief(self, steps: int = 1) -> Self:
        return super().brief()

    def passes(self) -> int:
        return sum(member.passes() for member in self.members)

    def perturb(self, victim: Victim, batch: Batch) -> dict[float, list[Adversarial]]:
        found = [member.perturb(victim, batch) for member in self.members]
        wanted = self.targets(victim, batch)
        return {
            eps: strongest_of(
                [candidate[eps] for candidate in found],
                victim,
                batch.x,
                wanted,
                budget=self.budget(eps),
                keys=[(batch.seed, name, self.name, f"{eps:g}") for name in batch.ids],
                runner=batch.runner,
            )
            for eps in self.eps
        }

    def perturb_rows(
        self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        raise NotImplementedError("its members have rows of their own")
