"""Features of a frozen victim, taken from its taps while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from advbench.victims.base import Depth, Victim


@contextmanager
def tapped(victim: Victim, depth: Depth) -> Iterator[dict[str, Tensor]]:
    """A dictionary that holds, after each run of the victim, the maps N×C×h×w of a third of it."""
    features: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            features[name] = output

        return hook

    handles = [
        module.register_forward_hook(keep(name))  # type: ignore[arg-type]
        for name, module in victim.taps(depth).items()
    ]
    try:
        yield features
    finally:
        for handle in handles:
            handle.remove()
