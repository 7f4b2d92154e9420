"""Fold batch normalisation into the convolutions before it (Jacob et al., CVPR 2018, section 3.2:
w ← w·γ/σ, b ← (b − μ)·γ/σ + β)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]

# Largest difference of the logits, in their largest absolute value.
TOLERANCE = 1e-3


def fold(network: nn.Module, run: Callable[[], Tensor]) -> int:
    """Fold a network in eval mode in place, wherever its output stays the same.

    A normalisation is folded where each of its inputs is what one convolution has just put out, and
    each output of that convolution goes to it. A convolution whose output is also used elsewhere,
    or whose weights are not what it multiplies with, shows in the network's output and is left.

    Args:
        run: one pass of the network on some image.

    Returns:
        how many were folded.
    """
    with torch.no_grad():
        pairs = _pairs(network, run)
        expected = run()
        return _fold_sound(network, run, expected, pairs)


def _pairs(network: nn.Module, run: Callable[[], Tensor]) -> list[Pair]:
    """Convolutions that are always followed by one normalisation of their own."""
    made_by: dict[int, nn.Conv2d] = {}
    outputs: list[Tensor] = []  # kept, so that no two have the same id
    calls: Counter[nn.Module] = Counter()
    followed: Counter[Pair] = Counter()

    def after(module: nn.Module, inputs: Any, output: Tensor) -> None:
        calls[module] += 1
        if isinstance(module, nn.Conv2d):
            made_by[id(output)] = module
            outputs.append(output)
        elif id(inputs[0]) in made_by:
            followed[made_by[id(inputs[0])], module] += 1  # type: ignore[index]

    hooks = [
        module.register_forward_hook(after)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return [
        pair
        for pair, times in followed.items()
        # Without statistics it normalises by the batch, also in eval mode.
        if calls[pair[0]] == calls[pair[1]] == times and pair[1].running_mean is not None
    ]


def _fold_sound(
    network: nn.Module, run: Callable[[], Tensor], expected: Tensor, pairs: Sequence[Pair]
) -> int:
    """Fold these pairs, or those halves of them that leave the output as it was."""
    if not pairs:
        return 0
    undo = [_absorb(network, *pair) for pair in pairs]
    limit = TOLERANCE * expected.abs().max().clamp_min(1e-6)
    if (run() - expected).abs().max() <= limit:
        return len(pairs)
    for restore in reversed(undo):
        restore()
    if len(pairs) == 1:
        return 0
    middle = len(pairs) // 2
    parts = (pairs[:middle], pairs[middle:])
    return sum(_fold_sound(network, run, expected, part) for part in parts)


def _absorb(network: nn.Module, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Callable[[], None]:
    """Fold one pair; what is returned undoes it."""
    weight, bias = conv.weight, conv.bias
    places = [
        (parent, name)
        for parent in network.modules()
        for name, child in parent.named_children()
        if child is norm
    ]

    def put(module: nn.Module) -> None:
        for parent, name in places:
            setattr(parent, name, module)

    def restore() -> None:
        conv.weight, conv.bias = weight, bias
        put(norm)

    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        weight, bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    put(nn.Identity())
    return restore
