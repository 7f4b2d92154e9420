"""The attacks' losses against plain loops over pixels, and their gradients against differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from advbench.attacks.losses import LOSSES

THRESHOLD = math.log(0.2 / 0.8)  # that of a victim that marks from 0.2 on
EVERY = pytest.mark.parametrize("name", LOSSES)


def maps(count: int = 4, side: int = 5, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits and masks; the second image is all authentic, the third all forged."""
    stream = torch.Generator().manual_seed(1)
    logits = torch.randn((count, 1, side, side), generator=stream, dtype=torch.float64) * spread
    masks = (torch.rand((count, 1, side, side), generator=stream) < 0.3).double()
    masks[1], masks[2] = 0, 1
    return logits, masks


def pixels(logits: Tensor, masks: Tensor) -> list[tuple[float, int]]:
    return list(zip(logits.flatten().tolist(), masks.flatten().int().tolist(), strict=True))


def true_label(z: float, y: int) -> float:
    p = 1 / (1 + math.exp(-z))
    return p if y else 1 - p


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def bce(image: list[tuple[float, int]], progress: float) -> float:
    return mean([-math.log(true_label(z, y)) for z, y in image])


def balanced(image: list[tuple[float, int]], progress: float) -> float:
    classes = [[(z, y) for z, y in image if y == label] for label in (0, 1)]
    return mean([bce(own, progress) for own in classes if own])


def dice(image: list[tuple[float, int]], progress: float) -> float:
    label = 1 if any(y for _, y in image) else 0
    share = [(1 / (1 + math.exp(-z if label else z)), int(y == label)) for z, y in image]
    overlap = sum(p * y for p, y in share)
    return 1 - 2 * overlap / (sum(p * p for p, _ in share) + sum(y * y for _, y in share))


def segpgd(image: list[tuple[float, int]], progress: float) -> float:
    weights = [1 - progress / 2 if (z > THRESHOLD) == bool(y) else progress / 2 for z, y in image]
    return mean([-w * math.log(true_label(*p)) for w, p in zip(weights, image, strict=True)])


def cospgd(image: list[tuple[float, int]], progress: float) -> float:
    found = []
    for z, y in image:
        softmax, one_hot = (true_label(z, 0), true_label(z, 1)), (1 - y, y)
        cosine = sum(a * b for a, b in zip(softmax, one_hot, strict=True)) / math.hypot(*softmax)
        found.append(-cosine * math.log(true_label(z, y)))
    return mean(found)


def js(image: list[tuple[float, int]], progress: float) -> float:
    found = []
    for z, y in image:
        one, other = (true_label(z, 0), true_label(z, 1)), (1 - y, y)
        mixed = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
        terms = [
            a * math.log(a / m) for part in (one, other) for a, m in zip(part, mixed, strict=True)
            if a > 0
        ]  # fmt: skip
        found.append(sum(terms) / 2)
    return mean(found)


def margin(image: list[tuple[float, int]], progress: float) -> float:
    return mean([min(1.0, (1 - 2 * y) * (z - THRESHOLD)) for z, y in image])


PLAIN: dict[str, Callable[[list[tuple[float, int]], float], float]] = {
    function.__name__: function for function in (bce, balanced, dice, segpgd, cospgd, js, margin)
}


@EVERY
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_plain_loops(name: str, progress: float) -> None:
    """Each image has the value of a loop over its pixels, with both classes or one."""
    logits, masks = maps()
    found = LOSSES[name](logits, masks, THRESHOLD, progress)
    expected = [PLAIN[name](pixels(z, y), progress) for z, y in zip(logits, masks, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "cospgd"])
def test_gradient(name: str) -> None:
    """Central differences in float64."""
    logits, masks = maps(spread=1.5)
    logits.requires_grad_()
    (found,) = torch.autograd.grad(LOSSES[name](logits, masks, THRESHOLD, 0.4).sum(), logits)
    h = 1e-6
    for index in torch.randperm(logits.numel(), generator=torch.Generator().manual_seed(2))[:30]:
        nudge = torch.zeros_like(logits).flatten().index_fill(0, index, h).view_as(logits)
        with torch.no_grad():
            up, down = (
                float(LOSSES[name](logits + sign * nudge, masks, THRESHOLD, 0.4).sum())
                for sign in (1, -1)
            )
        assert (up - down) / (2 * h) == pytest.approx(float(found.flatten()[index]), abs=1e-8)


def test_gradient_of_cospgd() -> None:
    """That of the cross-entropy, p − y, times the cosine, which is held."""
    logits, masks = maps()
    logits.requires_grad_()
    (found,) = torch.autograd.grad(LOSSES["cospgd"](logits, masks, THRESHOLD, 0.4).sum(), logits)
    both, one_hot = torch.cat([0 * logits, logits], 1), torch.cat([1 - masks, masks], 1)
    cosine = torch.cosine_similarity(both.softmax(1), one_hot, dim=1)[:, None]
    expected = cosine * (torch.sigmoid(logits) - masks) / masks[0].numel()
    assert torch.allclose(found, expected, rtol=1e-10)


@EVERY
def test_an_image_does_not_see_its_batch_mates(name: str) -> None:
    logits, masks = maps()
    together = LOSSES[name](logits, masks, THRESHOLD, 0.5)
    alone = [
        LOSSES[name](z[None], y[None], THRESHOLD, 0.5) for z, y in zip(logits, masks, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "cospgd"])
def test_a_wrong_map_has_the_larger_loss(name: str) -> None:
    """Surely right, undecided, surely wrong: the loss rises, on forged and authentic images.
    CosPGD's weight of a wrong pixel falls as fast."""
    _, masks = maps()
    sure = (2 * masks - 1) * 4
    losses = [LOSSES[name](z, masks, 0.0, 0.5) for z in (sure, 0 * sure, -sure)]
    assert (losses[0] < losses[1]).all()
    assert (losses[1] < losses[2]).all()


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saturated_logits_give_finite_values(name: str, dtype: torch.dtype) -> None:
    masks = torch.tensor([[[[0.0, 1.0, 0.0, 1.0]]]])
    logits = torch.tensor([-60.0, 60.0, 60.0, -60.0]).view(1, 1, 1, 4).to(dtype).requires_grad_()
    losses = LOSSES[name](logits, masks, 0.0, 0.5)
    (found,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()
    assert found.isfinite().all()


def test_segpgd_begins_with_right_pixels_and_ends_with_both_alike() -> None:
    """λ = 0: the loss of pixels that are wrong is left out; λ = 1/2: half the cross-entropy."""
    logits, masks = maps()
    right = (logits > THRESHOLD) == (masks > 0.5)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    first = LOSSES["segpgd"](logits, masks, THRESHOLD, 0.0)
    assert torch.allclose(first, (losses * right).mean((1, 2, 3)))
    last = LOSSES["segpgd"](logits, masks, THRESHOLD, 1.0)
    assert torch.allclose(last, LOSSES["bce"](logits, masks, THRESHOLD, 0.0) / 2)


def test_js_is_at_most_ln_2() -> None:
    _, masks = maps()
    wrong = LOSSES["js"]((1 - 2 * masks) * 80, masks, 0.0, 0.0)
    assert wrong.tolist() == pytest.approx([math.log(2)] * 4)
