"""Wrap CoDE as a victim."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from advbench.victims.base import Depth, Size, Victim
from advbench.victims.code.network import SIZES, Clip, CodeNetwork, replaced


class CoDE(Victim):
    """CoDE at 512² (small: 256²): RGB without normalisation, threshold 0.2.

    It has probabilities, no logits. :meth:`logits` gives the logit of the probability limited to
    [``margin``, 1 - ``margin``], with the gradient of the unlimited one.

    Attributes:
        clip: the gradient of the rollout's clip; ``autograd`` shows what masked gradients hide.
        margin: bounds the weight of saturated pixels in a cross-entropy to 1 / margin.
    """

    name: ClassVar[str] = "code"
    threshold: ClassVar[float] = 0.2
    working_sides: ClassVar[dict[Size, int]] = {"full": 512, "small": 256}
    objectives: ClassVar[dict[str, str]] = {
        "a3c": "advbench.victims.code.objective:ActorCritic",
        "rollout": "advbench.victims.code.objective:SupervisedRollout",
    }
    output_bias: ClassVar[str] = "mu.7.bias"
    recipes: ClassVar[dict[Size, dict[str, Any]]] = {
        "small": {"epochs": 36},
        "full": {"epochs": 100, "crop": 512, "learning_rate": 1e-4},
    }
    network: CodeNetwork
    clip: Clip = "straight-through"
    margin: float = 0.02

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        return CodeNetwork(SIZES[size])

    def probabilities(self, images: Tensor) -> Tensor:
        return self.network.rollout(images, self.clip)[-1]

    def logits(self, images: Tensor) -> Tensor:
        probability = self.probabilities(images)
        limited = probability.clamp(self.margin, 1 - self.margin)
        return torch.logit(replaced(probability, limited))

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        names = {
            "shallow": ["conv_stem", "down1", "down2"],
            "middle": ["down3", "down4", "p_merge1"],
            "topmost": ["p_merge2", "p_merge3", "p_merge4"],
        }[depth]
        return {name: self.network.get_submodule(name) for name in names}
