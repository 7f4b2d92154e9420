"""The same images as torchattacks makes from the two-class form of the victim."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advbench.attacks.base import Attack
from advbench.attacks.bim import BIM
from advbench.attacks.fgsm import FGSM
from advbench.attacks.mifgsm import MIFGSM
from advbench.attacks.pgd import PGD

from .toys import Pictures, Toy, floats, linear, pictures, wavy_net

torchattacks = pytest.importorskip("torchattacks")


class TwoClasses(nn.Module):
    """Logits [0, z]: their cross-entropy is the binary one of z."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        z = self.network(images)
        return torch.cat([torch.zeros_like(z), z], 1)


def peer(name: str, network: nn.Module, batch: Pictures, **settings: Any) -> Tensor:
    attack = getattr(torchattacks, name)(TwoClasses(network).eval(), **settings)
    return attack(batch.x, batch.masks.long())


def difference(attack: Attack, expected: Tensor, network: nn.Module, batch: Pictures) -> float:
    (result,) = batch.attacked(attack, Toy(network), batch=len(batch.ids)).values()
    assert not torch.equal(result.images, batch.images)
    return float((floats(result) - expected).abs().max())


# Their BIM projects onto its bounds, their PGD adds a clamped noise: roundings apart.
TOLERANCE = {"FGSM": 0.0, "BIM": 1e-8, "PGD": 0.0, "MIFGSM": 0.0}
NETWORKS = {"linear": linear, "wavy": wavy_net}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("eps", [1, 2, 3, 8])
def test_same_images(network: str, count: int, eps: int) -> None:
    """FGSM, PGD and MI-FGSM agree bit for bit, BIM up to the rounding of its projection."""
    net, batch = NETWORKS[network](), pictures(count)
    steps = {"alpha": 1 / 255, "steps": 10}
    pairs = {
        "FGSM": (FGSM(eps=eps), {}),
        "BIM": (BIM.create("paper", eps=eps), steps),
        "PGD": (
            PGD.create("paper", eps=eps, random_start="none"),
            steps | {"random_start": False},
        ),
        "MIFGSM": (MIFGSM.create("paper", eps=eps), steps | {"decay": 1.0}),
    }
    for name, (ours, settings) in pairs.items():
        theirs = peer(name, net, batch, eps=eps / 255, **settings)
        assert difference(ours, theirs, net, batch) <= TOLERANCE[name], name


@pytest.mark.parametrize("eps", [1, 2, 3])
def test_same_images_off_the_grid(eps: int) -> None:
    """With α of φ/4 the two ways of projecting differ by a rounding at most."""
    net, batch = wavy_net(), pictures(3)
    theirs = peer("BIM", net, batch, eps=eps / 255, alpha=eps / 255 / 4, steps=10)
    assert difference(BIM(eps=eps, iterations=10), theirs, net, batch) <= 1e-8


@pytest.mark.parametrize("ours", [BIM, PGD, MIFGSM])
def test_profile_is_its_defaults(ours: type[Attack]) -> None:
    """The profile ``torchattacks`` at φ = 8 is what torchattacks does when told nothing."""
    net, batch = wavy_net(), pictures(3)
    no_start = {"random_start": False} if ours is PGD else {}
    theirs = peer(ours.__name__, net, batch, **no_start)
    settings = {"random_start": "none"} if ours is PGD else {}
    assert difference(ours.create("torchattacks", eps=8, **settings), theirs, net, batch) <= 1e-8


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_same_decay(decay: float) -> None:
    """The momentum fades as theirs does."""
    net, batch = wavy_net(), pictures(3)
    theirs = peer("MIFGSM", net, batch, eps=3 / 255, alpha=1 / 255, steps=10, decay=decay)
    assert difference(MIFGSM.create("paper", eps=3, decay=decay), theirs, net, batch) == 0.0
