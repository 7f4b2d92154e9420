"""Any ``nn.Module`` that maps an image to a forgery map, as a victim."""

from __future__ import annotations

import hashlib
import inspect
import re
from typing import cast, get_args

from torch import nn

from advbench.errors import AdvbenchError
from advbench.victims.adapters.fitting import Fitting
from advbench.victims.adapters.module import ModuleVictim, Output, Reading
from advbench.victims.weights import Weights, state_sha256

Triple = tuple[float, float, float]


def wrap(
    module: nn.Module,
    *,
    threshold: float = 0.5,
    side: int | None = None,
    mean: Triple = (0.0, 0.0, 0.0),
    std: Triple = (1.0, 1.0, 1.0),
    bgr: bool = False,
    output: Output = "logits",
    key: str | None = None,
    name: str | None = None,
    multiple: int = 1,
    smallest: int = 1,
    tile: int | None = None,
    one_at_a_time: bool = False,
    reentrant: bool = False,
    differentiable: bool = True,
) -> ModuleVictim:
    """Make a victim of a module, which is put into eval mode and frozen, and else left as it is.

    What it lacks: sizes to choose from, a training objective, and layers described by depth. ANSM
    is trained on convolutions taken by their order of execution; a module with fewer than three is
    refused there. On the command line it is ``--plugin FILE:VARIABLE``, and ``--victim`` with its
    name.

    Args:
        module: float N×3×h×w → a map, see ``output``.
        threshold: a pixel is forged where its probability is above it.
        side: of the square that it takes, to which images are resized before they are attacked;
            None where it takes any size.
        mean, std: per channel, of RGB (BGR with ``bgr``) in [0, 1].
        bgr: whether it takes blue first.
        output: ``logits`` N×1×h×w, ``probability`` N×1×h×w, or ``two-class`` logits N×2×h×w of
            pristine and forged. Of a probability the logits are taken that its sigmoid was given;
            where there was none, they are computed from it, and the gradient is zero where it is
            exactly 0 or 1. A smaller map is resized, bilinearly, as logits.
        key: of the map, where the module returns a mapping or an object with attributes.
        name: in tables and folders; the class's name by default.
        multiple, smallest: without ``side``, both sides of an image are padded to multiples of
            ``multiple`` and to ``smallest`` by repeating the border, and the map is cut back.
        tile: without ``side``, larger images are cut into overlapping tiles of this side.
        one_at_a_time: whether it takes a single image a pass.
        reentrant: whether several threads may be in it at once, as on the CPU.
        differentiable: False where gradients cannot reach the image.

    Raises:
        AdvbenchError: no module, or an argument out of range.
    """
    if not isinstance(module, nn.Module):
        given = (
            f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
        )
        raise AdvbenchError(f"wrap: give a torch module, such as Tiny(), not {given}")
    if output not in get_args(Output):
        raise AdvbenchError(f"wrap: output {output!r}; there are {', '.join(get_args(Output))}")
    if not 0 < threshold < 1:
        raise AdvbenchError(f"wrap: threshold {threshold} is no probability between 0 and 1")
    for what, value in (("side", side), ("tile", tile), ("multiple", multiple)):
        if value is not None and value < 1:
            raise AdvbenchError(f"wrap: {what} {value}; give at least 1")
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or max(*mean, *std) > 1:
        raise AdvbenchError("wrap: mean and std are three numbers in [0, 1], std above 0")
    given = name or type(module).__name__
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]*", given):
        raise AdvbenchError(
            f"wrap: name {given!r}: folders are named by it; use A-Z a-z 0-9 _ . + -"
        )
    reading = Reading(
        Fitting(side, multiple=multiple, smallest=smallest, tile=tile),
        cast(Triple, tuple(mean)),
        cast(Triple, tuple(std)),
        bgr,
        output,
        key,
        threshold,
        one_at_a_time,
    )
    weights = Weights(_identity(module, reading), "wrapped")
    victim = ModuleVictim(module, weights, reading=reading, name=given)
    victim.reentrant, victim.differentiable = reentrant, differentiable
    return victim


def _identity(module: nn.Module, reading: Reading) -> str:
    """The sha256 of weights, structure, source of the class and reading."""
    digest = hashlib.sha256(state_sha256(module.state_dict()).encode())
    for part in (repr(module), _source(module), repr(reading)):
        digest.update(b"\0" + part.encode())
    return digest.hexdigest()


def _source(module: nn.Module) -> str:
    try:
        return inspect.getsource(type(module))
    except (OSError, TypeError):  # typed at a prompt, or made by a function
        return ""
