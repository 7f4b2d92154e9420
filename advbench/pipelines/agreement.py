"""The gate before less than float32: how far it agrees, on the first images of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from advbench.attacks.bim import BIM
from advbench.attacks.gradient import InputGradient
from advbench.errors import AdvbenchError
from advbench.images import fit_mask, to_tensor, to_unit
from advbench.inference.numerics import deterministic_mode
from advbench.inference.precision import Precision, at_precision
from advbench.pipelines.making import Request
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim

IMAGES = 32
LEAST_SIGNS, MOST_F1 = 0.98, 0.01


@dataclass(frozen=True)
class Agreement:
    """With float32.

    Attributes:
        signs: share of the gradient's absolute sum whose sign agrees, in the mean over images.
        f1: absolute difference of the mean F1 under BIM, φ = 3.
    """

    signs: float
    f1: float

    @property
    def enough(self) -> bool:
        """Whether images may be made so."""
        return self.signs >= LEAST_SIGNS and self.f1 <= MOST_F1


def check_agreement(request: Request) -> Agreement:
    """Measure a request's precision on its first images.

    Raises:
        AdvbenchError: it agrees too little, or the device does not have it.
    """
    precision, victim = request.precision, request.victim
    if precision == "tf32" and victim.device.type != "cuda":
        raise AdvbenchError("--precision tf32 needs an NVIDIA GPU; leave the option out")
    rows = request.rows[:IMAGES]
    pairs = [(victim.fit(request.dataset.image(row)), request.dataset.mask(row)) for row in rows]
    signs, differences = [], []
    for image, mask in pairs:
        pixels = to_tensor(image)
        truth = torch.from_numpy(fit_mask(mask, image).copy())[None]
        exact, other = (_gradient(victim, pixels, truth, each) for each in ("fp32", precision))
        weight = exact.abs()
        same = (weight * (exact.sign() == other.sign())).sum() / weight.sum().clamp_min(1e-30)
        signs.append(float(same) if weight.any() else 1.0)
        f1 = [_f1_under_bim(victim, pixels, truth, each) for each in ("fp32", precision)]
        differences.append(f1[0] - f1[1])
    found = Agreement(float(np.mean(signs)), abs(float(np.mean(differences))))
    if not found.enough:
        raise AdvbenchError(
            f"--precision {precision}: on {len(rows)} images {100 * found.signs:.1f} % of the "
            f"gradient has the sign it has in fp32 ({100 * LEAST_SIGNS:.0f} needed), and F1 under "
            f"BIM differs by {found.f1:.3f} ({MOST_F1} allowed); leave the option out"
        )
    return found


def _gradient(victim: Victim, pixels: Tensor, truth: Tensor, precision: Precision) -> Tensor:
    x, y = to_unit(pixels.to(victim.device)), truth.to(victim.device)[:, None].float()
    with deterministic_mode(victim.network, precision):
        return InputGradient(at_precision(victim, precision), y)(x)


def _f1_under_bim(victim: Victim, pixels: Tensor, truth: Tensor, precision: Precision) -> float:
    """F1 of the victim in float32 on the image that was made at ``precision``."""
    attack = BIM.create(eps=(3.0,))
    (result,) = attack.run(victim, pixels, truth, ["gate"], precision=precision).values()
    return f1_of(victim, result.images, truth)


def f1_of(victim: Victim, image: Tensor, truth: Tensor) -> float:
    """F1 under f1/v1 of an undefended image uint8 1×3×H×W; truth bool 1×H×W of its size."""
    rule = protocol("f1/v1")
    with torch.inference_mode():
        map_ = victim.probabilities(to_unit(image.to(victim.device)))
    counts = rule.counts(map_[0, 0].float().cpu().numpy(), truth[0].numpy(), victim.threshold)
    return rule.f1(counts)
