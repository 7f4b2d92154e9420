"""``photoholmes:NAME`` on stubs of the package's methods."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import advbench
from advbench.errors import AdvbenchError
from advbench.victims.adapters.photoholmes import AdaptiveCFA

from . import stubs


class TruFor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, rgb: Tensor) -> Any:
        return self.layer(rgb), torch.zeros(1), None, None


class PSCCNet(nn.Module):
    """A saturated probability map of 16²."""

    def __init__(self) -> None:
        super().__init__()
        self.FENet = nn.Conv2d(3, 8, 3, padding=1)
        self.SegNet = Head()


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(8, 1, 1)

    def forward(self, features: Tensor) -> Any:
        return [torch.sigmoid(60 * self.last(F.adaptive_avg_pool2d(features, 16)))]


class Blocks(nn.Module):
    """Log-probabilities of four phases under four permutations; one image, even sides."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 16, 9)

    def forward(self, image: Tensor) -> Tensor:
        assert len(image) == 1
        assert image.shape[2] % 2 == image.shape[3] % 2 == 0
        pooled = F.avg_pool2d(self.layer(image), 32)
        return (9 * pooled).view(4, 4, *pooled.shape[2:]).log_softmax(1)


class Method:
    """Votes: a pixel is forged where its red is above its neighbours'."""

    def benchmark(self, image: Tensor) -> Any:
        assert image.dtype == torch.uint8
        return {"heatmap": None, "mask": (image[0] > 127).numpy(), "detection": None}


@pytest.fixture(autouse=True)
def _package(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"trufor": TruFor, "psccnet": PSCCNet, "adaptive_cfa_net": Blocks, "zero": Method}
    factory = SimpleNamespace(
        load=lambda name, config: (made[name](), lambda image: {"image": image})
    )
    stubs.install(monkeypatch, "photoholmes.methods.factory", MethodFactory=factory)


def load(name: str) -> Any:
    weights = "builtin" if name == "zero" else None
    return advbench.load_victim(f"photoholmes:{name}", weights=weights)


def images(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_trufor_is_a_difference_of_two_classes():
    victim, x = load("trufor"), images(2, 70, 81)
    own = victim.network(x)[0].softmax(1)[:, 1:]
    assert torch.allclose(victim.probabilities(x), own, atol=1e-6)


def test_psccnet_is_not_hidden_by_its_saturated_map():
    victim, x = load("psccnet"), images(2, 64, 80).requires_grad_()
    small = victim.network.SegNet(victim.network.FENet(x))[0]
    own = F.interpolate(small, (64, 80), mode="bilinear", align_corners=True)
    logits = victim.logits(x)
    assert torch.allclose(torch.sigmoid(logits), own, atol=1e-6)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert (gradient.abs().amax(1) > 0).all()


def test_a_block_is_forged_where_photoholmes_marks_it():
    """Its rule in loops: most votes for another phase than the image's."""
    scores = (3 * torch.randn(4, 4, 5, 6, generator=torch.Generator().manual_seed(0))).log_softmax(
        1
    )
    orders = [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]]
    votes = torch.zeros(4, 5, 6)
    for permutation in range(4):
        for phase in range(4):
            votes[permutation] += scores[orders[phase][permutation], phase].exp() / 4
    marked = votes.argmax(0) != votes.mean((1, 2)).argmax()
    assert 0 < marked.sum() < 30
    assert torch.equal(AdaptiveCFA.block_logits(scores)[0, 0] > 0, marked)


@pytest.mark.parametrize("sides", [(1, 1), (39, 50), (75, 131)])
def test_adaptive_cfa_of_any_size(sides):
    victim, x = load("adaptive_cfa_net"), images(2, *sides).requires_grad_()
    logits = victim.logits(x)
    assert logits.shape == (2, 1, *sides)
    (gradient,) = torch.autograd.grad(logits.square().sum(), x)
    assert (gradient != 0).any()


def test_votes_are_open_to_attacks_that_ask_for_maps():
    victim, x = load("zero"), images(2, 9, 8)
    assert victim.weights.label == "none"
    assert torch.equal(victim.probabilities(x) > 0.5, (255 * x[:, :1]).round() > 127)
    with pytest.raises(AdvbenchError, match="photoholmes:zero has none"):
        advbench.load_attack("fgsm")(victim, (255 * x).byte(), x[:, 0] > 0, ["a", "b"])
    with pytest.raises(AdvbenchError, match="has no weights; leave out --weights"):
        advbench.load_victim("photoholmes:zero", weights="some.pth")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dq", "coefficients of a JPEG file"),
        ("catnet", "coefficients of a JPEG file"),
        ("focal", "clusters features"),
        ("naive", "its module is missing"),
        ("other", "there are trufor, psccnet, adaptive_cfa_net, zero"),
    ],
)
def test_refusals_give_the_reason(name, reason):
    with pytest.raises(AdvbenchError, match=f"^victim photoholmes:{name}: .*{reason}"):
        load(name)
