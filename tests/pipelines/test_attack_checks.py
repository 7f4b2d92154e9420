"""Gates of an attack: planted faults, each caught by its own gate, and an honest attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from advbench.attacks.base import Attack
from advbench.attacks.cw import CW
from advbench.attacks.fgsm import FGSM
from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import BoundedAttack
from advbench.attacks.pgd import PGD
from advbench.pipelines.attack_checks import check_attack
from advbench.pipelines.checks import Sample
from advbench.scores.gates import Verdict
from tests.attacks.toys import LINEAR_WEIGHTS, Toy, linear

from .test_checks import samples

Keys = Sequence[tuple[object, ...]]


class Planted(BoundedAttack):
    """One step along the gradient's sign, with a fault."""

    def passes(self) -> int:
        return 1

    def perturb_rows(self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Keys) -> Tensor:
        return (x + self.step(gradient(x).sign(), eps)).clamp(0, 1)

    def step(self, signs: Tensor, eps: Tensor) -> Tensor:
        return eps * signs


class TooFar(Planted):
    name: ClassVar[str] = "too-far"

    def step(self, signs: Tensor, eps: Tensor) -> Tensor:
        return 1.5 * eps * signs


class Backwards(Planted):
    name: ClassVar[str] = "backwards"

    def step(self, signs: Tensor, eps: Tensor) -> Tensor:
        return -eps * signs


class Unkeyed(Planted):
    name: ClassVar[str] = "unkeyed"

    def step(self, signs: Tensor, eps: Tensor) -> Tensor:
        return eps * torch.where(torch.rand_like(signs) < 0.8, signs, -signs)


class BetweenLevels(Planted):
    """Noise of less than half a grey level."""

    name: ClassVar[str] = "between-levels"

    def step(self, signs: Tensor, eps: Tensor) -> Tensor:
        return 0.45 / 255 * signs


def verdicts(attack: Attack) -> dict[str, Verdict]:
    victim = Toy(linear(scale=60, bias=-18.4))
    return {gate.name: gate.verdict for gate in check_attack(victim, attack, samples())}


@pytest.mark.parametrize(
    ("attack", "failed"),
    [
        (TooFar(), "budget"),
        (Backwards(), "beats-random-noise"),
        (Unkeyed(), "draws-are-keyed"),
        (BetweenLevels(), "images-changed"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_planted_faults_fail(attack: Attack, failed: str) -> None:
    assert verdicts(attack)[failed] == Verdict.FAIL


@pytest.mark.parametrize(
    "attack", [FGSM(), PGD(iterations=5), CW(steps=(100, 200))], ids=lambda a: a.name
)
def test_honest_attacks_pass(attack: Attack) -> None:
    found = verdicts(attack)
    # C&W stops where the map has just turned, so rounding brings back a little.
    rounding = found.pop("survives-rounding")
    assert rounding == (Verdict.WARN if attack.name == "cw" else Verdict.PASS)
    assert set(found.values()) == {Verdict.PASS}, found
    assert {"images-changed", "draws-are-keyed", "grows-with-intensity"} <= set(found)
    assert ("budget" in found) == (attack.name != "cw")


def test_noise_between_grey_levels_does_not_survive() -> None:
    """A victim half a grey level away from its threshold: unrounded, 0.45 levels in all channels
    turn the whole map; stored, they are gone."""
    image = torch.full((1, 3, 16, 16), 120, dtype=torch.uint8)
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[:, 4:10, 4:10] = True
    step = 1 if LINEAR_WEIGHTS[0] > 0 else -1
    image[:, 0][mask] += step
    middle = linear()(image.float() / 255)[0, 0].detach()
    threshold = (middle[5, 5] + middle[0, 0]) / 2
    victim = Toy(linear(scale=1000, bias=float(1000 * (0.1 - threshold))))
    found = check_attack(victim, BetweenLevels(), [Sample("half", image, mask)])
    (gate,) = [gate for gate in found if gate.name == "survives-rounding"]
    assert gate.verdict == Verdict.FAIL
    assert "leaves F1 + MCC 2.000, unrounded 0.000" in gate.told
