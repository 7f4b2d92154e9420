"""The smallest φ against its closed form before a linear victim, and against brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import advbench
from advbench.attacks.apgd import APGD
from advbench.attacks.minimal import Minimal
from advbench.attacks.package_attack import TwoClasses
from advbench.scores.counts import Counts, f1
from advbench.victims.base import Victim
from tests.attacks.toys import LINEAR_WEIGHTS, Toy, linear, wavy_net

SLOPE = sum(map(abs, LINEAR_WEIGHTS)) / 255  # of the logit, by grey level


def flat(inside: float) -> tuple[Victim, Tensor, Tensor]:
    """A victim whose logit of forged pixels is so many levels above 0, of others far below."""
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, 5:12, 4:15] = True
    image = torch.full((1, 3, 20, 20), 120, dtype=torch.uint8)
    image[:, 0][mask] += 100
    network = linear()
    at_forged = float(network(image.float() / 255)[0, 0, 6, 6].detach())
    return Toy(linear(bias=0.1 - at_forged + inside * SLOPE)), image, mask


@pytest.mark.parametrize("levels", [0.4, 1.5, 2.99, 7.2, 16.5])
def test_the_closed_form_of_a_linear_victim(levels: float) -> None:
    """All forged pixels turn at once, at the first whole φ beyond their distance."""
    victim, image, mask = flat(levels)
    (found,) = Minimal()(victim, image, mask, ["a"]).values()
    assert (found.int() - image.int()).abs().max() == math.ceil(levels)


def test_where_no_phi_is_enough_the_largest_is_kept() -> None:
    victim, image, mask = flat(9.5)
    (result,) = Minimal(largest=6).run(victim, image, mask, ["a"]).values()
    assert (result.images.int() - image.int()).abs().max() == 6
    assert not (victim.logits(result.images.float() / 255)[0, 0] < 0)[mask[0]].any()


def score(victim: Victim, image: Tensor, mask: Tensor) -> float:
    with torch.no_grad():
        found = victim.logits(image.float() / 255)[0, 0] > 0
    truth = mask[0]
    pairs = ((found, truth), (found, ~truth), (~found, truth), (~found, ~truth))
    return float(f1(Counts(*(int((a & b).sum()) for a, b in pairs))))


def test_brute_force_over_every_phi() -> None:
    """Before a curved victim: the first φ of all whose APGD image has lost half of the F1."""
    victim = Toy(wavy_net())
    generator = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (3, 3, 24, 24), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        logits = victim.logits(images.float() / 255)[:, 0]
    masks = logits > logits.flatten(1).quantile(0.7, 1).view(-1, 1, 1)  # what it marks, mostly
    names = ["a", "b", "c"]
    attack = Minimal(largest=8, iterations=10)
    (result,) = attack.run(victim, images, masks, names).values()
    for number, name in enumerate(names):
        image, mask = images[number : number + 1], masks[number : number + 1]
        allowed = 0.5 * score(victim, image, mask)
        enough = []
        for phi in range(1, 9):
            (one,) = APGD(eps=phi, loss="dice", iterations=10)(victim, image, mask, [name]).values()
            if score(victim, one, mask) <= allowed:
                enough.append(phi)
        assert enough == list(range(enough[0], 9))  # else bisection promises nothing
        found = (result.images[number].int() - image[0].int()).abs().max()
        assert int(found) == enough[0]
    tries = [detail.gradients / 11 for detail in result.details]
    assert all(3 <= count <= 4 for count in tries)
    assert attack.passes() == 4 * 11


def test_smaller_shares_need_no_smaller_phi() -> None:
    victim, image, mask = flat(3.5)
    rng = np.random.default_rng(0)
    image = (image.int() + torch.from_numpy(rng.integers(-9, 10, image.shape))).byte()
    results = Minimal(left=(0.8, 0.5, 0.2)).run(victim, image, mask, ["a"])
    moved = [int((r.images.int() - image.int()).abs().max()) for r in results.values()]
    assert list(results) == ["minimal-0.8", "minimal-0.5", "minimal-0.2"]
    assert moved == sorted(moved)
    assert moved[0] < moved[-1]


# DAG steps along the gradient itself, and the noise that turns a pixel is w·d/|w|² there.
ALONG_GRADIENT = max(map(abs, LINEAR_WEIGHTS)) * sum(map(abs, LINEAR_WEIGHTS))
ALONG_GRADIENT /= sum(w * w for w in LINEAR_WEIGHTS)


@pytest.mark.parametrize(
    ("method", "arguments", "expected", "above"),
    [
        ("alma_prox", {"num_steps": 300}, 1.0, 0.001),
        ("pdpgd", {"num_steps": 500}, 1.0, 0.03),
        ("dag", {"γ": 0.0005}, ALONG_GRADIENT, 0.03),
    ],
)
def test_the_least_noise_of_adversarial_library(
    method: str, arguments: dict[str, Any], expected: float, above: float
) -> None:
    """Where all forged pixels turn at one distance, its attacks find that distance too."""
    pytest.importorskip("adv_lib")
    levels = 5.5
    victim, image, mask = flat(levels)
    forged = image[..., 5:12, 4:15] / 255
    labels = torch.ones_like(forged[:, 0], dtype=torch.long)
    attack: Any = advbench.load_attack(f"advlib:{method}", eps=[9], arguments=arguments)
    found = attack.one(TwoClasses(victim).eval(), forged, labels, 9 / 255)
    noise = 255 * float((found - forged).abs().max())
    (ours,) = Minimal()(victim, image, mask, ["a"]).values()
    assert (ours.int() - image.int()).abs().max() == math.ceil(levels)
    assert expected * levels <= noise <= (expected + above) * levels
