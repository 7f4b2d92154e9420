"""C&W: its steps in closed form, its fixed point, its snapshots and its target."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from advbench.attacks.batch import Batch
from advbench.attacks.cw import CW

from .toys import LINEAR_WEIGHTS, Pictures, Toy, floats, linear, pictures, sized, wavy_net

W = torch.tensor(LINEAR_WEIGHTS).view(1, 3, 1, 1)
FORMS = [
    {"variant": "paper", "lr": 2e-3},
    {"variant": "paper", "lr": 5e-5, "optimizer": "gd"},
    {"variant": "hinge", "lr": 2e-3},
    {"variant": "hinge", "lr": 2e-5, "optimizer": "gd"},
]


def grey(count: int = 2) -> Pictures:
    """Pictures far from black and white, where no projection acts."""
    batch = pictures(count)
    return Pictures((batch.images // 4 + 96).byte(), batch.masks, batch.ids)


def logits(x: Tensor, bias: float = 0.1) -> Tensor:
    return (x * W.to(x)).sum(1, keepdim=True) + bias


def slope(z: Tensor) -> Tensor:
    """σ′."""
    return torch.sigmoid(z) * (1 - torch.sigmoid(z))


def one_step(batch: Pictures, victim: Toy, **settings: object) -> Tensor:
    (result,) = batch.attacked(CW(steps=1, **settings), victim).values()
    return floats(result)


@pytest.mark.parametrize("project", ["each", "final"])
@pytest.mark.parametrize("c", [1.0, 0.25])
def test_first_gradient_step(project: str, c: float) -> None:
    """Eq. 5 from ξ = 0: clip(x − lr·c·2σ′(z)·w)."""
    batch, lr = pictures(), 0.3
    found = one_step(batch, Toy(linear()), optimizer="gd", lr=lr, c=c, project=project)
    expected = (batch.x - lr * c * 2 * slope(logits(batch.x)) * W).clamp(0, 1)
    assert (found - expected).abs().max() <= 6e-8
    assert (expected - batch.x).abs().max() > 0.01


@pytest.mark.parametrize("project", ["each", "final"])
def test_projection_at_each_step_or_at_the_end(project: str) -> None:
    """Four steps written out: ξ is clipped to what an image admits each time, or never."""
    batch, lr = pictures(), 0.2
    noise = torch.zeros_like(batch.x)
    for _ in range(4):
        noise = noise - lr * (2 * noise + 2 * slope(logits(batch.x + noise)) * W)
        if project == "each":
            noise = (batch.x + noise).clamp(0, 1) - batch.x
    attack = CW(steps=4, optimizer="gd", lr=lr, project=project)
    seen: list[Tensor] = []
    victim = Toy(linear(), lambda images: seen.append(images.detach().clone()))
    (result,) = batch.attacked(attack, victim).values()
    assert (floats(result) - (batch.x + noise).clamp(0, 1)).abs().max() <= 1e-6
    left = any(images.min() < -0.01 or images.max() > 1.01 for images in seen)
    assert left == (project == "final")


def test_first_adam_step() -> None:
    """Adam's first step is lr·sign of the gradient."""
    batch = pictures()
    found = one_step(batch, Toy(linear()), lr=1e-3)
    assert (found - (batch.x - 1e-3 * W.sign()).clamp(0, 1)).abs().max() <= 6e-8


@pytest.mark.parametrize("threshold", [0.5, 0.3])
@pytest.mark.parametrize("kappa", [0.0, 0.4])
def test_first_hinge_step(threshold: float, kappa: float) -> None:
    """Only pixels above logit δ − κ push, each with w."""
    batch = grey()
    level = math.log(threshold / (1 - threshold)) - kappa
    bias = level - 0.3
    active = (logits(batch.x, bias) > level).float()
    settings = {"variant": "hinge", "optimizer": "gd", "lr": 0.1, "kappa": kappa}
    victim = Toy(linear(bias=bias), threshold=threshold)
    seen: list[Tensor] = []
    victim.watch = lambda images: seen.append(images.detach().clone())
    one_step(batch, victim, **settings)
    expected = batch.x - 0.1 * W * active
    assert 0.2 < active.mean() < 0.8
    assert (torch.cat(seen[1::2]) - expected).abs().max() <= 6e-8


