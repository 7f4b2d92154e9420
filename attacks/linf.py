"""Attacks with an L∞ budget φ: what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from advbench.attacks.base import Adversarial, Attack, each_once
from advbench.attacks.gradient import InputGradient
from advbench.images import level_budget
from advbench.inference.batching import in_batches
from advbench.victims.base import Victim

Eps = Annotated[float, Field(ge=0, le=255)]


class BoundedAttack(Attack):
    """An attack whose noise stays within φ of the image.

    Attributes:
        eps: intensities φ in grey levels; 3 means 3/255.
        target: whose mask the loss is computed with: ``gt``, the ground truth (the paper), or
            ``pred``, the victim's own prediction on the original, which cannot leak the truth.
    """

    intensity_field: ClassVar[str] = "eps"

    eps: tuple[Eps, ...] = Field(default=(1.0, 2.0, 3.0), min_length=1)
    target: Literal["gt", "pred"] = "gt"

    @field_validator("eps", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    @field_validator("eps")
    @classmethod
    def _each_once(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return each_once(value)

    @property
    def intensities(self) -> tuple[float, ...]:
        return self.eps

    @property
    def from_the_image(self) -> bool:
        """Whether the first gradient is that at the image itself, the same for all φ."""
        return False

    def budget(self, intensity: float) -> int | None:
        return level_budget(intensity)

    @abstractmethod
    def perturb_rows(
        self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        """The attack on a stack of rows.

        Args:
            gradient: ∇J for these rows.
            x: float R×3×H×W in [0, 1].
            eps: R×1×1×1 in [0, 1].
            keys: parts of each row's stream key.

        Returns:
            float R×3×H×W within ``eps`` of ``x`` and in [0, 1].
        """

    def perturb(
        self, victim: Victim, x: Tensor, y: Tensor, ids: Sequence[str], seed: int, batch: int
    ) -> dict[float, list[Adversarial]]:
        """Images × intensities as one stack of rows, ``batch`` at a time."""
        y = self.targets(victim, x, y, batch)
        rows = [(eps, image) for eps in self.eps for image in range(len(x))]
        firsts = self._first_gradients(victim, x, y, batch)

        def attack(chunk: Sequence[tuple[float, int]]) -> list[Adversarial]:
            index = [image for _, image in chunk]
            eps = torch.tensor([eps for eps, _ in chunk], device=x.device) / 255
            keys = [(seed, ids[image], self.name, f"{eps:g}") for eps, image in chunk]
            first = firsts and (firsts[0][index], firsts[1][index])
            gradient = InputGradient(victim, y[index], first)
            floats = self.perturb_rows(gradient, x[index], eps.view(-1, 1, 1, 1), keys)
            return traced(floats, gradient)

        found = in_batches(rows, batch, attack)
        return {eps: found[k * len(x) : (k + 1) * len(x)] for k, eps in enumerate(self.eps)}

    def _first_gradients(
        self, victim: Victim, x: Tensor, y: Tensor, batch: int
    ) -> tuple[Tensor, Tensor] | None:
        """Gradients and losses at the images, where several φ begin with them."""
        if not self.from_the_image or len(self.eps) == 1 or not len(x):
            return None

        def attack(index: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
            gradient = InputGradient(victim, y[list(index)])
            found = gradient(x[list(index)])
            return list(zip(found, gradient.loss_last, strict=True))

        gradients, losses = zip(*in_batches(range(len(x)), batch, attack), strict=True)
        return torch.stack(gradients), torch.stack(losses)

    def targets(self, victim: Victim, x: Tensor, y: Tensor, batch: int) -> Tensor:
        """The masks of the loss, according to ``target``."""
        if self.target == "gt":
            return y

        @torch.no_grad()
        def predict(chunk: Sequence[Tensor]) -> list[Tensor]:
            return list(victim.probabilities(torch.stack(list(chunk))) > victim.threshold)

        return torch.stack(in_batches(list(x), batch, predict)).to(y.dtype)


def traced(floats: Tensor, gradient: InputGradient) -> list[Adversarial]:
    """Rows with the trace of the gradients that made them."""
    first = gradient.loss_first if gradient.loss_first is not None else gradient.loss_last
    numbers = torch.stack([first, gradient.loss_last, gradient.zero_gradients.float()], 1).tolist()
    return [
        Adversarial(image, start, end, int(zeros))
        for image, (start, end, zeros) in zip(floats.detach(), numbers, strict=True)
    ]
