"""How IF-OSN learns, and where every network starts: JPEG, unseen noise, residual filters."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.training.recipe import Recipe
from advbench.training.starts import start_at_full_scale, start_from_residuals
from advbench.victims.code.victim import CoDE
from advbench.victims.hdfnet.victim import HDFNet
from advbench.victims.ifosn import objective as social
from advbench.victims.ifosn.victim import IFOSN
from advbench.victims.mvssnet.victim import MVSSNet

from .test_objectives import in_training


def test_jpeg_passes_cover_the_range_of_qualities(monkeypatch):
    seen = []
    encode = social.cv2.imencode

    def imencode(suffix: str, pixels: np.ndarray, flags: list[int]) -> object:
        seen.append((suffix, *flags))
        return encode(suffix, pixels, flags)

    monkeypatch.setattr(social.cv2, "imencode", imencode)
    torch.manual_seed(0)
    social.recompressed(torch.rand(400, 3, 8, 8))
    assert {suffix for suffix, _, _ in seen} == {".jpg"}
    assert {flag for _, flag, _ in seen} == {social.cv2.IMWRITE_JPEG_QUALITY}
    assert {quality for _, _, quality in seen} == set(range(75, 99))


def test_jpeg_pass_follows_the_seed_and_keeps_the_picture():
    x = torch.linspace(0, 1, 32).expand(4, 3, 32, 32) * torch.tensor([1, 0.6, 0.1])[:, None, None]
    passes = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        passes.append(social.recompressed(x))
    assert torch.equal(passes[0], passes[1])
    assert not torch.equal(passes[0], passes[2])
    for decoded in passes:
        assert decoded.shape == x.shape
        assert torch.equal((decoded * 255).round() / 255, decoded)
        # No colour in another's place: they are apart by a third at the bright end.
        assert 0 < (decoded - x).abs().mean((0, 2, 3)).max() < 0.01
    assert social.recompressed(x[:0]).shape == (0, 3, 32, 32)


@pytest.fixture
def linear_osn(monkeypatch) -> SimpleNamespace:
    """The objective on a victim whose logits are linear, so that gradient signs are known; it
    keeps what it saw."""
    victim = in_training(IFOSN)
    told = SimpleNamespace(objective=social.SocialNetwork(victim, Recipe(dice=0, warm_share=0)))

    def logits(x: Tensor) -> Tensor:
        told.seen = x.detach()
        return (x * told.weight).sum(1, keepdim=True)

    monkeypatch.setattr(victim, "logits", logits)
    monkeypatch.setattr(social, "recompressed", lambda x: x)
    return told


def test_unseen_noise_is_of_five_batches_and_small(linear_osn, monkeypatch):
    monkeypatch.setattr(social, "SHARE", 1.1)
    rng = np.random.default_rng(0)
    objective, history = linear_osn.objective, []
    for number in range(9):
        if number == 8:
            objective.start_epoch(1)
            history.clear()
        images = torch.from_numpy(rng.uniform(0.2, 0.8, (2, 3, 6, 6))).float()
        masks = torch.from_numpy(rng.integers(0, 2, (2, 1, 6, 6))).float()
        linear_osn.weight = torch.from_numpy(rng.integers(-1, 2, (2, 3, 6, 6))).float()
        given = images.clone()
        loss = objective.loss(images, masks)
        xi = (np.sum(history[-5:], 0) * 2 / 255).clip(-2 / 255, 2 / 255) if history else 0
        assert np.abs((linear_osn.seen - images).numpy() - xi).max() < 1e-6
        assert torch.equal(images, given)
        loss.backward()
        # d BCE / d logit is p - m, of the sign of 1 - 2m.
        history.append((linear_osn.weight * (1 - 2 * masks)).numpy())


def test_warm_epochs_see_crops_as_they_are(linear_osn):
    objective = social.SocialNetwork(in_training(IFOSN), Recipe(epochs=4, warm_share=0.5))
    images, masks = torch.rand(40, 3, 4, 4), torch.zeros(40, 1, 4, 4)
    touched = []
    for number in range(4):
        objective.start_epoch(number)
        objective.victim.logits = lambda x: x.sum(1, keepdim=True)
        objective.loss(images, masks).backward()
        objective.loss(images, masks)
        touched.append(bool((objective.seen(images) != images).any()))
        assert objective.may_end(number) == touched[-1]
    assert touched == [False, False, True, True]


def test_unseen_noise_stays_on_shared_crops_and_in_range(linear_osn):
    torch.manual_seed(0)
    images, masks = torch.randint(0, 2, (200, 3, 4, 4)).float(), torch.zeros(200, 1, 4, 4)
    linear_osn.weight = torch.randn(200, 3, 4, 4)
    linear_osn.objective.loss(images * 0.5 + 0.25, masks).backward()
    linear_osn.objective.loss(images, masks)
    assert linear_osn.seen.min() >= 0
    assert linear_osn.seen.max() <= 1
    changed = (linear_osn.seen != images).flatten(1).any(1)
    assert 70 < int(changed.sum()) < 130


@pytest.mark.parametrize(
    ("victim_class", "convolutions"), [(CoDE, 1), (HDFNet, 3), (IFOSN, 1), (MVSSNet, 2)]
)
def test_first_filters_start_blind_to_planes(victim_class, convolutions):
    """A planar image gives nothing, noise something; the rest of the network stays."""
    network = in_training(victim_class).network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    down, right = torch.meshgrid(torch.arange(15.0), torch.arange(15.0), indexing="ij")
    tilts = torch.tensor([[2.0, 3, 1], [-1, 2, 5], [4, -3, 0]])
    plane = torch.stack([a * down + b * right + c for a, b, c in tilts])[None]
    count = start_from_residuals(network, 0.5)
    changed = {
        name for name, value in network.state_dict().items() if not value.equal(before[name])
    }
    assert len(changed) == convolutions
    for name in changed:
        conv = network.get_submodule(name.removesuffix(".weight"))
        assert isinstance(conv, nn.Conv2d)
        weight, old = conv.weight.detach(), before[name]
        number = round(0.5 * len(weight))
        count -= number
        assert torch.equal(weight[number:], old[number:])
        norms = weight.flatten(1).norm(dim=1)
        assert torch.allclose(norms, old.flatten(1).norm(dim=1), rtol=1e-5)
        depth = 3 // conv.groups
        views = [plane, torch.rand_like(plane)]
        flat, noisy = (F.conv2d(x, weight, groups=conv.groups) for x in views)
        assert flat[:, :number].abs().max() < 1e-4 * flat[:, number:].abs().max()
        assert noisy[:, :number].abs().amax((0, 2, 3)).min() > 0.01
        if depth == 3:
            looked = weight[:number].flatten(2).abs().sum(2).argmax(1)
            assert looked.tolist() == [i % 3 for i in range(number)]
    assert count == 0


def test_no_share_changes_no_filter():
    network = in_training(CoDE).network
    before = network.conv_stem[0].weight.clone()
    assert start_from_residuals(network, 0) == 0
    assert torch.equal(network.conv_stem[0].weight, before)


def test_full_scale_start_keeps_the_scale() -> None:
    """Through ten convolutions with ReLUs the mean square stays; PyTorch's draw loses it."""
    layers = [layer for _ in range(10) for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())]
    torch.manual_seed(0)
    network, images = nn.Sequential(*layers), torch.randn(2, 64, 16, 16)
    with torch.no_grad():
        before = network(images).square().mean()
        start_at_full_scale(network)
        after = network(images).square().mean()
    assert before < 0.05
    assert 0.05 < after < 3
    assert all(not layer.bias.any() for layer in network[::2])
