"""Attacks with an L∞ budget φ, and the loop of the iterated ones."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator
from torch import Tensor

from advbench.attacks.base import Attack
from advbench.attacks.batch import Adversarial, Batch
from advbench.attacks.gradient import InputGradient
from advbench.attacks.losses import LossName
from advbench.attacks.regions import region_mask
from advbench.attacks.strength import strongest_of
from advbench.images import level_budget, rounds_to_nothing
from advbench.victims.base import Victim

GREY_LEVELS = "it is in grey levels: 3 means 3/255"

Direction = Callable[[Tensor], Tensor]
Iterations = Annotated[int, Field(ge=1, le=10_000)]
Eps = Annotated[float, Field(ge=0, le=255)]


class BoundedAttack(Attack):
    """An attack whose noise stays within φ of the image.

    Attributes:
        eps: intensities φ in grey levels; 3 means 3/255.
        target: whose mask the loss is computed with: ``gt``, the ground truth (the paper), or
            ``pred``, the victim's own prediction on the original, which cannot leak the truth.
        loss: J, which it raises: ``bce`` (the paper's), or another one of
            :mod:`advbench.attacks.losses`.
    """

    intensity_field: ClassVar[str] = "eps"
    added: ClassVar[dict[str, Any]] = Attack.added | {"loss": "bce"}

    eps: tuple[Eps, ...] = Field(default=(1.0, 2.0, 3.0), min_length=1)
    target: Literal["gt", "pred"] = "gt"
    loss: LossName = "bce"

    @property
    def label(self) -> str:
        """The registry name, with the loss where it is not the usual one, as in ``pgd_dice``."""
        return self.name if self.loss == "bce" else f"{self.name}_{self.loss}"

    @property
    def intensities(self) -> tuple[float, ...]:
        return self.eps

    def budget(self, intensity: float) -> int | None:
        return level_budget(intensity)

    def without_effect(self, intensity: float) -> str | None:
        if level_budget(intensity) == 0:
            return f"eps: {intensity:g} changes no pixel; {GREY_LEVELS}"
        return super().without_effect(intensity)

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

    def perturb(self, victim: Victim, batch: Batch) -> dict[float, list[Adversarial]]:
        """Images × intensities as one stack of rows; of several runs the strongest is kept."""
        x, runner = batch.x, batch.runner
        region = region_mask(self.region, batch.y)
        wanted = self.targets(victim, batch)
        rows = [(eps, image) for eps in self.eps for image in range(len(x))]
        keys = [(batch.seed, batch.ids[image], self.name, f"{eps:g}") for eps, image in rows]

        def once(more: tuple[object, ...]) -> list[Adversarial]:
            def attack(chunk: Sequence[int]) -> list[Adversarial]:
                index = [rows[row][1] for row in chunk]
                eps = torch.tensor([rows[row][0] for row in chunk], device=x.device) / 255
                own = [(*keys[row], *more) for row in chunk]
                gradient = InputGradient(
                    victim,
                    wanted[index],
                    runner,
                    loss=self.loss,
                    keys=own,
                    region=None if region is None else region[index],
                )
                floats = self.perturb_rows(gradient, x[index], eps.view(-1, 1, 1, 1), own)
                return traced(floats, gradient)

            return runner.map(range(len(rows)), attack)

        runs = [once((run,) if run else ()) for run in range(self.runs())]
        found = {}
        for k, eps in enumerate(self.eps):
            part = slice(k * len(x), (k + 1) * len(x))
            candidates = [run[part] for run in runs]
            found[eps] = strongest_of(
                candidates,
                victim,
                x,
                wanted,
                budget=self.budget(eps),
                keys=keys[part],
                runner=runner,
            )
        return found

    def runs(self) -> int:
        """Count the runs from other random numbers; the strongest image of each is kept."""
        return 1

    def targets(self, victim: Victim, batch: Batch) -> Tensor:
        """The masks of the loss, according to ``target``."""
        if self.target == "gt":
            return batch.y

        @torch.no_grad()
        def predict(chunk: Sequence[Tensor]) -> list[Tensor]:
            return list(victim.probabilities(torch.stack(list(chunk))) > victim.threshold)

        return torch.stack(batch.runner.map(list(batch.x), predict)).to(batch.y.dtype)


class IteratedAttack(BoundedAttack):
    """The loop of BIM, PGD, MI-FGSM and PGN, which differ in :meth:`start` and :meth:`direction`:
    x ← Π(x + α · sign(direction)), Π onto the ball of radius φ and onto [0, 1].

    Attributes:
        iterations: T.
        alpha: step size in grey levels, or a part of φ: ``"eps/10"``, ``"eps/T"``.
    """

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"iterations": 10, "alpha": 1.0},
        "torchattacks": {"iterations": 10, "alpha": 2.0},
        "original": {"iterations": 10, "alpha": "eps/T"},
        "quick": {"iterations": 5},
    }

    iterations: Iterations = 20
    alpha: float | str = "eps/4"

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
        return len(self.eps) * self.iterations

    def without_effect(self, intensity: float) -> str | None:
        whole = self.iterations * float(self.step_size(torch.tensor(intensity / 255)))
        steps = f"{self.iterations} steps of {self.alpha}"
        fault = f"alpha: {steps} change no pixel; {GREY_LEVELS}"
        return super().without_effect(intensity) or (fault if rounds_to_nothing(whole) else None)

    def start(self, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]) -> Tensor:
        """Return where the iteration begins: the image itself."""
        return x

    def direction(
        self, gradient: InputGradient, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Direction:
        """Return what each step follows the sign of; a fresh closure a run, so that it may
        remember."""
        return gradient

    def perturb_rows(
        self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        alpha, direction = self.step_size(eps), self.direction(gradient, eps, keys)
        current = gradient.kept_in_region(self.start(x, eps, keys), x)
        for step in range(self.iterations):
            gradient.progress = step / self.iterations
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


def traced(floats: Tensor, gradient: InputGradient) -> list[Adversarial]:
    """Rows with the trace of the gradients that made them."""
    first = gradient.loss_first if gradient.loss_first is not None else gradient.loss_last
    counts = (gradient.zero_gradients.float(), gradient.broken_at.float())
    numbers = torch.stack([first, gradient.loss_last, *counts], 1).tolist()
    return [
        Adversarial(image, start, end, int(zeros), int(broken), gradient.gradients)
        for image, (start, end, zeros, broken) in zip(floats.detach(), numbers, strict=True)
    ]


def _number(text: str) -> float:
    """A number from the command line; NaN, which no range admits, for any other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan
