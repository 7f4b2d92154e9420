"""BIM: Kurakin, Goodfellow, Bengio, "Adversarial Examples in the Physical World", 2017."""

from __future__ import annotations

from typing import ClassVar

from advbench.attacks.linf import IteratedAttack


class BIM(IteratedAttack):
    """FGSM iterated with a small step: the loop as it stands."""

    name: ClassVar[str] = "bim"
