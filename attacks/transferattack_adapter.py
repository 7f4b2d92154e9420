"""Gradient attacks of TransferAttack 1.0 (Trustworthy-AI-Group): ``transferattack:vmifgsm``.

The package is no distribution: its folder has to be on ``PYTHONPATH``.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor

from advbench.attacks.package_attack import PackageAttack, TwoClasses
from advbench.errors import AdvbenchError

_FAMILIES = (".gradient.", ".input_transformation.")
_STEPS = 10


class TransferAttack(PackageAttack):
    """An untargeted attack that follows gradients, of the pixels or of transformed images.

    The step is φ over the number of steps, as the package has it for its own φ.
    """

    package: ClassVar[str] = "transferattack"
    installation: ClassVar[str] = "put TransferAttack's folder on PYTHONPATH"
    method: ClassVar[str]

    def adapted(self) -> tuple[type]:
        return (self._attack_class(),)

    def passes(self) -> int:
        return len(self.eps) * int(self.arguments.get("epoch", _STEPS))

    def one(self, model: TwoClasses, image: Tensor, mask: Tensor, eps: float) -> Tensor:
        found = self._attack_class()
        surrogate = type(found.__name__, (found,), {"load_model": lambda attack, name: model})
        known = inspect.signature(found).parameters
        given = {"alpha": eps / _STEPS, "device": image.device} | self.arguments
        given = {key: value for key, value in given.items() if key in known}
        attack = surrogate("victim", epsilon=eps, **given)
        return image + attack(image, mask.as_subclass(ImageLabels))

    @classmethod
    def _attack_class(cls) -> Any:
        return cls.imported("transferattack").load_attack_class(cls.method)


class ImageLabels(Tensor):
    """Labels N×H×W of pixels whose ``repeat(n)`` repeats the images, as it does labels N.

    Only labels stay in this class: what is computed from them is a plain tensor.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **(kwargs or {}))
            if isinstance(found, Tensor) and found.dtype == torch.long:
                return found.as_subclass(cls)
        return found

    def repeat(self, *times: Any) -> Tensor:
        """Take fewer numbers than dimensions as of the first ones; the others are not repeated."""
        return super().repeat(*times, *[1] * (self.ndim - len(times)))


def transferattack(method: str) -> type[TransferAttack]:
    """The attack class of ``transferattack:NAME``.

    Raises:
        AdvbenchError: the package is missing, or has no such attack by gradients.
    """
    name = f"transferattack:{method}"
    made: type[TransferAttack] = type(
        "Transfer", (TransferAttack,), {"name": name, "method": method, "__module__": __name__}
    )
    zoo = made.imported("transferattack").attack_zoo
    known = [key for key, (path, _) in zoo.items() if path.startswith(_FAMILIES)]
    if method not in known:
        raise AdvbenchError(
            f"attack {name}: "
            + ("made for classifiers of images" if method in zoo else "unknown")
            + f"; there are {', '.join(known)}"
        )
    return made
