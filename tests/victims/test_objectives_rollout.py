"""How CoDE learns: the A3C loss and its gradients against plain loops, and the warm start."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from advbench.training.recipe import Recipe
from advbench.victims.code import objective as rollout
from advbench.victims.code.network import CodeNetwork, Policy
from advbench.victims.code.victim import CoDE

from .test_objectives import batch, binary_entropy, in_training, squared_dice

MAP_LAYERS = ("p_mask_out", "v_mask_out", "mu", "sigma", "v_head")
SHAPE = (2, 1, 4, 4)


def reinforced(**fields: float) -> rollout.ActorCritic:
    """The objective in its first epoch, without a warm start."""
    objective = rollout.ActorCritic(in_training(CoDE), Recipe(warm_share=0, **fields))
    objective.start_epoch(0)
    return objective


@pytest.fixture
def episode(monkeypatch) -> SimpleNamespace:
    """An episode of given means, variances, values and actions in float64; the maps that policy
    and critic were asked about are kept."""
    torch.manual_seed(0)

    def leaves(low: float, high: float) -> list[Tensor]:
        return [
            torch.empty(SHAPE, dtype=torch.float64).uniform_(low, high).requires_grad_()
            for _ in range(3)
        ]

    played = SimpleNamespace(
        objective=reinforced(),
        means=leaves(-1, 1),
        variances=leaves(0.01, 0.5),
        values=leaves(0, 1),
        last=torch.rand(SHAPE, dtype=torch.float64),
        # Some beyond ±1, which the map's step is clipped to but not the density.
        actions=[1.2 * torch.randn(SHAPE, dtype=torch.float64) for _ in range(3)],
        masks=(torch.rand(SHAPE) < 0.5).double(),
        seen=[],
    )
    network = played.objective.network
    asked = []

    def policy(features: Tensor, probability: Tensor) -> Policy:
        played.seen.append(probability.numpy().copy())
        step = len(played.seen) - 1
        return Policy(played.means[step], played.variances[step])

    def value(features: Tensor, probability: Tensor) -> Tensor:
        asked.append(probability)
        return [*played.values, played.last][len(asked) - 1]

    for name in ("encode", "actor", "critic"):
        monkeypatch.setattr(network, name, lambda given: given)
    monkeypatch.setattr(network, "policy", policy)
    monkeypatch.setattr(network, "value", value)
    monkeypatch.setattr(rollout, "sample", lambda policy: played.actions[len(played.seen) - 1])
    return played


def maps_of(actions: list[Tensor]) -> list[np.ndarray]:
    """P_0 to P_3 by the rule."""
    maps = [np.zeros(SHAPE)]
    for action in actions:
        maps.append((maps[-1] + action.numpy().clip(-1, 1)).clip(0, 1))
    return maps


def test_loss_and_gradients_of_a3c_by_plain_loops(episode):
    """spec 4.6, pixel by pixel, with the derivatives written out by hand."""
    loss = episode.objective.loss(torch.zeros(2, 3, 4, 4), episode.masks)
    loss.backward()
    maps, total = maps_of(episode.actions), 0.0
    assert np.allclose(episode.seen, maps[:3], atol=1e-15)
    pixels = int(np.prod(SHAPE))
    for place in np.ndindex(*SHAPE):
        m = float(episode.masks[place])
        returned = float(episode.last[place])
        for t in (2, 1, 0):
            before, after = (binary_entropy(maps[k][place], m, 1e-8) for k in (t, t + 1))
            returned = before - after + 0.95 * returned
            advantage = returned - episode.values[t][place].item()
            action, mean = float(episode.actions[t][place]), 0.5 * episode.means[t][place].item()
            variance = episode.variances[t][place].item() + 1e-5
            normal = Normal(*torch.tensor([mean, variance**0.5], dtype=torch.float64))
            density = float(normal.log_prob(episode.actions[t][place]).exp())
            total -= np.log(density + 1e-6) * advantage + 0.01 * float(normal.entropy())
            total += 0.5 * advantage**2 / 2
            pull = -advantage * density / (density + 1e-6) / pixels
            away = action - mean
            assert float(episode.values[t].grad[place]) == pytest.approx(
                -0.5 * advantage / pixels, rel=1e-9
            )
            assert float(episode.means[t].grad[place]) == pytest.approx(
                pull * 0.5 * away / variance, rel=1e-9, abs=1e-15
            )
            spread = away**2 / (2 * variance**2) - 1 / (2 * variance)
            assert float(episode.variances[t].grad[place]) == pytest.approx(
                pull * spread - 0.01 * 0.5 / variance / pixels, rel=1e-9, abs=1e-15
            )
    assert loss.item() == pytest.approx(total / pixels, rel=1e-9)


def test_rewards_sum_to_what_the_cross_entropy_fell(episode, monkeypatch):
    """Undiscounted, with nothing to expect after the end: BCE(P_0) - BCE(P_3). The return is read
    from the gradient of the first value, (V - R) / 2 a pixel."""
    monkeypatch.setattr(rollout, "DISCOUNT", 1.0)
    episode.last.zero_()
    episode.objective.loss(torch.zeros(2, 3, 4, 4), episode.masks).backward()
    first = episode.values[0]
    returned = (first - 2 * np.prod(SHAPE) * first.grad).detach().numpy()
    maps, m = maps_of(episode.actions), episode.masks.numpy()
    fell = binary_entropy(maps[0], m, 1e-8) - binary_entropy(maps[3], m, 1e-8)
    assert np.abs(returned - fell).max() < 1e-9
    assert fell.max() > 10  # forged pixels start at -log(1e-8)


def test_actions_are_drawn_from_the_policy():
    mean = torch.tensor([-0.8, 0.0, 0.6]).repeat(40_000, 1).requires_grad_()
    variance = torch.tensor([0.0, 0.04, 0.25]).repeat(40_000, 1).requires_grad_()
    torch.manual_seed(0)
    action = rollout.sample(Policy(mean, variance))
    assert not action.requires_grad
    assert torch.allclose(action.mean(0), torch.tensor([-0.4, 0.0, 0.3]), atol=0.01)
    assert torch.allclose(action.var(0), torch.tensor([1e-5, 0.04001, 0.25001]), rtol=0.03)
    torch.manual_seed(0)
    assert torch.equal(rollout.sample(Policy(mean, variance)), action)


def test_supervised_rollout_is_that_of_inference():
    """Losses of the three maps that the network itself plays."""
    objective = rollout.SupervisedRollout(in_training(CoDE), Recipe(dice=0.3))
    nn.init.constant_(objective.network.mu[7].bias, 0.4)
    images, masks = batch(64)
    loss = objective.loss(images, masks).item()
    with torch.no_grad():
        maps = [p.double().numpy() for p in objective.network.rollout(images)]
    m = masks.double().numpy()
    # The margin of 0.02 keeps cross-entropies finite.
    expected = [binary_entropy(0.02 + 0.96 * p, m).mean() + 0.3 * squared_dice(p, m) for p in maps]
    assert loss == pytest.approx(np.mean(expected), rel=1e-4)
    assert maps[2].max() > maps[0].max() > 0


def gradients(objective: rollout.SupervisedRollout) -> dict[str, bool]:
    """Which parameters an epoch's first batch moves."""
    network = objective.network
    objective.loss(*batch(64)).backward()
    return {
        name: parameter.grad is not None and bool(parameter.grad.any())
        for name, parameter in network.named_parameters()
    }


