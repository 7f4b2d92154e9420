"""Attacks that become one another at some setting, and losses with the same signs."""

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

from .toys import BOUNDED, GivenGradient, Pictures, Toy, floats, linear, pictures, wavy_net

EPS = (1, 2.5, 3)


def outcome(attack: Attack, batch: Pictures) -> list[Tensor]:
    results = batch.attacked(attack, Toy(wavy_net()))
    return [floats(result) for result in results.values()]


def same(one: Attack, other: Attack) -> bool:
    batch = pictures()
    pairs = zip(outcome(one, batch), outcome(other, batch), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("alpha", [1.0, 2.0, "eps/10", "eps/T"])
def test_bim_is_pgd_without_start_is_momentum_without_decay(alpha: float | str) -> None:
    """BIM = PGD from the image itself = MI-FGSM that keeps nothing."""
    bim = BIM(eps=EPS, alpha=alpha)
    assert same(bim, PGD(eps=EPS, alpha=alpha, random_start="none"))
    assert same(bim, MIFGSM(eps=EPS, alpha=alpha, decay=0))
    assert not same(bim, MIFGSM(eps=EPS, alpha=alpha, decay=1))


@pytest.mark.parametrize("alpha", ["eps/T", "eps/1", 255.0])
def test_fgsm_is_one_step_of_bim(alpha: float | str) -> None:
    """FGSM = BIM with one step of φ or more."""
    assert same(FGSM(eps=EPS), BIM(eps=EPS, iterations=1, alpha=alpha))


def test_fgsm_of_a_stack_of_rows_is_fgsm() -> None:
    """One gradient for all φ gives what a gradient for each φ gives."""
    batch, attack = pictures(), FGSM(eps=EPS)
    shared = outcome(attack, batch)
    for eps, expected in zip(EPS, shared, strict=True):
        radius = torch.full((3, 1, 1, 1), float(eps)) / 255
        gradient = InputGradient(Toy(wavy_net()), batch.y)
        assert torch.equal(attack.perturb_rows(gradient, batch.x, radius, [()] * 3), expected)


@pytest.mark.parametrize("neighbours", [1, 7])
def test_pgn_without_neighbourhood_is_momentum(neighbours: int) -> None:
    """PGN at radius 0 and δ = 0 = MI-FGSM; without decay too = BIM."""
    point = {"neighbours": neighbours, "zeta": 0, "delta": 0}
    momentum = MIFGSM(eps=EPS, iterations=10, alpha="eps/10")
    assert same(PGN(eps=EPS, **point), momentum)
    assert same(PGN(eps=EPS, decay=0, **point), BIM(eps=EPS, iterations=10, alpha="eps/10"))
    assert not same(
        PGN(eps=EPS, neighbours=neighbours), MIFGSM(eps=EPS, iterations=10, alpha="eps/10")
    )


def classes(form: str, z: Tensor) -> Tensor:
    if form == "zero":
        return torch.cat([torch.zeros_like(z), z], 1)
    if form == "halves":
        return torch.cat([-z / 2, z / 2], 1)
    p = torch.sigmoid(z)
    return torch.cat([1 - p, p], 1).clamp_min(1e-12).log()


@pytest.mark.parametrize("form", ["zero", "halves", "log-probabilities"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_other_forms_of_the_loss_have_the_same_signs(form: str, reduction: str) -> None:
    """Cross-entropy over two classes, summed or averaged, points the same way everywhere."""
    network, batch = wavy_net().double(), pictures(8)
    x = batch.x.double().requires_grad_()
    scores = classes(form, network(x))
    loss = F.cross_entropy(scores, batch.masks.long(), reduction=reduction)
    (expected,) = torch.autograd.grad(loss, x)
    found = InputGradient(Toy(network), batch.y.double())(batch.x.double())
    assert torch.equal(found.sign(), expected.sign())


@pytest.mark.parametrize("name", ["mifgsm", "pgn"])
@pytest.mark.parametrize("scale", [2.0**-40, 0.25, 8.0, 2.0**20])
def test_scale_of_the_gradient_is_forgotten(name: str, scale: float) -> None:
    """Normalised momentum: a loss times a constant gives the same image."""
    attack, batch = BOUNDED[name], pictures()
    radius, keys = torch.full((3, 1, 1, 1), 3 / 255), [(0, i, name, "3") for i in batch.ids]
    gradient = InputGradient(Toy(wavy_net()), batch.y)
    plain = attack.perturb_rows(gradient, batch.x, radius, keys)
    scaled = attack.perturb_rows(
        GivenGradient(lambda x: scale * gradient(x), batch.y), batch.x, radius, keys
    )
    assert torch.equal(plain, scaled)
    assert not torch.equal(plain, batch.x)


@pytest.mark.parametrize("name", [name for name in BOUNDED if BOUNDED[name].region == "whole"])
def test_predicted_target_is_the_prediction_as_mask(name: str) -> None:
    """``target="pred"`` = ``gt`` with the victim's own mask, at its own threshold, truth unread."""
    attack, batch = BOUNDED[name], pictures()
    victim = Toy(linear(bias=-0.4), threshold=0.3)
    with torch.no_grad():
        predicted = victim.probabilities(batch.x)[:, 0] > 0.3
    assert predicted.any()
    assert not predicted.all()
    assert not torch.equal(predicted, victim.network(batch.x)[:, 0] > 0)
    blind = attack.model_copy(update={"target": "pred"})
    informed = Pictures(batch.images, predicted, batch.ids).attacked(attack, victim)
    for variant, result in batch.attacked(blind, victim).items():
        assert torch.equal(result.images, informed[variant].images)
