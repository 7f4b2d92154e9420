"""Localizers of IMDLBenCo (Ma et al., NeurIPS 2024; tried with 0.1.45): ``imdlbenco:Mesorch``."""

from __future__ import annotations

from importlib import resources
from typing import Any, ClassVar

from torch import nn

from advbench.errors import AdvbenchError
from advbench.victims.adapters.contract import ContractVictim, Recipe

RECIPES: dict[str, Recipe] = {
    "Mesorch": Recipe(
        fixed=True,
        arguments={"seg_pretrain_path": None, "conv_pretrain": False},
        reentrant=True,
    ),
    "IML_ViT": Recipe(side=1024, pad=True, side_argument="input_size", reentrant=True),
    # Its sparse blocks are 32 tokens of 16 pixels.
    "SparseViT": Recipe(multiple=512, side_argument="img_size", reentrant=True),
    # An empty path rather than none, which os.path.isfile refuses.
    "PSCC_Net": Recipe(
        side=256, side_argument="input_size", arguments={"pretrain_path": ""}, reentrant=True
    ),
    # It normalises over the batch in eval mode too, and rescales a filter at each pass.
    "MantraNet": Recipe(side=None, one_at_a_time=True, rewritten=("IMTFE.BayarConv2D.weight",)),
    "ObjectFormer": Recipe(side=224, side_argument="input_size", reentrant=True),
    "MVSSNet": Recipe(starting_weights=True),
    "Trufor": Recipe(starting_weights=True),
    # Its forward copies the image out of the graph: torch.tensor(image). Its deepest maps, of a
    # 32nd of the side, are cut into windows of 8.
    "MSCDI_Net": Recipe(
        multiple=256,
        arguments={"backbone_weights_path": "none"},
        starting_weights=True,
        differentiable=False,
    ),
    "SPAN": Recipe(
        refusal="IMDLBenCo's code draws new random layers at each pass, so no map can be repeated"
    ),
    "Cat_Net": Recipe(
        refusal="reads the coefficients and quantisation tables of a JPEG file, which attacked "
        "pixels lack"
    ),
}


class IMDLBenCoVictim(ContractVictim):
    """A model of IMDLBenCo's registry, those that a user registers there included."""

    prefix: ClassVar[str] = "imdlbenco"
    package: ClassVar[str] = "IMDLBenCo"
    installation: ClassVar[str] = "pip install imdlbenco, in an environment with numpy below 2"

    @classmethod
    def build_model(cls) -> nn.Module:
        cls.imported("IMDLBenCo.model_zoo")
        models = cls.imported("IMDLBenCo.registry").MODELS
        if not models.has(cls.model):
            raise AdvbenchError(
                f"victim {cls.name}: IMDLBenCo has no model {cls.model!r}; there are "
                f"{', '.join(sorted(models.module_dict))}"
            )
        return models.get(cls.model)(**arguments_of(cls))


def arguments_of(kind: type[ContractVictim]) -> dict[str, Any]:
    """Give what the model's constructor takes; TruFor's reads a file of the package."""
    if kind.model != "Trufor":
        return dict(kind.arguments)
    settings = resources.files("IMDLBenCo") / "statics/model_zoo/configs/trufor.yaml"
    return kind.arguments | {"config_path": str(settings)}


def imdlbenco(member: str) -> type[ContractVictim]:
    """The victim class of ``imdlbenco:NAME``, see :meth:`ContractVictim.of`."""
    return IMDLBenCoVictim.of(member, RECIPES)
