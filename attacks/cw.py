"""C&W for localization: eqs. 4 and 5 of the ANSM paper, after Carlini and Wagner,
"Towards Evaluating the Robustness of Neural Networks", S&P 2017."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from advbench.attacks.base import Attack
from advbench.attacks.batch import Adversarial, Batch
from advbench.attacks.gradient import logit
from advbench.attacks.regions import region_mask
from advbench.images import rounds_to_nothing
from advbench.inference.runner import BatchRunner
from advbench.victims.base import Victim

PAPER_LR, HINGE_LR = 1e-4, 3e-4

Steps = Annotated[int, Field(ge=1, le=100_000)]


class CW(Attack):
    """‖ξ‖² + c·f towards the all-zero mask; snapshots of one trajectory are the intensities.

    Variant ``paper``: f = Σ (2P − 1 − k) over the pixels, unclamped, k = 2δ − 1; the last iterate
    at each snapshot. Variant ``hinge``: f = Σ max(z − logit δ + κ, 0); at each snapshot the best so
    far (fewest pixels above the threshold, then least ‖ξ‖²). Nothing depends on the largest number
    of steps, so a snapshot equals a separate, shorter run. The ground truth is never read.

    Attributes:
        steps: numbers of gradient steps m at which the image is taken.
        variant: ``paper`` or ``hinge``.
        optimizer: ``adam``, or ``gd`` for eq. 5 literally.
        lr: step size in [0, 1] units; by default 1e-4 for ``paper``, 3e-4 for ``hinge``.
        c: weight of f.
        kappa: margin of the hinge, in logits.
        early_stop: end an image of variant ``hinge`` once f = 0, every pixel past the margin; later
            steps could only make ‖ξ‖ smaller.
        project: keep the image in [0, 1] at ``each`` step, or truncate it at the end (``final``).
    """

    name: ClassVar[str] = "cw"
    intensity_field: ClassVar[str] = "steps"
    attacks_authentic: ClassVar[bool] = False  # the empty mask is what an authentic image has

    steps: tuple[Steps, ...] = Field(default=(50, 100, 150, 200, 250), min_length=1)
    variant: Literal["paper", "hinge"] = "paper"
    optimizer: Literal["adam", "gd"] = "adam"
    lr: Annotated[float, Field(gt=0, le=1)] = PAPER_LR
    c: Annotated[float, Field(ge=0)] = 1.0
    kappa: Annotated[float, Field(ge=0)] = 2.0
    early_stop: bool = False
    project: Literal["each", "final"] = "each"

    @model_validator(mode="before")
    @classmethod
    def _lr_of_variant(cls, settings: dict[str, Any]) -> dict[str, Any]:
        if settings.get("variant") == "hinge":
            return {"lr": HINGE_LR} | settings
        return settings

    @model_validator(mode="after")
    def _hinge_stays_inside(self) -> Self:
        if self.variant == "hinge" and self.project == "final":
            raise ValueError("hinge keeps the best image it saw, so it projects at each step")
        if self.early_stop and self.variant != "hinge":
            raise ValueError("early_stop is for variant=hinge, whose f can reach 0")
        return self

    @property
    def intensities(self) -> tuple[float, ...]:
        return self.steps

    def budget(self, intensity: float) -> int | None:
        return None

    def without_effect(self, intensity: float) -> str | None:
        # Adam moves a pixel by about lr a step.
        if self.optimizer == "adam" and rounds_to_nothing(intensity * self.lr):
            return f"steps: {intensity:g} steps of lr {self.lr:g} change no pixel; take more"
        return super().without_effect(intensity)

    def brief(self, steps: int = 1) -> Self:
        return self.only([steps])

    def passes(self) -> int:
        return max(self.steps) + (len(self.steps) if self.variant == "hinge" else 0)

    def perturb(self, victim: Victim, batch: Batch) -> dict[float, list[Adversarial]]:
        """Optimise towards the all-zero mask from ξ₀ = 0; the masks serve the region alone, ids and
        seed a random defense."""
        region = region_mask(self.region, batch.y)

        def attack(index: Sequence[int]) -> list[list[Adversarial]]:
            some = list(index)
            keys = [(batch.seed, batch.ids[image], self.name) for image in some]
            allowed = None if region is None else region[some]
            return self._trajectory(victim, batch.x[some], keys, allowed, runner=batch.runner)

        found = batch.runner.map(range(len(batch)), attack)
        return {m: [snapshots[k] for snapshots in found] for k, m in enumerate(self.steps)}

    def _trajectory(
        self,
        victim: Victim,
        x: Tensor,
        keys: Sequence[tuple[object, ...]],
        region: Tensor | None,
        *,
        runner: BatchRunner,
    ) -> list[list[Adversarial]]:
        noise = torch.zeros_like(x, requires_grad=True)
        optimizer: torch.optim.Optimizer = (
            torch.optim.Adam([noise], self.lr)
            if self.optimizer == "adam"
            else torch.optim.SGD([noise], self.lr)
        )
        best = Best(x, logit(victim.threshold)) if self.variant == "hinge" else None
        first, last = (torch.zeros(len(x), device=x.device) for _ in range(2))
        zeros = torch.zeros(len(x), dtype=torch.long, device=x.device)
        broken_at, taken = torch.zeros_like(zeros), torch.zeros_like(zeros)
        ended = torch.zeros_like(zeros, dtype=torch.bool)
        snapshots: dict[int, list[Adversarial]] = {}

        def snapshot(images: Tensor) -> list[Adversarial]:
            counts = (zeros.float(), broken_at.float(), taken.float())
            numbers = torch.stack([first, last, *counts], 1).tolist()
            return [
                Adversarial(image.clone(), start, end, *map(int, counted))
                for image, (start, end, *counted) in zip(images, numbers, strict=True)
            ]

        for step in range(1, max(self.steps) + 1):
            runner.check_cancelled()
            at_step = [(*key, step) for key in keys]
            objective, f, logits = self._objective(victim, x, noise, at_step)
            last = torch.where(ended, last, objective.detach())
            first = last if step == 1 else first
            if best is not None:
                best.update(x + noise.detach(), logits, noise)
            if best is not None and self.early_stop:
                past_margin = (f.detach() == 0) & logits.isfinite().flatten(1).all(1)
                ended = best.ended = ended | past_margin
                if ended.all():
                    snapshots |= {m: snapshot(best.images) for m in self.steps if m >= step}
                    break
            (noise.grad,) = torch.autograd.grad(objective.sum(), noise)
            runner.on_pass(len(x))
            taken += ~ended
            largest = noise.grad.abs().amax((1, 2, 3))
            zeros += (largest == 0) & ~ended
            # The loss is finite where a logit is infinite.
            finite = logits.isfinite().flatten(1).all(1) & last.isfinite() & largest.isfinite()
            broken_at[~finite & ~ended & (broken_at == 0)] = step
            if region is not None:
                noise.grad *= region
            optimizer.step()
            if self.project == "each":
                with torch.no_grad():
                    noise.copy_((x + noise).clamp(0, 1) - x)
            if step in self.steps:
                images = (x + noise.detach()).clamp(0, 1)
                if best is not None:
                    with torch.no_grad():
                        logits = victim.logits_for(images, at_step)
                    images = best.joined(images, logits, noise)
                snapshots[step] = snapshot(images)
        return [list(row) for row in zip(*(snapshots[m] for m in self.steps), strict=True)]

    def _objective(
        self, victim: Victim, x: Tensor, noise: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Per image ‖ξ‖² + c·f, f summed over pixels, and the logits; over a random defense's draws
        f is the mean, and the logits are those of the last."""
        total, logits = self._f(victim, x + noise, [(*key, 0) for key in keys])
        for draw in range(1, victim.draws):
            more, logits = self._f(victim, x + noise, [(*key, draw) for key in keys])
            total = total + more
        f = total / victim.draws
        return noise.square().sum((1, 2, 3)) + self.c * f, f, logits

    def _f(
        self, victim: Victim, images: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> tuple[Tensor, Tensor]:
        """Per image f summed over pixels, and the logits."""
        logits = victim.logits_for(images, keys).float()
        if self.variant == "paper":
            k = 2 * victim.threshold - 1
            f = 2 * torch.sigmoid(logits) - 1 - k
        else:
            f = (logits - logit(victim.threshold) + self.kappa).clamp_min(0)
        return f.sum((1, 2, 3)), logits


class Best:
    """The best image seen so far: fewest logits above the threshold, then least ‖ξ‖².

    Attributes:
        ended: those whose best image stays as it is.
    """

    def __init__(self, x: Tensor, threshold: float) -> None:
        self._x, self._threshold, self.images = x, threshold, x.clone()
        self.ended = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self._forged = torch.full((len(x),), math.inf, device=x.device)
        self._energy = torch.full((len(x),), math.inf, device=x.device)

    def update(self, images: Tensor, logits: Tensor, noise: Tensor) -> None:
        """Keep each image that beats what was kept."""
        forged = (logits.detach() > self._threshold).flatten(1).sum(1).float()
        energy = noise.detach().square().sum((1, 2, 3))
        better = (forged < self._forged) | ((forged == self._forged) & (energy < self._energy))
        better &= ~self.ended
        self._forged = torch.where(better, forged, self._forged)
        self._energy = torch.where(better, energy, self._energy)
        self.images = torch.where(better.view(-1, 1, 1, 1), images, self.images)

    def joined(self, images: Tensor, logits: Tensor, noise: Tensor) -> Tensor:
        """The best images if ``images`` were seen too; what is kept does not change, so that a
        snapshot alters nothing after it."""
        other = Best(self._x, self._threshold)
        other.images, other._forged, other._energy = self.images, self._forged, self._energy
        other.ended = self.ended
        other.update(images, logits, noise)
        return other.images