def test_critic_and_variance_learn_from_rewards_alone():
    def idle(name: str) -> bool:
        return name.startswith(("v_", "sigma"))

    from_rewards = gradients(reinforced())
    # A bias before a batch norm in train mode moves nothing, and ReLUs may be dead: heads and stem.
    for name in ("mu.7", "sigma.7", "v_head.4", "p_mask_out.0", "v_mask_out.0", "conv_stem.0"):
        assert from_rewards[f"{name}.weight"], name
    supervised = gradients(rollout.SupervisedRollout(in_training(CoDE), Recipe()))
    assert not any(moves for name, moves in supervised.items() if idle(name))
    assert supervised["mu.7.weight"]
    assert supervised["conv_stem.0.weight"]


def norms_by_use(network: CodeNetwork) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Batch norms of what the map goes through, and those of the image alone."""
    found = {n: m for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    of_map = {n: m for n, m in found.items() if n.startswith(MAP_LAYERS)}
    return of_map, {n: m for n, m in found.items() if n not in of_map}


@pytest.mark.parametrize("warm_share", [0, 0.9])
def test_layers_of_the_map_train_at_fixed_statistics(warm_share):
    objective = rollout.ActorCritic(in_training(CoDE), Recipe(warm_share=warm_share, epochs=2))
    network = objective.network
    of_map, of_image = norms_by_use(network)
    assert len(of_map) == 3 + 3 + 2 + 2 + 1
    assert len(of_image) > 20
    for epoch in (0, 1):
        network.train()  # as the loop does before each epoch
        objective.start_epoch(epoch)
        assert not any(module.training for module in of_map.values())
        assert all(module.training for module in of_image.values())
        before = {name: value.clone() for name, value in network.named_buffers()}
        objective.loss(*batch(64)).backward()
        moved = {
            name.rpartition(".")[0]
            for name, value in network.named_buffers()
            if not value.equal(before[name])
        }
        critic = {name for name in of_image if name.startswith("v_")}
        warm = epoch == 0 and warm_share
        assert moved == of_image.keys() - (critic if warm else set())
    assert network.mu[0].weight.grad.any()


def test_warm_start_is_supervised_and_no_result():
    recipe = Recipe(warm_share=0.5, epochs=4)
    objective = rollout.ActorCritic(in_training(CoDE), recipe)
    supervised = rollout.SupervisedRollout(objective.victim, recipe)
    network, crops = objective.network, batch(64)
    first = network.sigma[7].bias.item()
    for epoch in range(4):
        network.train()
        objective.start_epoch(epoch)
        with torch.no_grad():
            same = torch.equal(objective.loss(*crops), supervised.loss(*crops))
        assert same is (epoch < 2)
        assert objective.may_end(epoch) is (epoch >= 2)
        # The variance starts small once, and is then left to learn.
        expected = {0: first, 1: first, 2: -3.0, 3: 0.25}[epoch]
        if epoch == 3:
            assert float(network.sigma[7].bias) == expected
        else:
            assert float(network.sigma[7].bias) == pytest.approx(expected)
            if epoch == 2:
                nn.init.constant_(network.sigma[7].bias, 0.25)


@pytest.mark.parametrize(("epochs", "warm_share"), [(1, 2 / 3), (4, 0.9), (3, 0)])
def test_a_run_of_any_length_has_a_result(epochs, warm_share):
    recipe = Recipe(epochs=epochs, warm_share=warm_share)
    objective = rollout.ActorCritic(in_training(CoDE), recipe)
    assert objective.may_end(epochs - 1)
