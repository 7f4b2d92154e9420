"""No defense: the undefended victim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from advbench.defenses.base import Defense


class NoDefense(Defense):
    """The image as it is."""

    name: ClassVar[str] = "none"
    differentiable: ClassVar[bool] = True

    def defend(
        self, images: Tensor, strength: float | None, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        return images
