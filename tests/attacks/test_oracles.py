"""Closed forms: on a linear victim every sign attack ends in a corner of the ball."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from advbench.attacks.base import Attack
from advbench.attacks.bim import BIM
from advbench.attacks.fgsm import FGSM
from advbench.attacks.gradient import InputGradient
from advbench.attacks.mifgsm import MIFGSM
from advbench.attacks.pgd import PGD
from advbench.attacks.pgn import PGN

from .toys import Pictures, Toy, floats, linear, linear_sign, pictures, wavy_net

RADII = (1.0, 2.0, 2.5, 3.0, 8.0)


def corner(batch: Pictures, eps: float) -> Tensor:
    """clip(x + φ·(1 − 2y)·sign w): J rises with z where y = 0 and falls where y = 1."""
    return (batch.x + eps / 255 * (1 - 2 * batch.y) * linear_sign()).clamp(0, 1)


def distance_to_corner(attack: Attack, batch: Pictures) -> dict[float, float]:
    results = batch.attacked(attack, Toy(linear()))
    return {
        eps: float((floats(result) - corner(batch, eps)).abs().max())
        for eps, result in zip(attack.intensities, results.values(), strict=True)
    }


@pytest.mark.parametrize("count", [1, 3])
def test_fgsm_is_the_corner(count: int) -> None:
    """One signed step of size φ, for fractional φ too."""
    assert set(distance_to_corner(FGSM(eps=RADII), pictures(count)).values()) == {0.0}


@pytest.mark.parametrize("alpha", [1.0, "eps/4", "eps/8", 20.0])
def test_bim_reaches_the_corner(alpha: float | str) -> None:
    """Steps that sum to φ or more end in the corner exactly, whatever their size."""
    attack = BIM(eps=RADII, alpha=alpha)
    assert set(distance_to_corner(attack, pictures()).values()) == {0.0}


@pytest.mark.parametrize("start", ["uniform", "grid"])
def test_pgd_reaches_the_corner_from_anywhere(start: str) -> None:
    """Steps that sum to the ball's diameter make the start forgotten."""
    attack = PGD(eps=(1, 2, 3), alpha=1, random_start=start)
    assert set(distance_to_corner(attack, pictures()).values()) == {0.0}


def test_pgd_with_short_steps_remembers_its_start() -> None:
    """Steps that sum to the radius alone do not reach the corner from a random point."""
    distances = distance_to_corner(PGD(eps=(1, 3), iterations=10, alpha="eps/10"), pictures())
    assert all(0.1 * eps / 255 < distances[eps] <= eps / 255 for eps in (1, 3))


@pytest.mark.parametrize(
    "attack", [MIFGSM(iterations=10, alpha="eps/10"), PGN(neighbours=3)], ids=["mi", "pgn"]
)
def test_momentum_reaches_the_corner(attack: Attack) -> None:
    """Ten steps of φ/10 in one direction come to φ up to their rounding."""
    assert max(distance_to_corner(attack, pictures()).values()) <= 1.8e-7


@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("attack", [BIM, MIFGSM, PGN])
def test_alpha_and_iterations_are_honoured(attack: type[Attack], steps: int) -> None:
    """T steps of α move a pixel by min(φ, T·α): α is not replaced by φ/T."""
    alpha, eps = 0.75, 4.0
    batch = pictures()
    few = {"neighbours": 2} if attack is PGN else {}
    (result,) = batch.attacked(
        attack(eps=eps, alpha=alpha, iterations=steps, **few), Toy(linear())
    ).values()
    expected = corner(batch, min(eps, steps * alpha))
    assert (floats(result) - expected).abs().max() <= 2e-7


def test_the_ascent_is_of_the_ground_truth_loss() -> None:
    """The complement of a mask pushes each pixel the other way."""
    batch = pictures(1)
    inverse = Pictures(batch.images, ~batch.masks, batch.ids)
    victim, attack = Toy(linear()), FGSM(eps=1)
    inner = (batch.images > 0) & (batch.images < 255)
    one, other = (b.attacked(attack, victim)["fgsm-1"].images.int() for b in (batch, inverse))
    assert torch.equal((one - batch.images)[inner], (batch.images - other)[inner])


def test_gradient_agrees_with_central_differences() -> None:
    """∇J in float64, for each image of a batch with masks of its own."""
    victim, batch, h = Toy(wavy_net().double()), pictures(3, 5, 7), 1e-6
    x, y = batch.x.double(), batch.y.double()
    found = InputGradient(victim, y)(x)
    for image in range(3):
        nudges = torch.eye(x[image].numel(), dtype=torch.float64).view(-1, *x[image].shape) * h
        with torch.no_grad():
            up, down = (victim.logits(x[image] + sign * nudges) for sign in (1, -1))
        losses = [(F.softplus(z) - y[image] * z).mean((1, 2, 3)) for z in (up, down)]
        expected = ((losses[0] - losses[1]) / (2 * h)).view_as(x[image])
        assert (found[image] - expected).norm() < 1e-6 * expected.norm()
