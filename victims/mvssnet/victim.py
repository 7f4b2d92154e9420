"""Wrap MVSS-Net as a victim."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from advbench.victims.base import PLAIN_OBJECTIVE, Depth, Size, Victim
from advbench.victims.mvssnet.network import SIZES, MvssNetwork

# ImageNet's statistics of R, G, B, which the authors apply to B, G, R.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class MVSSNet(Victim):
    """MVSS-Net at 512×512 (small: 256×256): BGR, ImageNet normalisation, threshold 0.5."""

    name: ClassVar[str] = "mvssnet"
    working_sides: ClassVar[dict[Size, int]] = {"full": 512, "small": 256}
    objectives: ClassVar[dict[str, str]] = {
        "edges": "advbench.victims.mvssnet.objective:RegionsAndEdges",
        "plain": PLAIN_OBJECTIVE,
    }
    output_bias: ClassVar[str] = "head.out.1.bias"
    recipes: ClassVar[dict[Size, dict[str, Any]]] = {
        "small": {"epochs": 50},
        "full": {"epochs": 200, "crop": 512, "learning_rate": 1e-4, "weight_decay": 0.05},
    }
    network: MvssNetwork

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        return MvssNetwork(SIZES[size])

    def logits(self, images: Tensor) -> Tensor:
        return self.network.segment(_normalised(images))

    def edges_and_regions(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """float [0, 1] N×3×H×W → logits of edges N×1×⌈H/4⌉×⌈W/4⌉ and of forgery N×1×H×W."""
        edges, regions = self.network(_normalised(images))
        return edges, regions

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        layers = {"shallow": ["maxpool", "layer1", "layer2"], "middle": ["layer3", "layer4"]}
        names = (
            [f"head.{name}" for name in ("conv_p1", "conv_c1", "conv_p2", "conv_c2")]
            if depth == "topmost"
            else [
                f"{trunk}.{name}"
                for trunk in ("model", "noise_extractor.model")
                for name in layers[depth]
            ]
        )
        return {name: self.network.get_submodule(name) for name in names}


def _normalised(images: Tensor) -> Tensor:
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
    return (images.flip(1) - mean) / std
