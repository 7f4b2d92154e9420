"""Find feature modules by depth in a network that nobody has described."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from advbench.victims.base import Depth

_CONVOLUTIONAL = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)  # outputs are maps N×C×h×w
_CHANNELS = 8
_MOST = 4  # modules of a third
DEPTHS: tuple[Depth, ...] = ("shallow", "middle", "topmost")


def find_taps(network: nn.Module, image: Tensor) -> dict[Depth, dict[str, nn.Module]]:
    """Convolutions and batch norms by thirds of their order of execution on ``image`` 1×3×H×W.

    Taken are those that run once a pass and give maps of at least eight channels, evenly at most
    four from each third; empty where the network has fewer than three.
    """
    order: list[str] = []
    handles = [
        module.register_forward_hook(_note(order, name))
        for name, module in network.named_modules()
        if isinstance(module, _CONVOLUTIONAL)
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(order)
    once = [name for name in order if times[name] == 1]
    if len(once) < len(DEPTHS):
        return {}
    found: dict[Depth, dict[str, nn.Module]] = {}
    for number, depth in enumerate(DEPTHS):
        third = once[number * len(once) // 3 : (number + 1) * len(once) // 3]
        step = max(1, len(third) // _MOST)
        chosen = third[step - 1 :: step][:_MOST]
        found[depth] = {name: network.get_submodule(name) for name in chosen}
    return found


def _note(order: list[str], name: str):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
        if output.ndim == 4 and output.shape[1] >= _CHANNELS:
            order.append(name)

    return hook
