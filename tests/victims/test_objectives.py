"""What the four learn from, against closed forms, plain loops and other libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import sigmoid_focal_loss

from advbench.errors import AdvbenchError
from advbench.training.recipe import Recipe
from advbench.victims.base import Victim
from advbench.victims.code import objective as rollout
from advbench.victims.code.victim import CoDE
from advbench.victims.hdfnet import objective as hierarchical
from advbench.victims.hdfnet.victim import HDFNet
from advbench.victims.ifosn import objective as social
from advbench.victims.ifosn.victim import IFOSN
from advbench.victims.mvssnet import objective as edges
from advbench.victims.mvssnet.victim import MVSSNet
from advbench.victims.objective import localization_loss, make_objective
from advbench.victims.weights import Weights

OWN = {
    CoDE: rollout.ActorCritic,
    HDFNet: hierarchical.ThreeMaps,
    IFOSN: social.SocialNetwork,
    MVSSNet: edges.RegionsAndEdges,
}


def in_training(victim_class: type[Victim]) -> Victim:
    torch.manual_seed(0)
    victim = victim_class(victim_class.build_network("small"), Weights("", "test"), "small")
    victim.network.train().requires_grad_(True)
    return victim


def batch(side: int = 32, count: int = 2) -> tuple[Tensor, Tensor]:
    """Flat pictures with a noisy square, which is the mask."""
    rng = np.random.default_rng(0)
    masks = np.zeros((count, 1, side, side))
    masks[:, :, side // 8 : side // 2, side // 4 : side // 2] = 1
    images = rng.uniform(0.3, 0.7, (count, 3, 1, 1)) + masks * rng.normal(
        0, 0.1, (count, 3, side, side)
    )
    return torch.from_numpy(images.clip(0, 1)).float(), torch.from_numpy(masks).float()


def blobs(seed: int, side: int = 40) -> Tensor:
    """A mask with parts at the borders, 2×1×S×S."""
    noise = np.random.default_rng(seed).normal(size=(2, 1, side, side))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, 3, 3)) > 0.02).float()


def binary_entropy(p: np.ndarray, m: np.ndarray, eps: float = 0.0) -> np.ndarray:
    return -(m * np.log(p + eps) + (1 - m) * np.log(1 - p + eps))


def squared_dice(p: np.ndarray, m: np.ndarray) -> float:
    return 1 - (2 * (p * m).sum() + 1) / ((p * p).sum() + (m * m).sum() + 1)


def sigmoid(z: Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-z.double().numpy()))


# --- by name


@pytest.mark.parametrize("victim_class", OWN)
def test_the_victims_own_objective_is_the_first(victim_class):
    victim = in_training(victim_class)
    assert type(make_objective(victim, Recipe())) is OWN[victim_class]
    known = list(victim.objectives)
    for name in known:
        objective = make_objective(victim, Recipe(objective=name))
        assert objective.victim is victim
        assert not list(objective.parameters())
    with pytest.raises(
        AdvbenchError, match=f"{victim.name} has no 'reward'; it has {', '.join(known)}"
    ):
        make_objective(victim, Recipe(objective="reward"))


@pytest.mark.parametrize(
    ("victim_class", "name", "side"),
    [
        (CoDE, "rollout", 64),
        (CoDE, "a3c", 64),
        (HDFNet, "maps", 256),
        (IFOSN, "osn", 32),
        (IFOSN, "plain", 32),
        (MVSSNet, "edges", 64),
    ],
)
def test_a_few_steps_reduce_the_loss(victim_class, name, side):
    objective = make_objective(in_training(victim_class), Recipe(objective=name, warm_share=0))
    optimizer = torch.optim.Adam(objective.victim.network.parameters(), 3e-3)
    images, masks = batch(side)
    losses = []
    for _ in range(6):
        torch.manual_seed(1)  # the same noise, so that steps compare
        objective.victim.network.train()
        objective.start_epoch(0)
        loss = objective.loss(images, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.05 * abs(losses[0]), losses


@pytest.mark.parametrize(
    ("victim_class", "side", "warm_share"),
    [(CoDE, 64, 0), (CoDE, 64, 0.9), (HDFNet, 256, 0), (MVSSNet, 64, 0)],
)
def test_mixed_precision_of_a_gpu_refuses_nothing(victim_class, side, warm_share):
    """Shapes and types alone, as a GPU's autocast would have them: it refuses some functions."""
    recipe = Recipe(warm_share=warm_share, epochs=2)
    before = torch.is_autocast_enabled("cuda")
    with FakeTensorMode(), torch.device("cuda"):
        objective = make_objective(in_training(victim_class), recipe)
        objective.start_epoch(0)
        images, masks = torch.rand(2, 3, side, side), torch.ones(2, 1, side, side)
        torch.set_autocast_enabled("cuda", True)  # torch.autocast itself looks for a GPU
        try:
            loss = objective.loss(images, masks)
        finally:
            torch.set_autocast_enabled("cuda", before)
    assert loss.dtype == torch.float32


def test_dice_of_half_precision_logits_does_not_overflow():
    """More pixels than float16 counts to."""
    logits, masks = torch.full((2, 1, 256, 256), 6.0), torch.ones(2, 1, 256, 256)
    masks[:, :, :64] = 0
    full = localization_loss(logits, masks, 1.0).item()
    assert localization_loss(logits.half(), masks, 1.0).item() == pytest.approx(full, rel=1e-2)


# --- HDF-Net