@pytest.mark.parametrize("c", [1.0, 0.6])
def test_gradient_descent_comes_to_rest_where_the_objective_does(c: float) -> None:
    """2ξ + c·2σ′(z)·w = 0 at the end, up to the float32 of the victim's logits."""
    batch = grey()
    x = batch.x.double()
    attack = CW(steps=300, optimizer="gd", lr=0.05, c=c, project="final")
    victim = Toy(linear().double())
    (snapshot,) = attack.perturb(
        victim, Batch(x, batch.y.double(), batch.ids, 0, sized(1))
    ).values()
    found = torch.stack([item.float_image for item in snapshot])
    noise = found - x
    assert 0 < found.min() < found.max() < 1
    assert noise.abs().min() > 0.02
    assert (2 * noise + c * 2 * slope(logits(found)) * W).abs().max() <= 1e-7


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_snapshot_is_a_shorter_run(form: dict[str, Any]) -> None:
    """What is taken at m equals a run of m steps, in any order and company of snapshots."""
    batch, victim = pictures(2), Toy(wavy_net())
    together = batch.attacked(CW(steps=(9, 2, 5), **form), victim)
    assert list(together) == ["cw-9", "cw-2", "cw-5"]
    for steps in (2, 5, 9):
        alone = batch.attacked(CW(steps=steps, **form), victim)[f"cw-{steps}"]
        assert torch.equal(floats(together[f"cw-{steps}"]), floats(alone))
        assert torch.equal(together[f"cw-{steps}"].images, alone.images)
    assert not torch.equal(floats(together["cw-2"]), floats(together["cw-9"]))


def test_a_snapshot_alters_nothing_after_it() -> None:
    """The best so far at the end is the same with a snapshot at every step before."""
    batch, victim = pictures(), Toy(linear(bias=-0.7))
    settings = {"variant": "hinge", "lr": 0.02}
    often = batch.attacked(CW(steps=tuple(range(1, 31)), **settings), victim)
    once = batch.attacked(CW(steps=30, **settings), victim)
    assert torch.equal(floats(often["cw-30"]), floats(once["cw-30"]))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_ground_truth_is_never_read(form: dict[str, Any]) -> None:
    """Any mask gives the same images, ids and seeds likewise."""
    batch, victim, attack = pictures(2), Toy(wavy_net()), CW(steps=(2, 5), **form)
    other = Pictures(batch.images, torch.zeros_like(batch.masks), ["a", "b"])
    one, two = batch.attacked(attack, victim), other.attacked(attack, victim, seed=7)
    assert all(torch.equal(floats(one[variant]), floats(two[variant])) for variant in one)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_it_goes_towards_the_empty_mask(form: dict[str, Any]) -> None:
    """The mean probability falls from snapshot to snapshot, and so does the objective."""
    batch, victim = pictures(2), Toy(wavy_net())
    results = batch.attacked(CW(steps=(5, 10, 20), **form), victim)
    with torch.no_grad():
        images = [batch.x, *(floats(result) for result in results.values())]
        means = [float(victim.probabilities(x).mean()) for x in images]
    assert all(later < earlier - 1e-3 for earlier, later in pairwise(means))
    assert all(item.loss_last < item.loss_first for item in results["cw-20"].details)


