"""Regions, restarts and random noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from advbench.attacks.noise import Noise
from advbench.attacks.pgd import PGD
from advbench.attacks.regions import region_mask
from advbench.attacks.strength import damage

from .toys import ALL, Pictures, Toy, floats, linear, pictures, wavy_net


def block(side: int = 64) -> Pictures:
    """A picture with a square forgery of a quarter of its sides."""
    batch = pictures(2, side, side)
    masks = torch.zeros_like(batch.masks)
    masks[:, side // 4 : side // 2, side // 4 : side // 2] = True
    return Pictures(batch.images, masks, batch.ids)


@pytest.mark.parametrize("region", ["forged", "authentic", "seam"])
@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "mifgsm", "pgn", "apgd", "cw", "noise"])
def test_nothing_changes_outside(name: str, region: str) -> None:
    """Stored bytes and floats alike, and much changes inside."""
    batch = block(24)
    attack = Noise(eps=3) if name == "noise" else ALL[name]
    attack = attack.model_copy(update={"region": region})
    inside = region_mask(region, batch.y)
    assert inside is not None
    results = batch.attacked(attack, Toy(wavy_net()))
    assert all(variant.endswith(f"-{region}") for variant in results)
    result = list(results.values())[-1]
    for found, before in ((result.images, batch.images), (floats(result), batch.x)):
        changed = found != before
        assert not (changed & ~inside).any()
        assert changed[inside.expand_as(changed)].float().mean() > 0.3


def test_regions_are_of_the_truth() -> None:
    """The band reaches 1/32 of the side to both sides of the seam, the parts make up the whole."""
    batch = block(64)
    forged, authentic, seam = (
        region_mask(r, batch.y)[0, 0] for r in ("forged", "authentic", "seam")
    )
    assert torch.equal(forged, batch.masks[0])
    assert torch.equal(authentic, ~forged)
    row = seam[24].int().tolist()
    assert [i for i in range(64) if row[i]] == [14, 15, 16, 17, 30, 31, 32, 33]
    assert region_mask("whole", batch.y) is None
    empty = torch.zeros_like(batch.y)
    assert not region_mask("seam", empty).any()
    assert not region_mask("forged", empty).any()


def test_the_strongest_restart_is_kept() -> None:
    """Image by image no weaker than any single run of the same random numbers."""
    batch, victim = pictures(4, 16, 16), Toy(wavy_net())

    def damages(images: torch.Tensor) -> np.ndarray:
        logits = victim.logits(images.float() / 255)
        return damage(logits, batch.y, victim.threshold).numpy()

    attack = PGD(eps=1, iterations=2, restarts=4)
    kept = damages(batch.attacked(attack, victim)["pgd-1"].images)
    first = damages(
        batch.attacked(attack.model_copy(update={"restarts": 1}), victim)["pgd-1"].images
    )
    assert (kept >= first).all()
    assert kept.sum() > first.sum()


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], -2.0),  # F1 1 and MCC 1
        ([0, 0, 1, 1], [1, 1, 0, 0], 1.0),  # F1 0 and MCC −1
        ([0, 0, 0, 0], [1, 1, 0, 0], 0.0),
        ([1, 1, 1, 1], [1, 1, 0, 0], -2 / 3),
        ([1, 0, 0, 0], [0, 0, 0, 0], 0.25),  # an authentic image: the marked share
        ([1, 1, 1, 0], [1, 1, 1, 1], -6 / 7),
    ],
)
def test_damage(found: list[int], truth: list[int], expected: float) -> None:
    """−(F1 + MCC) at the threshold; of an authentic image what is marked."""
    logits = torch.tensor(found).float().view(1, 1, 2, 2) * 2 - 1 + np.log(0.2 / 0.8)
    y = torch.tensor(truth).float().view(1, 1, 2, 2)
    assert float(damage(logits, y, 0.2)) == pytest.approx(expected)


def test_noise_is_signs_of_the_budget() -> None:
    """±φ everywhere but at black and white, half of each, another for each φ and image."""
    batch = pictures(2, 40, 40)
    results = batch.attacked(Noise(eps=(1, 3)), Toy(linear()))
    for eps in (1, 3):
        noise = results[f"noise-{eps}"].images.int() - batch.images.int()
        inner = (batch.images >= eps) & (batch.images <= 255 - eps)
        assert set(noise[inner].tolist()) == {-eps, eps}
        assert abs(float((noise[inner] > 0).float().mean()) - 0.5) < 0.03
    one, other = (results[f"noise-{eps}"].images.int() - batch.images.int() for eps in (1, 3))
    assert (one.sign() != other.sign()).any()
    assert F.mse_loss(one[0].float(), one[1].float()) > 1


def test_noise_needs_no_gradient() -> None:
    victim = Toy(linear())
    victim.differentiable = False
    assert set(pictures(1).attacked(Noise(eps=2), victim)) == {"noise-2"}
