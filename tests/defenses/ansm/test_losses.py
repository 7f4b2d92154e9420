"""Losses against plain loops in float64, and their gradients against finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from advbench.defenses.ansm.losses import dice_loss, ffa_loss, mask_loss, mgr_loss, pwr_loss

from . import loops


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def features(scale: float = 3) -> list[Tensor]:
    """Two layers of two images."""
    return [scale * torch.randn(2, 3, 4, 5), scale * torch.randn(2, 2, 2, 3)]


def forged() -> Tensor:
    """Two masks, of a few and of many forged pixels."""
    return (torch.rand(2, 1, 4, 4) > torch.tensor([0.8, 0.3]).view(2, 1, 1, 1)).float()


@pytest.mark.parametrize("scale", [0.1, 3, 30])
def test_alignment_is_that_of_the_loop(scale):
    clean, processed = features(scale), features(scale)
    expected = loops.ffa(clean, processed)
    assert float(ffa_loss(clean, processed)) == pytest.approx(expected, rel=1e-5)
    # KL(D_pa ‖ D_o), not the other way round.
    assert abs(loops.ffa(processed, clean) / expected - 1) > 0.01


def test_alignment_is_zero_for_equal_features_alone():
    clean = features(1)
    assert float(ffa_loss(clean, [layer.clone() for layer in clean])) == 0
    for number in range(2):
        for channel in range(2):
            processed = [layer.clone() for layer in clean]
            processed[number][1, channel, 0, 1] += 0.5
            assert float(ffa_loss(clean, processed)) > 1e-6


def test_alignment_compares_positions_within_a_channel():
    """What is added to all of a channel changes no distribution."""
    clean = features()
    processed = [layer + torch.randn(2, layer.shape[1], 1, 1) for layer in clean]
    assert float(ffa_loss(clean, processed)) == pytest.approx(0, abs=1e-7)


def test_every_layer_weighs_the_same():
    clean, processed = features(), features()
    one = [ffa_loss([q], [m]) for q, m in zip(clean, processed, strict=True)]
    both = ffa_loss(clean, processed)
    assert torch.allclose(both, torch.stack(one).mean())
    doubled = ffa_loss([clean[0], *clean], [processed[0], *processed])
    assert torch.allclose(doubled, (2 * one[0] + one[1]) / 3)


def test_alignment_where_the_original_has_no_weight():
    """α keeps the logarithm finite."""
    clean, processed = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    clean[..., 0, 0] = processed[..., 1, 1] = 500
    assert float(ffa_loss([clean], [processed])) == pytest.approx(torch.tensor(1e8).log() / 4)


def test_alignment_of_half_precision_is_summed_in_single():
    clean, processed = ([layer.half() for layer in features()] for _ in range(2))
    found = ffa_loss(clean, processed)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(loops.ffa(clean, processed), rel=1e-5)


def test_alignment_wants_the_same_layers():
    with pytest.raises(ValueError, match="zip"):
        ffa_loss(features(), features()[:1])


def test_gradient_of_alignment():
    clean, processed = features(1), features(1)
    processed = [layer.requires_grad_() for layer in processed]
    ffa_loss(clean, processed).backward()
    for number, layer in enumerate(processed):

        def moved(values: Tensor, number: int = number) -> float:
            others = [values if k == number else other for k, other in enumerate(processed)]
            return loops.ffa(clean, others)

        expected = loops.slopes(moved, layer)
        assert expected.abs().max() > 1e-4
        assert torch.allclose(layer.grad.double(), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("weight", [0, 0.3, 1])
def test_mask_loss_is_that_of_the_loop(weight):
    logits, masks = 2 * torch.randn(2, 1, 4, 4), forged()
    expected = loops.mask(logits, masks, weight)
    assert float(mask_loss(logits, masks, weight)) == pytest.approx(expected, rel=1e-5)


def test_a_third_is_entropy_by_default():
    """λ = 0.3 belongs to the cross-entropy, 0.7 to Dice."""
    logits, masks = torch.randn(2, 1, 4, 4), forged()
    entropy = F.binary_cross_entropy(torch.sigmoid(logits), masks)
    expected = 0.3 * entropy + 0.7 * dice_loss(torch.sigmoid(logits), masks)
    assert torch.allclose(mask_loss(logits, masks), expected)


def test_dice_is_one_minus_the_coefficient():
    masks = forged()
    assert float(dice_loss(masks, masks)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(1 - masks, masks)) == 1
    # ΣPM = 1/2, ΣP² = 1/4 + 1/4, ΣM² = 1.
    probability = torch.tensor([0.5, 0.5, 0.0, 0.0]).view(1, 1, 2, 2)
    truth = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2)
    assert float(dice_loss(probability, truth)) == pytest.approx(1 - 1 / 1.5)


def test_dice_falls_as_the_map_nears_the_mask():
    masks = forged()
    far, near = (masks + (1 - 2 * masks) * error for error in (0.4, 0.1))
    assert dice_loss(near, masks) < dice_loss(far, masks)


def test_each_image_has_its_own_dice():
    probability, masks = torch.rand(2, 1, 4, 4), forged()
    alone = [dice_loss(probability[k : k + 1], masks[k : k + 1]) for k in range(2)]
    assert torch.allclose(dice_loss(probability, masks), torch.stack(alone).mean())


def test_nothing_forged_and_nothing_found_is_finite():
    """The victim's own mask may be empty."""
    logits = torch.full((1, 1, 4, 4), -200.0).requires_grad_()
    loss = mask_loss(logits, torch.zeros(1, 1, 4, 4))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_gradient_of_mask_loss():
    logits, masks = torch.randn(2, 1, 3, 3).requires_grad_(), forged()[..., :3, :3]
    mask_loss(logits, masks).backward()
    expected = loops.slopes(lambda values: loops.mask(values, masks, 0.3), logits)
    assert expected.abs().max() > 1e-2
    assert torch.allclose(logits.grad.double(), expected, rtol=1e-3, atol=1e-6)


def test_refinement_asks_both_images_for_the_same_mask():
    clean, adversarial, masks = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4), forged()
    for weight in (0.3, 0.8):
        expected = loops.mask(clean, masks, weight) + loops.mask(adversarial, masks, weight)
        assert float(mgr_loss(clean, adversarial, masks, weight)) == pytest.approx(expected, 1e-5)
    assert torch.equal(
        mgr_loss(clean, adversarial, masks), mgr_loss(clean, adversarial, masks, 0.3)
    )


def test_reconstruction_is_the_mean_absolute_difference():
    clean, processed = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    flat = zip(clean.flatten().tolist(), processed.flatten().tolist(), strict=True)
    expected = sum(abs(a - b) for a, b in flat) / clean.numel()
    assert float(pwr_loss(clean, processed)) == pytest.approx(expected, rel=1e-5)
