"""Folding: the same logits, from fewer modules, wherever it is sound."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import advbench
from advbench.inference.fast import with_numerics
from advbench.inference.folding import fold


def settled(norm: nn.BatchNorm2d, seed: int = 0) -> nn.BatchNorm2d:
    """With statistics and weights of its own."""
    generator = torch.Generator().manual_seed(seed)
    for tensor, low in ((norm.running_mean, -1.0), (norm.running_var, 0.5)):
        tensor.uniform_(low, low + 2, generator=generator)
    if norm.affine:
        with torch.no_grad():
            norm.weight.uniform_(0.5, 2, generator=generator)
            norm.bias.uniform_(-1, 1, generator=generator)
    return norm


class Net(nn.Module):
    """A convolution and a normalisation, used in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        affine, tracked = way != "plain", way != "batch"
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=way == "biased")
        self.norm = nn.BatchNorm2d(4, affine=affine, track_running_stats=tracked)
        self.other = settled(nn.BatchNorm2d(4), 1)
        if tracked:
            settled(self.norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        if self.way == "changed in between":
            out.relu_()
        normed = self.norm(out)
        if self.way == "also added":
            normed = normed + out
        if self.way == "convolution used twice":
            normed = normed + self.conv(x.flip(3))
        if self.way == "two normalisations":
            normed = normed + self.other(out)
        if self.way == "normalisation used twice":
            normed = normed + self.norm(out.square())
        return normed


@pytest.mark.parametrize(
    ("way", "count"),
    [
        ("biased", 1),
        ("unbiased", 1),
        ("plain", 1),
        ("batch", 0),
        ("changed in between", 0),
        ("also added", 0),
        ("convolution used twice", 0),
        ("two normalisations", 0),
        ("normalisation used twice", 0),
    ],
)
def test_what_is_folded(way, count):
    network = Net(way).eval().requires_grad_(False)
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = network(x).clone()
    assert fold(network, lambda: network(x)) == count
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    assert isinstance(network.norm, nn.Identity) == bool(count)


def test_one_unsound_pair_leaves_the_others_folded():
    parts = [Net("biased"), nn.Conv2d(4, 3, 1), Net("also added"), nn.Conv2d(4, 3, 1)]
    network = nn.Sequential(*parts, Net("unbiased")).eval().requires_grad_(False)
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = network(x)
    assert fold(network, lambda: network(x)) == 2
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)
    assert [isinstance(network[k].norm, nn.Identity) for k in (0, 2, 4)] == [True, False, True]


@pytest.mark.parametrize("name", ["mvssnet", "ifosn", "hdfnet", "code"])
def test_every_normalisation_that_runs_is_folded(name):
    victim = advbench.load_victim(name)
    twin = with_numerics(victim, "fast")
    ran: list[nn.Module] = []
    for module in twin.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda module, *_: ran.append(module))
    side = victim.working_side or 64
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(twin.logits(x), victim.logits(x), rtol=0, atol=1e-3)
    assert not ran
    assert any(isinstance(module, nn.BatchNorm2d) for module in victim.network.modules())
