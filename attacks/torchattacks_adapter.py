"""Attacks of the package torchattacks (Kim 2020, arXiv 2010.01950), run on victims.

    advbench generate --attack torchattacks --set method=NIFGSM --eps 3

The extra ``advbench[torchattacks]`` brings the package.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from torch import Tensor

from advbench.attacks.package_attack import PackageAttack, TwoClasses
from advbench.errors import AdvbenchError


class TorchAttack(PackageAttack):
    """Any L∞ attack of torchattacks.

    Attributes:
        method: the class in torchattacks, such as ``NIFGSM``.
        arguments: of its constructor, but for ``eps``.
    """

    name: ClassVar[str] = "torchattacks"

    package: ClassVar[str] = "torchattacks"
    installation: ClassVar[str] = "pip install 'advbench[torchattacks]'"

    method: str = "NIFGSM"

    @property
    def label(self) -> str:
        return f"ta_{self.method.lower()}"

    def adapted(self) -> tuple[type]:
        return (self._attack_class(),)

    def passes(self) -> int:
        steps = self.arguments.get("steps") or _default(self._attack_class(), "steps", 1)
        return len(self.eps) * int(steps)

    def one(self, model: TwoClasses, image: Tensor, mask: Tensor, eps: float) -> Tensor:
        attack = self._attack_class()(model, eps=eps, **self.arguments)
        found: Tensor = attack(image, mask)
        return found

    def _attack_class(self) -> Any:
        found = getattr(self.imported("torchattacks"), self.method, None)
        if not inspect.isclass(found) or "eps" not in inspect.signature(found).parameters:
            raise AdvbenchError(
                f"attack torchattacks: method {self.method!r} is no L∞ attack of the package"
            )
        return found


def _default(attack_class: Any, parameter: str, otherwise: int) -> int:
    found = inspect.signature(attack_class).parameters.get(parameter)
    return otherwise if found is None else found.default