def test_focal_loss_weighs_both_classes_alike():
    torch.manual_seed(0)
    logits, masks = 3 * torch.randn(2, 1, 9, 9).double(), (torch.rand(2, 1, 9, 9) < 0.3).double()
    expected = 0.25 * sigmoid_focal_loss(logits, masks, alpha=-1, gamma=2, reduction="mean")
    assert torch.allclose(hierarchical.focal_loss(logits, masks), expected, rtol=1e-12)
    p = torch.where(masks > 0, torch.sigmoid(logits), torch.sigmoid(-logits))
    assert torch.allclose((-0.25 * (1 - p) ** 2 * p.log()).mean(), expected, rtol=1e-10)


def test_dice_of_hdfnet_is_per_sample():
    p, m = torch.rand(3, 1, 6, 6).double(), blobs(0, 6).double()[[0, 1, 0]]
    expected = np.mean(
        [
            1 - (2 * float((a * b).sum()) + 1) / (float(a.sum() + b.sum()) + 1)
            for a, b in zip(p, m, strict=True)
        ]
    )
    assert float(hierarchical.sample_dice_loss(p, m)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("padding", [0, 5])
def test_ssim_is_that_of_another_library(padding):
    """Away from borders; and at them, where a frame of zeros stands for what is beyond."""
    torch.manual_seed(0)
    x, y = torch.rand(2, 1, 40, 40).double(), blobs(1).double()
    found = hierarchical.ssim(x, y)
    inner = slice(5, -5) if padding == 0 else slice(None)
    for one, other, ours in zip(x[:, 0], y[:, 0], found[:, 0], strict=True):
        _, theirs = structural_similarity(
            np.pad(one.numpy(), 2 * padding),
            np.pad(other.numpy(), 2 * padding),
            win_size=11,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            full=True,
        )
        theirs = theirs[2 * padding : 2 * padding + 40, 2 * padding : 2 * padding + 40]
        assert np.abs(ours.numpy() - theirs)[inner, inner].max() < 1e-6


def test_ssim_keeps_its_precision_under_autocast():
    """Nearly flat maps: their variances are below what half precision resolves."""
    torch.manual_seed(0)
    x, y = 0.9 + 0.02 * torch.rand(1, 1, 32, 32), 0.9 + 0.02 * torch.rand(1, 1, 32, 32)
    with torch.autocast("cpu", torch.float16):
        mixed = hierarchical.ssim(x, y)
    assert torch.equal(mixed, hierarchical.ssim(x, y))


def test_three_maps_are_weighed(monkeypatch):
    torch.manual_seed(0)
    victim, masks = in_training(HDFNet), blobs(2)
    maps = tuple(2 * torch.randn(2, 1, 40, 40) for _ in range(3))
    monkeypatch.setattr(victim, "maps", lambda images: maps)
    loss = hierarchical.ThreeMaps(victim, Recipe()).loss(torch.rand(2, 3, 40, 40), masks)
    expected = 0.0
    for weight, logits in zip((1, 1 / 4, 1 / 8), maps, strict=True):
        p, m = sigmoid(logits), masks.double().numpy()
        hit = np.where(m > 0, p, 1 - p)
        expected += weight * 0.8 * np.mean(-0.25 * (1 - hit) ** 2 * np.log(hit))
        overlap, size = (p * m).sum((1, 2, 3)), (p + m).sum((1, 2, 3))
        expected += weight * 0.1 * np.mean(1 - (2 * overlap + 1) / (size + 1))
        similar = hierarchical.ssim(torch.from_numpy(p), torch.from_numpy(m)).mean()
        expected += weight * 0.1 * (1 - float(similar))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


# --- MVSS-Net


@pytest.mark.parametrize("seed", range(3))
def test_edges_are_where_crosses_meet_both_sides(seed):
    masks = blobs(seed)
    cross = np.zeros((7, 7), bool)
    cross[3], cross[:, 3] = True, True
    found = edges.edge_target(masks)
    for mask, edge in zip(masks[:, 0].numpy() > 0, found[:, 0].numpy(), strict=True):
        grown = ndimage.binary_dilation(mask, cross) & ndimage.binary_dilation(~mask, cross)
        assert np.array_equal(edge, grown.astype(np.float32))
    assert 0 < found.mean() < 1
    assert not edges.edge_target(torch.zeros(1, 1, 20, 20)).any()
    assert not edges.edge_target(torch.ones(1, 1, 20, 20)).any()


def test_regions_edges_and_image_are_weighed(monkeypatch):
    torch.manual_seed(0)
    masks = blobs(3)
    masks[1] = 0  # an authentic picture
    rough, regions = torch.randn(2, 1, 10, 10), torch.randn(2, 1, 40, 40) - 1
    victim = in_training(MVSSNet)
    monkeypatch.setattr(victim, "edges_and_regions", lambda images: (rough, regions))
    loss = edges.RegionsAndEdges(victim, Recipe()).loss(torch.rand(2, 3, 40, 40), masks)
    p, m = sigmoid(regions), masks.double().numpy()
    edge = edges.edge_target(masks).double().numpy().reshape(2, 1, 10, 4, 10, 4).max((3, 5))
    image = binary_entropy(p.max((1, 2, 3)), np.array([1.0, 0.0])).mean()
    expected = 0.16 * (squared_dice(p, m) + binary_entropy(p, m).mean())
    expected += 0.04 * image + 0.80 * squared_dice(sigmoid(rough), edge)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
