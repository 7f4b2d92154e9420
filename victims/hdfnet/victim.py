"""Wrap HDF-Net as a victim."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from advbench.victims.base import PLAIN_OBJECTIVE, Depth, Size, Victim
from advbench.victims.hdfnet.network import SIDE, SIZES, HdfNetwork

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class HDFNet(Victim):
    """HDF-Net at 256×256: RGB, ImageNet mean and deviation, threshold 0.5."""

    name: ClassVar[str] = "hdfnet"
    working_sides: ClassVar[dict[Size, int]] = {"full": SIDE, "small": SIDE}
    resampling: ClassVar[Literal["bilinear", "antialias"]] = "antialias"
    objectives: ClassVar[dict[str, str]] = {
        "maps": "advbench.victims.hdfnet.objective:ThreeMaps",
        "plain": PLAIN_OBJECTIVE,
    }
    output_bias: ClassVar[str] = "head_1.bias"
    recipes: ClassVar[dict[Size, dict[str, Any]]] = {
        "small": {"epochs": 16, "crop": SIDE, "batch": 4},
        "full": {
            "epochs": 100,
            "crop": SIDE,
            "batch": 4,
            "learning_rate": 1e-4,
            "weight_decay": 1e-5,
        },
    }
    network: HdfNetwork

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        return HdfNetwork(SIZES[size])

    def logits(self, images: Tensor) -> Tensor:
        return self.network.logits(_normalise(images))

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float [0, 1] N×3×256×256 → the three logit maps N×1×256×256, the result first."""
        return self.network(_normalise(images))

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        names = {
            "shallow": ["bkbone.multi_scale", "bkbone.layer1", "bkbone.layer2", "srm"],
            "middle": ["bkbone.layer3", "bkbone.layer4", "v1", "v2", "fuse1_2"],
            "topmost": ["fuse12", "fuse23", "fused"],
        }[depth]
        return {name: self.network.get_submodule(name) for name in names}


def _normalise(images: Tensor) -> Tensor:
    mean, std = (images.new_tensor(value).view(3, 1, 1) for value in (_MEAN, _STD))
    return (images - mean) / std
