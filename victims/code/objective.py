"""Train CoDE: A3C-style reinforcement learning, and the supervised rollout beside it.

Peng et al., "Employing Reinforcement Learning to Construct a Decision-Making Environment for Image
Forgery Localization", T-IFS 2024. Every pixel is an agent; one learner plays one episode a batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.victims.code.network import ACTION_SCALE, STEPS, CodeNetwork, Policy, clip_to_unit
from advbench.victims.objective import Objective, dice_loss

DISCOUNT = 0.95
ENTROPY_WEIGHT = 0.01
VALUE_WEIGHT = 0.5
_LEAST_VARIANCE = 1e-5
_FIRST_SIGMA_BIAS = -3.0


# What the map goes through. It changes from step to step, so statistics of a batch would belong to
# no step, and those kept for inference to none either: these layers train at fixed statistics.
_MAP_LAYERS = ("p_mask_out", "mu", "sigma", "v_mask_out", "v_head")


class _Rollout(Objective):
    guided = "down1"

    @property
    def network(self) -> CodeNetwork:
        network = self.victim.network
        assert isinstance(network, CodeNetwork)
        return network

    def start_epoch(self, number: int) -> None:
        for name in _MAP_LAYERS:
            self.network.get_submodule(name).eval()


class SupervisedRollout(_Rollout):
    """Cross-entropy and soft Dice of P_1, P_2, P_3 through the straight-through clip: the same
    inference graph without reinforcement learning; sigma and the critic are not trained."""

    margin = 0.02

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        network = self.network
        actor = network.actor(network.encode(images))
        probability = torch.zeros_like(masks)
        total = torch.zeros((), device=masks.device)
        for _ in range(STEPS):
            moved = probability + ACTION_SCALE * network.mean(actor, probability)
            probability = clip_to_unit(moved, "straight-through")
            # A leak beyond the clip keeps the gradient's sign and bounds its size.
            inside = probability * (1 - 2 * self.margin) + self.margin
            # Autocast on a GPU refuses cross-entropies of probabilities, even in float32.
            with torch.autocast(masks.device.type, enabled=False):
                total = total + F.binary_cross_entropy(inside, masks)
            total = total + self.recipe.dice * dice_loss(probability, masks)
        return total / STEPS


class ActorCritic(SupervisedRollout):
    """Advantage actor-critic over an episode of three steps, after a supervised warm start.

    Reward of a step: how much the binary cross-entropy of the map falls. Loss, per pixel and step:
    -log π(a)·(R - V) - 0.01 entropy + 0.5·(R - V)²/2, with R the return discounted by 0.95 and
    bootstrapped with the value of the last state.

    The authors start from ImageNet's encoder. From random weights the variance collapses before the
    policy has learnt to see, so ``warm_share`` of the epochs train the rollout supervised.
    """

    staged = True

    def start_epoch(self, number: int) -> None:
        super().start_epoch(number)
        self._warm = not self.may_end(number)
        if number == self.first_of_last_stage:
            # The first explorations stay near what the warm start has learnt.
            nn.init.constant_(self.network.get_parameter("sigma.7.bias"), _FIRST_SIGMA_BIAS)

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        if self._warm:
            return super().loss(images, masks)
        network = self.network
        maps = network.encode(images)
        actor, critic = network.actor(maps), network.critic(maps)
        probability = torch.zeros_like(masks)
        steps = []
        for _ in range(STEPS):
            policy = network.policy(actor, probability)
            value = network.value(critic, probability)
            action = sample(policy)
            moved = (probability + action.clamp(-1, 1)).clamp(0, 1)
            reward = pixel_entropy(probability, masks) - pixel_entropy(moved, masks)
            steps.append((policy, value, action, reward))
            probability = moved
        with torch.no_grad():
            returned = network.value(critic, probability)
        total = torch.zeros_like(masks)
        for policy, value, action, reward in reversed(steps):
            returned = reward + DISCOUNT * returned
            advantage = returned - value
            density, entropy = log_density(policy, action)
            total = total - density * advantage.detach() - ENTROPY_WEIGHT * entropy
            total = total + VALUE_WEIGHT * advantage**2 / 2
        return total.mean()


def sample(policy: Policy) -> Tensor:
    """An action drawn from the policy, without gradient."""
    with torch.no_grad():
        deviation = (policy.variance + _LEAST_VARIANCE).sqrt()
        return ACTION_SCALE * policy.mean + deviation * torch.randn_like(policy.mean)


def log_density(policy: Policy, action: Tensor) -> tuple[Tensor, Tensor]:
    """log(π(a) + 1e-6) and the entropy of the Gaussian policy, per pixel."""
    variance = policy.variance + _LEAST_VARIANCE
    distance = (action - ACTION_SCALE * policy.mean) ** 2
    density = torch.exp(-distance / (2 * variance)) / (2 * math.pi * variance).sqrt()
    entropy = 0.5 * ((2 * math.pi * variance).log() + 1)
    return (density + 1e-6).log(), entropy


def pixel_entropy(probability: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy of a map, per pixel, with 1e-8 inside the logarithm."""
    return -torch.where(masks > 0.5, probability, 1 - probability).add(1e-8).log()
