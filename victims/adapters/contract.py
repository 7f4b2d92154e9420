"""The contract of IMDLBenCo's models, which ForensicHub's share: keywords in, a dictionary out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from torch import Tensor, nn

from advbench.errors import AdvbenchError
from advbench.victims.adapters.fitting import Fitting
from advbench.victims.adapters.module import Reading
from advbench.victims.adapters.package import PackageVictim

# What both packages normalise by.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """Say how one model is built and fed.

    Attributes:
        side: of the square that it takes; None where it takes any size.
        fixed: whether it takes no other side.
        multiple: what other sides are multiples of.
        pad: whether smaller images are padded to it, rather than resized.
        side_argument: of the constructor, which tells the model its side.
        arguments: of the constructor, so that nothing is downloaded.
        starting_weights: whether its constructor insists on files that training starts from; a
            checkpoint holds them, so they are left out.
        one_at_a_time: whether its map of an image changes with the others of a batch.
        rewritten: parameters that each pass rewrites; they are put back before the next.
        reentrant: whether a pass leaves nothing in the model.
        differentiable: whether gradients reach the image.
        refusal: why it can be no victim.
    """

    side: int | None = 512
    fixed: bool = False
    multiple: int = 1
    pad: bool = False
    side_argument: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    starting_weights: bool = False
    one_at_a_time: bool = False
    rewritten: tuple[str, ...] = ()
    reentrant: bool = False
    differentiable: bool = True
    refusal: str | None = None


class ContractVictim(PackageVictim):
    """A model that takes image, masks and label by name and returns ``pred_mask``, a probability.

    It also computes its training loss at each pass; masks and labels of zeros are given for it.
    """

    prefix: ClassVar[str]
    model: ClassVar[str]
    recipe: ClassVar[Recipe]
    arguments: ClassVar[dict[str, Any]]

    @classmethod
    def of(cls, member: str, recipes: Mapping[str, Recipe]) -> type[ContractVictim]:
        """The class of ``NAME``, or of ``NAME@SIDE`` where the model is built for another side.

        Raises:
            AdvbenchError: the model can be no victim, or has no other side.
        """
        model, at, side = member.partition("@")
        recipe = recipes.get(model, Recipe())
        name, chosen = f"{cls.prefix}:{member}", recipe.side
        if recipe.refusal:
            raise AdvbenchError(f"victim {name}: {recipe.refusal}")
        arguments = dict(recipe.arguments)
        if at:
            if not side.isdecimal() or not int(side):
                raise AdvbenchError(f"victim {name}: @ is followed by a number of pixels")
            if recipe.fixed:
                raise AdvbenchError(
                    f"victim {name}: takes {chosen}×{chosen} only; leave out @{side}"
                )
            if int(side) % recipe.multiple:
                raise AdvbenchError(
                    f"victim {name}: takes sides that are multiples of {recipe.multiple}; leave "
                    f"out @{side}"
                )
            chosen = int(side)
            if recipe.side_argument:
                arguments[recipe.side_argument] = chosen
        reading = Reading(
            Fitting(chosen, pad=recipe.pad),
            _MEAN,
            _STD,
            output="probability",
            key="pred_mask",
            one_at_a_time=recipe.one_at_a_time,
        )
        return type(
            model,
            (cls,),
            {
                "__doc__": f"{model} of {cls.package}.",
                "name": name,
                "model": model,
                "arguments": arguments,
                "reading": reading,
                "recipe": recipe,
                "reentrant": recipe.reentrant,
                "differentiable": recipe.differentiable,
            },
        )

    @classmethod
    def build(cls) -> nn.Module:
        if cls.recipe.starting_weights:
            with _without_starting_weights():
                return cls.build_model()
        return cls.build_model()

    @classmethod
    @abstractmethod
    def build_model(cls) -> nn.Module:
        """Call the package's own factory with ``arguments``."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._kept = {
            name: self.network.get_parameter(name).detach().clone()
            for name in self.recipe.rewritten
        }

    def call(self, prepared: Tensor) -> Any:
        for name, value in self._kept.items():
            self.network.get_parameter(name).data.copy_(value)
        count, _, height, width = prepared.shape
        nothing = prepared.new_zeros(count, 1, height, width)
        return self.network(
            image=prepared, mask=nothing, edge_mask=nothing, label=prepared.new_zeros(count)
        )


@contextmanager
def _without_starting_weights() -> Iterator[None]:
    """Have files and downloads of weights read as empty, and loading them do nothing."""
    with ExitStack() as stack:
        for loader in ("torch.load", "torch.hub.load_state_dict_from_url"):
            stack.enter_context(patch(loader, return_value={}))
        stack.enter_context(patch("torch.utils.model_zoo.load_url", return_value={}))
        stack.enter_context(patch.object(torch.nn.Module, "load_state_dict", _loads_nothing))
        yield


def _loads_nothing(
    module: nn.Module, state: Any, *_: Any, **__: Any
) -> tuple[list[str], list[str]]:
    return [], []
