"""Victims that are run faster than exactly: folded, with TF32, or in bfloat16."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from advbench.inference.folding import fold
from advbench.victims.base import Numerics, Victim

PROBE_SIDE = 256  # of the image that shows what follows what


def with_numerics(victim: Victim, numerics: Numerics) -> Victim:
    """Make a twin of a victim whose passes run at these numerics.

    ``exact`` is the victim itself. ``fast`` folds batch normalisation into the convolution before
    it and lets an NVIDIA GPU compute in TF32; ``bf16`` also runs the network under autocast to
    bfloat16, and returns float32 logits. The twin holds a copy of the weights, and is pickled as
    what it was made from.
    """
    if numerics == "exact":
        return victim
    twin = copy.deepcopy(victim)
    side = victim.working_side or PROBE_SIDE
    noise = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    fold(twin.network, lambda: twin.logits(noise.to(victim.device)))
    twin.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if numerics == "bf16":
        _autocast(twin)
    twin.numerics, twin.exact = numerics, victim
    twin._remake = (with_numerics, (victim, numerics))
    return twin


def _autocast(twin: Victim) -> None:
    full = twin.logits

    def logits(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return full(images).float()

    vars(twin)["logits"] = logits
