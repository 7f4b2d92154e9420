"""Localizers of ForensicHub (Du et al., NeurIPS 2025): ``forensichub:NAME``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar
from unittest.mock import patch

from torch import nn

from advbench.victims.adapters import imdlbenco
from advbench.victims.adapters.contract import ContractVictim, Recipe

_JPEG = "reads the coefficients and quantisation tables of a JPEG file, which attacked pixels lack"
_FEATURES = ("", "Sobel", "Bayer", "FFT", "DCT")
# IMDLBenCo's Bayar filter is normalised at each pass, which changes it a little each time.
_BAYAR = "BayarConv2D.weight"
# Backbones give a label unless they are asked for a mask, which has the side that they are told.
_AT_256 = ["Resnet50", "Resnet101", "Resnet152", "ConvNextSmall", "EfficientB4", "Xception"]
_AT_256 += ["MobileNetV3", "MobilenetV3", "Segformerb2", "Segformerb3", "SwinSmall"]
_AT_224 = ["DenseNet121"]


def _rewritten(feature: str) -> tuple[str, ...]:
    return (f"input_head.{_BAYAR}",) if feature == "Bayer" else ()


RECIPES: dict[str, Recipe] = {
    **imdlbenco.RECIPES,
    **{
        f"{feature}{name}": Recipe(
            side=side,
            side_argument="image_size",
            arguments={"output_type": "mask"},
            starting_weights=name.startswith("Segformer"),
            rewritten=_rewritten(feature),
        )
        for side, names in ((256, _AT_256), (224, _AT_224))
        for name in names
        for feature in _FEATURES
    },
    **{
        name: Recipe(side=256, side_argument="image_size", rewritten=_rewritten(feature))
        for feature, name in ((one, f"{one}UNet" if one else "UNetBase") for one in _FEATURES)
    },
    "PSNet": Recipe(rewritten=(f"bayar.{_BAYAR}",)),
    **{
        f"{feature}ViTBase": Recipe(refusal="ForensicHub's code gives a label, and no map, of it")
        for feature in _FEATURES
    },
    "CAFTB_Net": Recipe(refusal="its constructor reads a folder of SegFormer's weights"),
    **{name: Recipe(refusal=_JPEG) for name in ("DTD", "FFDN", "CAT_Net")},
    **{f"Qt{name}": Recipe(refusal=_JPEG) for name in (*_AT_256, *_AT_224, "ViTBase")},
}

# Imported when ForensicHub is, and used by none of its localizers; name and contents.
_OTHER_TASKS: dict[str, dict[str, Any]] = {
    "jpegio": {},
    "DeepfakeBench": {},
    "DeepfakeBench.training": {},
    "DeepfakeBench.training.detectors": {"__all__": []},
}


class ForensicHubVictim(ContractVictim):
    """A model of ForensicHub's registry that returns ``pred_mask``; one that returns a label alone
    is no localizer and is refused at its first pass. IMDLBenCo's models are in that registry too.
    """

    prefix: ClassVar[str] = "forensichub"
    package: ClassVar[str] = "ForensicHub"
    installation: ClassVar[str] = "install ForensicHub as its own pages say"

    @classmethod
    def build_model(cls) -> nn.Module:
        with _without_other_tasks(), _untrained_backbones():
            registry = cls.imported("ForensicHub.registry")
            wanted = {"name": cls.model, "init_config": imdlbenco.arguments_of(cls)}
            return registry.build_from_registry(registry.MODELS, wanted)


@contextmanager
def _without_other_tasks() -> Iterator[None]:
    """Have empty modules stand for what is not installed and only other tasks need."""
    missing = [
        name
        for name in _OTHER_TASKS
        if name not in sys.modules and find_spec(name.partition(".")[0]) is None
    ]
    for name in missing:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(_OTHER_TASKS[name])
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


@contextmanager
def _untrained_backbones() -> Iterator[None]:
    """Have timm download no weights, which a checkpoint holds."""
    if find_spec("timm") is None:
        yield
        return
    import timm

    create = timm.create_model

    def untrained(*given: Any, **named: Any) -> nn.Module:
        return create(*given, **named | {"pretrained": False})

    with patch("timm.create_model", untrained):
        yield


def forensichub(member: str) -> type[ContractVictim]:
    """The victim class of ``forensichub:NAME``, see :meth:`ContractVictim.of`."""
    return ForensicHubVictim.of(member, RECIPES)
