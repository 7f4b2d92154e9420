"""Find feature modules by depth in a network that nobody has described."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from advbench.victims.base import Depth

_CONVOLUTIONAL = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)  # outputs are maps N×C×h×w
_CHANNELS = 8
_MOST = 4  # modules of a third
DEPTHS: tuple[Depth, ...] = ("shallow", "middle", "topmost")


def find_taps(
    network: nn.Module, run: Callable[[Tensor], Tensor], image: Tensor
) -> dict[Depth, dict[str, nn.Module]]:
    """Find convolutions and batch norms by thirds of their order of execution.

    Taken are those that run once a pass, give maps of at least eight channels and have a part in
    the map of forgery, evenly at most four from each third; none where there are fewer than three.

    Args:
        run: one pass of ``network``, an image 1×3×H×W → its logits.
    """
    outputs: list[tuple[str, Tensor]] = []
    handles = [
        module.register_forward_hook(_keep(outputs, name))
        for name, module in network.named_modules()
        if isinstance(module, _CONVOLUTIONAL)
    ]
    try:
        with torch.enable_grad():
            logits = run(image.requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(name for name, _ in outputs)
    kept = [(name, output) for name, output in outputs if times[name] == 1]
    if kept and logits.requires_grad:
        with_gradient = [output for _, output in kept]
        gradients = torch.autograd.grad(logits.sum(), with_gradient, allow_unused=True)
        kept = [one for one, g in zip(kept, gradients, strict=True) if g is not None]
    if len(kept) < len(DEPTHS):
        return {}
    found: dict[Depth, dict[str, nn.Module]] = {}
    for number, depth in enumerate(DEPTHS):
        third = kept[number * len(kept) // 3 : (number + 1) * len(kept) // 3]
        step = max(1, len(third) // _MOST)
        chosen = third[step - 1 :: step][:_MOST]
        found[depth] = {name: network.get_submodule(name) for name, _ in chosen}
    return found


def _keep(outputs: list[tuple[str, Tensor]], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
        if output.ndim == 4 and output.shape[1] >= _CHANNELS:
            outputs.append((name, output))

    return hook
