"""Localizers of ForensicHub (Du et al., NeurIPS 2025): ``forensichub:NAME``."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from advbench.victims.adapters.contract import ContractVictim, Recipe

_JPEG = "reads the coefficients and quantisation tables of a JPEG file, which attacked pixels lack"
RECIPES: dict[str, Recipe] = {name: Recipe(refusal=_JPEG) for name in ("DTD", "FFDN", "CAT_Net")}


class ForensicHubVictim(ContractVictim):
    """A model of ForensicHub's registry that returns ``pred_mask``; one that returns a label alone
    is no localizer and is refused at its first pass."""

    prefix: ClassVar[str] = "forensichub"
    package: ClassVar[str] = "ForensicHub"
    installation: ClassVar[str] = "install ForensicHub as its own pages say"

    @classmethod
    def build_model(cls) -> nn.Module:
        registry = cls.imported("ForensicHub.registry")
        wanted = {"name": cls.model, "init_config": dict(cls.arguments)}
        return registry.build_from_registry(registry.MODELS, wanted)


def forensichub(member: str) -> type[ContractVictim]:
    """The victim class of ``forensichub:NAME``, see :meth:`ContractVictim.of`."""
    return ForensicHubVictim.of(member, RECIPES)
