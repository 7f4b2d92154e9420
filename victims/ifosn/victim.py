"""Wrap IF-OSN as a victim."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from advbench.victims.base import PLAIN_OBJECTIVE, Depth, Size, Victim
from advbench.victims.ifosn.network import SIZES, ScseUnet
from advbench.victims.ifosn.tiling import SIDE, tiled_logits

SMALLEST = 3  # pixels that the first pooling asks for; less is padded by repeating the border


class IFOSN(Victim):
    """IF-OSN at native size, in tiles above 896 pixels: RGB, ``(x - 0.5) / 0.5``, threshold 0.5."""

    name: ClassVar[str] = "ifosn"
    objectives: ClassVar[dict[str, str]] = {
        "osn": "advbench.victims.ifosn.objective:SocialNetwork",
        "plain": PLAIN_OBJECTIVE,
    }
    output_bias: ClassVar[str] = "final.0.bias"
    recipes: ClassVar[dict[Size, dict[str, Any]]] = {
        "small": {"epochs": 75},
        "full": {"crop": 256, "batch": 16, "learning_rate": 1e-4},
    }
    network: ScseUnet

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        return ScseUnet(SIZES[size])

    @property
    def tile_side(self) -> int | None:
        return SIDE

    def logits(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        below, right = max(0, SMALLEST - height), max(0, SMALLEST - width)
        if below or right:
            images = F.pad(images, (0, right, 0, below), mode="replicate")
        logits = tiled_logits(lambda tile: self.network.logits((tile - 0.5) / 0.5), images)
        return logits[..., :height, :width]

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        names = {
            "shallow": ["encoder_stages.0", "encoder_stages.1", "encoder_stages.2"],
            "middle": ["encoder_stages.3", "encoder_stages.4", "bottlenecks.0"],
            "topmost": ["bottlenecks.1", "bottlenecks.2", "bottlenecks.3", "last_upsample"],
        }[depth]
        return {name: self.network.get_submodule(name) for name in names}
