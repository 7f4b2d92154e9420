"""Soft Dice against scikit-learn on binary maps, plain sums on soft ones, and its gradient."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import f1_score

from advbench.overlap import dice


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(3, 1, 5, 7, generator=generator, dtype=torch.float64)
    return probability, (torch.rand(3, 1, 5, 7, generator=generator) < 0.4).double()


@pytest.mark.parametrize("squared", [True, False])
def test_of_binary_maps_it_is_f1(pair, squared):
    probability, masks = pair
    marked = (probability > 0.5).double()
    found = dice(marked, masks, squared=squared)
    expected = [f1_score(m.ravel(), p.ravel()) for p, m in zip(marked, masks, strict=True)]
    assert found.tolist() == pytest.approx(expected)
    whole = dice(marked, masks, squared=squared, by_image=False)
    assert float(whole) == pytest.approx(f1_score(masks.ravel(), marked.ravel()))


@pytest.mark.parametrize("squared", [True, False])
def test_of_soft_maps_by_plain_sums(pair, squared):
    probability, masks = pair
    power = 2 if squared else 1
    for image in range(3):
        p, m = probability[image].ravel().tolist(), masks[image].ravel().tolist()
        overlap = 2 * sum(a * b for a, b in zip(p, m, strict=True))
        size = sum(a**power for a in p) + sum(b**power for b in m)
        found = dice(probability, masks, squared=squared, smooth=1.0)[image]
        assert float(found) == pytest.approx((overlap + 1) / (size + 1))


def test_nothing_in_both_is_finite_and_so_is_its_gradient():
    blank = torch.zeros(2, 1, 4, 4, requires_grad=True)
    dice(blank, torch.zeros(2, 1, 4, 4)).sum().backward()
    assert torch.isfinite(blank.grad).all()
    assert dice(blank, torch.zeros(2, 1, 4, 4), smooth=1.0).tolist() == [1, 1]


def test_gradient(pair):
    probability, masks = pair
    assert torch.autograd.gradcheck(
        lambda p: dice(p, masks, smooth=0.5), probability.requires_grad_()
    )
