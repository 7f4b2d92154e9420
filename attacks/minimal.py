"""The least noise that costs a localization so much: the smallest φ, image by image.

After the minimum-norm attacks (DDN, Rony et al., CVPR 2019; FMN, Pintor et al., NeurIPS 2021),
where the norm is L∞ in whole grey levels, as images are stored: then bisection over φ is exact up
to the strength of the attack inside, which is APGD on the Dice loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from advbench.attacks.apgd import APGD
from advbench.attacks.base import Attack
from advbench.attacks.batch import Adversarial, Batch
from advbench.attacks.linf import Iterations
from advbench.attacks.strength import counted
from advbench.images import quantise
from advbench.scores.counts import f1
from advbench.victims.base import Victim

Share = Annotated[float, Field(gt=0, lt=1)]
Levels = Annotated[int, Field(ge=1, le=255)]


class Minimal(Attack):
    """Find each image's smallest φ at which APGD leaves no more than a share of its F1.

    How far a stored image lies from its original (``linf``) is the result; the share of images
    below each φ is the robustness curve. Where the largest φ is not enough, its image is kept.

    Attributes:
        left: shares of the F1 on the original, by the same mask; 0.5 halves it.
        largest: φ that is tried at most, in grey levels.
        iterations: of APGD, at each φ that is tried.
        target: as of :class:`~advbench.attacks.linf.BoundedAttack`.
    """

    name: ClassVar[str] = "minimal"
    intensity_field: ClassVar[str] = "left"
    attacks_authentic: ClassVar[bool] = False  # there is no F1 to lose
    profiles: ClassVar[dict[str, dict[str, Any]]] = {"quick": {"iterations": 5}}

    left: tuple[Share, ...] = (0.5,)
    largest: Levels = 32
    iterations: Iterations = 20
    target: Literal["gt", "pred"] = "gt"

    @property
    def intensities(self) -> tuple[float, ...]:
        return self.left

    def budget(self, intensity: float) -> int | None:
        return self.largest

    def brief(self, steps: int = 1) -> Self:
        return super().brief().model_copy(update={"iterations": steps, "largest": 1})

    def passes(self) -> int:
        tries = self.largest.bit_length()
        return len(self.left) * tries * (self.iterations + 1)

    def perturb(self, victim: Victim, batch: Batch) -> dict[float, list[Adversarial]]:
        """Bisect the φ of each image; images that try the same one are attacked together."""
        wanted = self._at(1).targets(victim, batch)
        clean = [
            _f1(victim, batch, wanted[number], number, image=one)
            for number, one in enumerate(batch.x)
        ]
        found = {}
        for share in self.left:
            searches = [_Search(self.largest + 1, share * score) for score in clean]
            while waiting := [i for i, search in enumerate(searches) if search.phi]:
                phi = min(searches[i].phi for i in waiting)
                index = [i for i in waiting if searches[i].phi == phi]
                part = Batch(
                    batch.x[index],
                    batch.y[index],
                    [batch.ids[i] for i in index],
                    batch.seed,
                    batch.runner,
                )
                (images,) = self._at(phi).perturb(victim, part).values()
                for i, image in zip(index, images, strict=True):
                    searches[i].tell(
                        image, _f1(victim, batch, wanted[i], i, image=image.float_image)
                    )
            found[share] = [search.result for search in searches]
        return found

    def _at(self, phi: int) -> APGD:
        return APGD(
            eps=(float(phi),),
            loss="dice",
            iterations=self.iterations,
            target=self.target,
            region=self.region,
        )


class _Search:
    """Bisection for one image: φ below ``least`` is not enough, from ``enough`` on it is."""

    def __init__(self, enough: int, allowed: float) -> None:
        self._least, self._enough, self._allowed = 1, enough, allowed
        self._best: Adversarial | None = None
        self._last: Adversarial | None = None
        self._gradients = 0

    @property
    def phi(self) -> int:
        """The φ to try next; 0 where the search has ended."""
        return (self._least + self._enough) // 2 if self._least < self._enough else 0

    def tell(self, image: Adversarial, f1: float) -> None:
        """Take in what the φ to try gave."""
        self._gradients += image.gradients
        self._last = image
        if f1 <= self._allowed:
            self._enough, self._best = self.phi, image
        else:
            self._least = self.phi + 1

    @property
    def result(self) -> Adversarial:
        """The image of the smallest φ that was enough, or of the largest one."""
        found = self._best or self._last
        assert found is not None
        return replace(found, gradients=self._gradients)


@torch.no_grad()
def _f1(victim: Victim, batch: Batch, truth: Tensor, number: int, *, image: Tensor) -> float:
    """F1 of an image as it will be stored, over the draws of a random defense."""
    original = batch.x[number].mul(255).round().byte()
    stored = quantise(image, original, None)[None].to(batch.x) / 255
    scores = []
    for draw in range(victim.draws):
        keys = [(batch.seed, batch.ids[number], Minimal.name, "score", 0, draw)]
        counts = counted(victim.logits_for(stored, keys), truth[None], victim.threshold)
        scores.append(f1(counts).item())
    return sum(scores) / len(scores)
