"""The arithmetic of a victim's passes; images, noise, losses and momentum stay float32 in any."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor

from advbench.victims.base import Victim

Precision = Literal["fp32", "tf32", "bf16"]


def at_precision(victim: Victim, precision: Precision) -> Victim:
    """The victim itself, or for ``bf16`` a twin whose logits are computed under autocast to
    bfloat16 and returned as float32. TF32 is a switch of the device, see
    :func:`advbench.inference.numerics.deterministic_mode`."""
    if precision != "bf16":
        return victim
    exact = victim.logits

    def logits(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return exact(images).float()

    twin = copy.copy(victim)
    vars(twin)["logits"] = logits
    return twin
