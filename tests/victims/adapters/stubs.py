"""Packages of localizers in small: their contracts, none of their code."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Models:
    """A registry as IMDLBenCo and ForensicHub have one."""

    def __init__(self, *classes: type) -> None:
        self.module_dict = {cls.__name__: cls for cls in classes}

    def has(self, name: str) -> bool:
        return name in self.module_dict

    def get(self, name: str) -> type:
        return self.module_dict[name]


class Contract(nn.Module):
    """Three convolutions; their sigmoid is ``pred_mask``, beside the loss of training."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Tanh(),
        ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8, 8, 1), nn.Tanh(), nn.Conv2d(8, 1, 1))
        self.label = nn.Linear(1, 1)

    def forward(self, image: Tensor, mask: Tensor, label: Tensor, *args: Any, **other: Any) -> Any:
        z = self.layers(image)
        loss = F.binary_cross_entropy_with_logits(z, mask)
        loss = loss + F.binary_cross_entropy_with_logits(
            self.label(z.mean((1, 2, 3))[:, None])[:, 0], label
        )
        return {"backward_loss": loss, "pred_mask": torch.sigmoid(z), "pred_label": None}


class Mesorch(Contract):
    def __init__(
        self, seg_pretrain_path: str | None = "needed", conv_pretrain: bool = True
    ) -> None:
        assert seg_pretrain_path is None
        assert not conv_pretrain
        super().__init__()

    def forward(self, image: Tensor, mask: Tensor, label: Tensor, *args: Any, **other: Any) -> Any:
        assert image.shape[2:] == mask.shape[2:] == (512, 512)
        return super().forward(image, mask, label)


class IML_ViT(Contract):  # noqa: N801
    def __init__(self, input_size: int = 1024) -> None:
        super().__init__()
        self.input_size = input_size

    def forward(
        self, image: Tensor, mask: Tensor, edge_mask: Tensor, *args: Any, **other: Any
    ) -> Any:
        assert image.shape[2:] == edge_mask.shape[2:] == (self.input_size, self.input_size)
        return super().forward(image, mask, other["label"])


class MVSSNet(Contract):
    """Downloads, and loads, what its training starts from."""

    def __init__(self) -> None:
        super().__init__()
        self.load_state_dict(torch.hub.load_state_dict_from_url("nowhere://weights.pth"))


class MSCDI_Net(Contract):  # noqa: N801
    """Copies the image out of the graph."""

    def __init__(self, backbone_weights_path: str = "") -> None:
        super().__init__()
        self.load_state_dict(torch.load(backbone_weights_path))

    def forward(self, image: Tensor, mask: Tensor, edge_mask: Tensor, label: Tensor) -> Any:
        return super().forward(image.detach().clone(), mask, label)


class MantraNet(Contract):
    """Keeps the device that it saw when it was built, normalises over the batch, and rescales a
    filter at each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("meta")
        self.IMTFE = nn.ModuleDict({"BayarConv2D": nn.Conv2d(3, 3, 1, bias=False)})

    def forward(self, image: Tensor, mask: Any = None, edge_mask: Any = None, **other: Any) -> Any:
        filtering = self.IMTFE["BayarConv2D"]
        filtering.weight.data *= 1.25
        image = filtering(image.to(self.device))
        return super().forward(image - image.mean((0, 2, 3), keepdim=True), mask, other["label"])


class Classifier(Contract):
    """Says of an image whether it is forged, not where."""

    def forward(self, image: Tensor, **other: Any) -> Any:
        return {"backward_loss": image.mean(), "pred_label": image.mean((1, 2, 3))}


class BayerResnet101(Contract):
    """A backbone that gives a label unless it is asked for a mask of one side; ForensicHub's, which
    downloads by timm and rewrites a filter at each pass."""

    def __init__(self, output_type: str = "label", image_size: int = 256) -> None:
        import timm

        super().__init__()
        assert output_type == "mask"
        self.side = image_size
        self.backbone = timm.create_model("test_resnet", pretrained=True)
        self.input_head = nn.ModuleDict({"BayarConv2D": nn.Conv2d(3, 3, 1, bias=False)})

    def forward(self, image: Tensor, mask: Any = None, edge_mask: Any = None, **other: Any) -> Any:
        filtering = self.input_head["BayarConv2D"]
        filtering.weight.data *= 1.25
        assert mask.shape[2:] == (self.side, self.side)
        return super().forward(filtering(image), mask, other["label"])


class Mine(Contract):
    """What a user registers."""


MODELS = (Mesorch, IML_ViT, MVSSNet, MSCDI_Net, MantraNet, Classifier, BayerResnet101, Mine)


def install(patch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """Put a module into ``sys.modules``, with the packages above it."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        whole = ".".join(parts[:depth])
        if whole not in sys.modules:
            patch.setitem(sys.modules, whole, ModuleType(whole))
    vars(sys.modules[name]).update(contents)


def build_from_registry(registry: Models, wanted: dict[str, Any]) -> nn.Module:
    """ForensicHub's factory, which imports what other tasks need."""
    import jpegio  # noqa: F401
    from DeepfakeBench.training import detectors
    from DeepfakeBench.training.detectors import __all__ as names

    assert names == detectors.__all__
    return registry.get(wanted["name"])(**wanted["init_config"])
