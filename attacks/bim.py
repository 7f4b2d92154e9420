"""BIM: Kurakin, Goodfellow, Bengio, "Adversarial Examples in the Physical World", 2017."""

from __future__ import annotations

from typing import ClassVar

from advbench.attacks.iterated import IteratedAttack


class BIM(IteratedAttack):
    """FGSM iterated with a small step: the loop as it stands."""

    name: ClassVar[str] = "bim"

    @property
    def from_the_image(self) -> bool:
        return type(self) is BIM  # a subclass may begin elsewhere
