"""Noise made during training, before a victim whose gradient is known in closed form."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from advbench.attacks.fgsm import FGSM
from advbench.defenses.ansm.noise import Noise, add_noise

from .toys import layered

KINDS = [kind for kind in get_args(Noise) if kind != "stored"]


def _batch(count: int = 64, side: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(20, 230, (count, 3, side, side), generator=generator) / 255
    return images, (torch.rand(count, 1, side, side, generator=generator) < 0.5).float()


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_on_the_grid_and_within_its_bound(kind: Noise) -> None:
    images, masks = _batch()
    torch.manual_seed(0)
    found = add_noise(kind, layered(), images, masks, levels=3)
    change = (found - images) * 255
    assert torch.allclose(change, change.round(), atol=1e-3)
    assert change.abs().max() <= 3 + 1e-3
    assert found.min() >= 0
    assert found.max() <= 1
    assert (change.abs().amax((1, 2, 3)) >= 1).float().mean() > 0.9


def test_fgsm_is_the_attack_itself() -> None:
    images, masks = _batch(4)
    victim = layered()
    levels = (images * 255).round().to(torch.uint8)
    (result,) = FGSM.create(eps=(3,)).run(victim, levels, masks.bool()).values()
    found = add_noise("fgsm", victim, images, masks, levels=3)
    same = (found * 255).round().to(torch.uint8) == result.images
    assert same.float().mean() > 0.999  # alone and in a batch, a gradient at nothing may turn


@pytest.mark.parametrize("kind", ["varied", "several"])
def test_images_of_a_batch_differ_in_intensity_and_share(kind: Noise) -> None:
    images, masks = _batch(256)
    torch.manual_seed(0)
    change = (add_noise(kind, layered(), images, masks, levels=3) - images) * 255
    largest = change.abs().amax((1, 2, 3)).round()
    full = (largest == 3).float().mean()
    assert 0.45 < full < 0.75  # six tenths
    assert {1.0, 2.0, 3.0} == set(largest.tolist())


def test_varied_noise_mostly_follows_the_gradient() -> None:
    """The gradient of the cross-entropy by a pixel is that of its logit times p - y."""
    images, masks = _batch(256)
    victim = layered()
    at = images.clone().requires_grad_()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(victim.logits(at), masks)
    (gradient,) = torch.autograd.grad(loss, at)
    torch.manual_seed(0)
    change = (add_noise("varied", victim, images, masks, levels=3) - images) * 255
    changed = change.abs() > 0.5
    agreed = (change.sign() == gradient.sign())[changed].float().mean()
    assert 0.8 < agreed < 1


def test_several_attacks_lower_the_agreement_as_much_as_fgsm() -> None:
    images, masks = _batch(256)
    victim = layered()

    def loss(kind: Noise) -> float:
        torch.manual_seed(3)
        logits = victim.logits(add_noise(kind, victim, images, masks, levels=3))
        return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, masks))

    clean = float(
        torch.nn.functional.binary_cross_entropy_with_logits(victim.logits(images), masks)
    )
    assert clean < loss("several")
    assert clean < loss("varied") < loss("fgsm")


def test_the_same_seed_draws_the_same_noise() -> None:
    images, masks = _batch(8)
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(add_noise("several", layered(), images, masks, levels=3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
