"""APGD against its published algorithm, written out image by image in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.attacks.apgd import APGD
from advbench.attacks.gradient import InputGradient
from advbench.attacks.pgd import random_point

from .toys import Toy, floats, linear, linear_sign, pictures, wavy_net

KEYS = [(0, f"picture-{row}", "apgd", "x") for row in range(3)]
EPS = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).view(-1, 1, 1, 1) / 255


def transcription(
    steps: int, network: nn.Module, x: Tensor, y: Tensor, *, eps: float, at: Tensor
) -> tuple[Tensor, list[float]]:
    """Algorithm 1 of Croce and Hein for one image from the point ``at``; and its step sizes."""

    def loss_and_gradient(z: Tensor) -> tuple[float, Tensor]:
        z = z.detach().requires_grad_()
        loss = F.binary_cross_entropy_with_logits(network(z), y)
        return float(loss.detach()), torch.autograd.grad(loss, z)[0]

    def project(z: Tensor) -> Tensor:
        return z.maximum(x - eps).minimum(x + eps).clamp(0, 1)

    checkpoints, period = [0], max(int(0.22 * steps), 1)
    while checkpoints[-1] + period <= steps:
        checkpoints.append(checkpoints[-1] + period)
        period = max(period - max(int(0.03 * steps), 1), int(0.06 * steps), 1)
    loss, g = loss_and_gradient(at)
    best_loss, best, best_g = loss, at, g
    losses, bests, sizes = [loss], [loss], [2 * eps]
    current, before = at, at
    for k in range(steps):
        z = project(current + sizes[-1] * g.sign())
        share = 0.75 if k else 1.0
        nxt = project(current + share * (z - current) + (1 - share) * (current - before))
        before, current = current, nxt
        loss, g = loss_and_gradient(current)
        losses.append(loss)
        if loss > best_loss:
            best_loss, best, best_g = loss, current, g
        if k + 1 in checkpoints:
            start = checkpoints[checkpoints.index(k + 1) - 1]
            rises = sum(losses[i + 1] > losses[i] for i in range(start, k + 1))
            seldom = rises <= 0.75 * (k + 1 - start)
            stale = len(bests) > 1 and sizes[-1] == sizes[-2] and bests[-1] == best_loss
            sizes.append(sizes[-1] / 2 if seldom or stale else sizes[-1])
            bests.append(best_loss)
            if seldom or stale:
                current, g = best, best_g
    return best, sizes


@pytest.mark.parametrize("steps", [1, 4, 20, 37])
def test_the_published_algorithm(steps: int) -> None:
    """The same best point as the loops from the same start, for rows of different φ; steps halve
    at some checkpoint."""
    network, batch = wavy_net().double(), pictures()
    x, y = batch.x.double(), batch.y.double()
    found = APGD(iterations=steps).perturb_rows(InputGradient(Toy(network), y), x, EPS, KEYS)
    start = random_point(x, EPS, KEYS, "uniform")
    halved = False
    for row in range(3):
        one = slice(row, row + 1)
        best, sizes = transcription(
            steps, network, x[one], y[one], eps=float(EPS[row]), at=start[one]
        )
        assert (found[one] - best).abs().max() <= 1e-14
        halved |= sizes[-1] < sizes[0]
    assert halved or steps < 20


def test_a_linear_victim_ends_in_the_corner() -> None:
    """Steps of 2 φ forget the start."""
    batch = pictures()
    (result,) = batch.attacked(APGD(eps=2, iterations=5), Toy(linear())).values()
    corner = (batch.x + 2 / 255 * (1 - 2 * batch.y) * linear_sign()).clamp(0, 1)
    assert torch.equal(floats(result), corner)


def test_the_best_point_is_kept() -> None:
    """No point that the victim was asked about has a larger loss than the result."""
    batch, seen = pictures(1), []
    network = wavy_net()

    def losses(images: Tensor) -> Tensor:
        y = batch.y.expand(len(images), -1, -1, -1)
        found = F.binary_cross_entropy_with_logits(network(images), y, reduction="none")
        return found.mean((1, 2, 3))

    victim = Toy(network, lambda images: seen.append(images.detach().clone()))
    (result,) = batch.attacked(APGD(eps=3, iterations=12), victim).values()
    assert torch.isclose(losses(floats(result)).max(), losses(torch.cat(seen)).max(), rtol=1e-5)
    assert len(seen) == 13