def test_the_reported_objective_is_that_of_the_paper() -> None:
    """loss_first = Σ (2P − 2δ) at ξ = 0; loss_last adds ‖ξ‖² one step before the end."""
    batch, victim = grey(), Toy(linear(), threshold=0.2)
    settings = {"optimizer": "gd", "lr": 0.05, "c": 0.5}
    before, after = (batch.attacked(CW(steps=m, **settings), victim) for m in (3, 4))
    states = {"loss_first": batch.x, "loss_last": floats(before["cw-3"])}
    for field, x in states.items():
        f = (2 * torch.sigmoid(logits(x)) - 2 * 0.2).sum((1, 2, 3))
        expected = (x - batch.x).square().sum((1, 2, 3)) + 0.5 * f
        found = torch.tensor([getattr(item, field) for item in after["cw-4"].details])
        assert torch.allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "hinge"])
def test_the_threshold_matters_to_the_hinge_only(variant: str) -> None:
    """Unclamped, k is a constant of the objective; clamped, it says which pixels push."""
    batch, attack = pictures(2), CW(steps=6, lr=5e-3, variant=variant)
    low, high = (
        floats(batch.attacked(attack, Toy(wavy_net(), threshold=delta))["cw-6"])
        for delta in (0.2, 0.5)
    )
    assert torch.equal(low, high) == (variant == "paper")


def test_the_hinge_keeps_the_best_so_far() -> None:
    """Of all iterates, the one with fewest pixels above the threshold, then of least ‖ξ‖²."""
    batch, seen = grey(1), []
    level = math.log(0.3 / 0.7)
    victim = Toy(linear(bias=-0.7), lambda images: seen.append(images.detach().clone()), 0.3)
    kept = []
    for steps in (1, 4, 30):
        seen.clear()
        (result,) = batch.attacked(CW(steps=steps, lr=0.02, variant="hinge"), victim).values()
        iterates = torch.cat(seen)
        assert len(iterates) == steps + 1
        forged = (logits(iterates, bias=-0.7) > level).flatten(1).sum(1)
        energy = (iterates - batch.x).double().square().sum((1, 2, 3))
        fewest = forged == forged.min()
        best = int(energy.where(fewest, torch.inf).argmin())
        assert torch.equal(floats(result)[0], iterates[best])
        kept.append((best, int(forged[best])))
    assert kept[0][1] > 0
    assert kept[-1] == (kept[-1][0], 0)
    assert kept[-1][0] < 29


def test_an_early_stop_is_the_run_until_the_margin_is_passed() -> None:
    """Of a longer run it keeps what a run of so many steps keeps, alone and beside others."""
    batch, victim = pictures(3), Toy(wavy_net())
    settings = {"variant": "hinge", "lr": 0.02, "kappa": 0.5}
    stopped = CW(steps=(5, 400), early_stop=True, **settings)
    early, late = batch.attacked(stopped, victim).values()
    taken = [one.gradients for one in late.details]
    assert len(set(taken)) > 1
    assert max(taken) < 400
    for number, count in enumerate(taken):
        # The iterate after ``count`` steps is the first that is past the margin everywhere.
        (whole,) = batch.attacked(CW(steps=count, **settings), victim).values()
        assert torch.equal(late.details[number].float_image, whole.details[number].float_image)
        logits = victim.logits(floats(whole)[number : number + 1])
        assert (logits <= 0).all()
    (plain,) = batch.attacked(CW(steps=5, **settings), victim).values()
    for number, count in enumerate(taken):
        if count >= 5:
            assert torch.equal(floats(early)[number], floats(plain)[number])


def test_only_the_hinge_stops_early() -> None:
    with pytest.raises(ValueError, match="variant=hinge"):
        CW(early_stop=True)


@pytest.mark.parametrize(
    ("variant", "project"), [("paper", "each"), ("paper", "final"), ("hinge", "each")]
)
def test_images_are_images(variant: str, project: str) -> None:
    """Before the grid, too, every value lies in [0, 1]."""
    batch = pictures()
    attack = CW(steps=(1, 30), lr=0.02, variant=variant, project=project)
    for result in batch.attacked(attack, Toy(linear(bias=-0.7))).values():
        assert 0 <= floats(result).min() <= floats(result).max() <= 1
