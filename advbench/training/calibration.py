"""Choose the operating point of a trained victim: how much is marked at its threshold."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.progress import CountProgress
from advbench.training.data import Examples
from advbench.training.validation import own_part, pixel_f1
from advbench.victims.base import Victim

STEP = 0.5
# The smallest first: of equals it is kept.
COARSE = sorted((STEP * step for step in range(-6, 7)), key=abs)
FINE = (-STEP / 2, STEP / 2)


@dataclass(frozen=True)
class OperatingPoint:
    """Say what a shift of the output's bias gives.

    Attributes:
        shift: added to the bias.
        val_f1: mean F1 of the forged images.
        val_marked: mean share of the pixels that are marked on authentic images; 0 without any.
    """

    shift: float
    val_f1: float
    val_marked: float

    @property
    def worth(self) -> float:
        """F1 less what is marked by mistake."""
        return self.val_f1 - self.val_marked


def check_can_be_calibrated(victim: type[Victim]) -> None:
    """Check that a victim names the bias of its output.

    Raises:
        AdvbenchError: it names none.
    """
    if not victim.output_bias:
        raise AdvbenchError(
            f"--set calibrate=true: {victim.name} names no output_bias; set that attribute of "
            f"{victim.__name__} to the name of the parameter, or leave calibrate out"
        )


@torch.no_grad()
def calibrate(
    victim: Victim,
    examples: Examples,
    processes: Processes,
    progress: CountProgress = lambda done, total: None,
) -> OperatingPoint:
    """Shift the bias of the victim's output to where F1 less false alarms is highest.

    Shifts of up to 3 logits are tried in steps of 0.5, further ones while they are better, then
    0.25 to both sides of the best. The network is left at the best one.

    Args:
        examples: forged and authentic images at the victim's working size.
        processes: those that share the images out; all are left at the same shift.
        progress: of the passes, counted as if each process made all of them.
    """
    bias = victim.network.get_parameter(victim.output_bias)
    start = bias.detach().clone()
    passes = itertools.count(1)
    every = (len(COARSE) + len(FINE)) * len(examples.names)

    def at(shift: float) -> OperatingPoint:
        bias.copy_(start + shift)
        sums = torch.zeros(4, dtype=torch.float64, device=victim.device)
        for image, truth in own_part(examples, processes, victim.device):
            if truth.any():
                sums[0] += pixel_f1(victim, image, truth)
                sums[1] += 1
            else:
                sums[2] += (victim.probabilities(image) > victim.threshold).double().mean()
                sums[3] += 1
            done = processes.count * next(passes)
            progress(done, max(done, every))
        f1, forged, marked, authentic = processes.total(sums).tolist()
        return OperatingPoint(shift, f1 / max(forged, 1), marked / max(authentic, 1))

    best = max((at(shift) for shift in COARSE), key=_worth)
    while abs(best.shift) >= COARSE[-1]:
        further = at(best.shift + math.copysign(STEP, best.shift))
        if further.worth <= best.worth:
            break
        best = further
    best = max((best, *(at(best.shift + step) for step in FINE)), key=_worth)
    bias.copy_(start + best.shift)
    return best


def _worth(point: OperatingPoint) -> float:
    return point.worth
