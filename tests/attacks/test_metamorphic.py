"""What must follow from a change of the budget, of the number of steps, or of left and right."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.attacks.base import Attack
from advbench.attacks.bim import BIM
from advbench.attacks.fgsm import FGSM
from advbench.attacks.gradient import InputGradient
from advbench.attacks.mifgsm import MIFGSM
from advbench.attacks.pgn import PGN

from .toys import BOUNDED, Pictures, Toy, floats, linear, pictures, wavy_net


def losses(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """J of each image, written out."""
    with torch.no_grad():
        z = network(x)
        return (F.softplus(z) - y * z).mean((1, 2, 3))


def trace(attack: BIM, network: nn.Module, batch: Pictures, eps: float) -> list[Tensor]:
    """J at each point where a gradient was taken, then at the end."""
    points: list[Tensor] = []
    gradient = InputGradient(Toy(network, lambda x: points.append(x.detach().clone())), batch.y)
    radius = torch.full((len(batch.ids), 1, 1, 1), eps / 255)
    keys = [(0, name, attack.name, f"{eps:g}") for name in batch.ids]
    end = attack.perturb_rows(gradient, batch.x, radius, keys)
    return [losses(network, x, batch.y) for x in [*points, end]]


@pytest.mark.parametrize("attack", [BIM, MIFGSM])
@pytest.mark.parametrize("alpha", [1.0, 3.0, "eps/10", "eps/4"])
def test_loss_climbs_on_a_linear_victim(attack: type[BIM], alpha: float | str) -> None:
    """The sign never changes there, so no step of up to φ lowers any image's loss."""
    found = trace(attack(alpha=alpha), linear(scale=8), pictures(), 3)
    assert len(found) == 21
    assert all((late >= early).all() for early, late in pairwise(found))
    assert (found[-1] > found[0]).all()


@pytest.mark.parametrize("name", BOUNDED)
def test_loss_ends_above_its_beginning(name: str) -> None:
    """On a network, too, every image's loss has risen at the end."""
    network, batch, attack = wavy_net(), pictures(), BOUNDED[name]
    if isinstance(attack, PGN):
        attack = attack.model_copy(update={"zeta": 0.5})
    for result in batch.attacked(attack, Toy(network)).values():
        after = losses(network, floats(result), batch.y)
        assert (after > losses(network, batch.x, batch.y)).all()


@pytest.mark.parametrize("attack", [BIM(eps=2), MIFGSM(eps=2)], ids=["bim", "mifgsm"])
def test_the_reported_losses_are_those_of_the_first_and_last_gradient(attack: BIM) -> None:
    """``loss_first`` is J at the image, ``loss_last`` J one step before the end."""
    network, batch = wavy_net(), pictures()
    expected = trace(attack, network, batch, 2)
    (result,) = batch.attacked(attack, Toy(network)).values()
    first = torch.tensor([item.loss_first for item in result.details])
    last = torch.tensor([item.loss_last for item in result.details])
    assert torch.allclose(first, expected[0], rtol=1e-5)
    assert torch.allclose(last, expected[-2], rtol=1e-5)


@pytest.mark.parametrize("attack", [FGSM(eps=(1, 2, 3)), BIM(eps=(1, 2, 3))], ids=["fgsm", "bim"])
def test_larger_budgets_hurt_more_on_a_linear_victim(attack: Attack) -> None:
    """J(φ = 3) > J(φ = 2) > J(φ = 1) > J(0), for every image, as stored."""
    network, batch = linear(), pictures()
    stored = [
        result.images.float() / 255 for result in batch.attacked(attack, Toy(network)).values()
    ]
    found = [losses(network, x, batch.y) for x in [batch.x, *stored]]
    assert all((late > early).all() for early, late in pairwise(found))


@pytest.mark.parametrize("name", ["fgsm", "bim", "mifgsm"])
def test_mirrored_pictures_on_a_symmetric_network(name: str) -> None:
    """With kernels that are their own mirror images, the attack commutes with the flip."""
    network, batch = wavy_net().double(), pictures()
    asymmetric = wavy_net().double()
    for layer in (network[0], network[2]):
        layer.weight.data = (layer.weight.data + layer.weight.data.flip(3)) / 2
    x, y = batch.x.double(), batch.y.double()
    radius = torch.full((3, 1, 1, 1), 3 / 255, dtype=torch.float64)

    def attacked(net: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
        return BOUNDED[name].perturb_rows(InputGradient(Toy(net), masks), images, radius, [()] * 3)

    def gap(net: nn.Module) -> float:
        mirrored = attacked(net, x.flip(3), y.flip(3)).flip(3)
        return float((mirrored - attacked(net, x, y)).abs().max())

    assert gap(network) <= 1e-12
    assert gap(asymmetric) > 1 / 255
