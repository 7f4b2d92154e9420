"""Random weights that learn sooner than PyTorch's.

Residual start: some of a network's first filters begin as residuals of the image. The traces of a
forgery are of a few grey levels under content a hundred times stronger. From random filters a small
network takes many epochs to find them; from second differences, which cancel content that is
locally planar, a few. What training makes of the filters is its own affair.
"""

from __future__ import annotations

import torch
from torch import nn

# The 3×3 residual of the spatial rich model (Fridrich and Kodovský, T-IFS 2012).
_KERNEL = ((-0.25, 0.5, -0.25), (0.5, -1.0, 0.5), (-0.25, 0.5, -0.25))


@torch.no_grad()
def start_at_full_scale(network: nn.Module) -> None:
    """Draw the weights of every 2-D convolution so that a ReLU behind it keeps the scale of what it
    is given (He et al., "Delving Deep into Rectifiers", ICCV 2015), with biases of zero. PyTorch's
    own draw loses a factor of 2.4 with each layer, which a decoder without normalisation pays for.
    Modules that multiply maps by gates have a method ``open_gates``, which is called for the same
    reason.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if callable(open_gates := getattr(module, "open_gates", None)):
            open_gates()


@torch.no_grad()
def start_from_residuals(network: nn.Module, share: float) -> int:
    """Set ``share`` of the filters of every convolution that sees three channels, each on one
    channel in turn, at the norm that it had. Returns how many filters were set."""
    count = 0
    for module in network.modules():
        if not isinstance(module, nn.Conv2d) or module.in_channels != 3:
            continue
        side = module.kernel_size[0]
        if side < 3 or not module.weight.requires_grad:
            continue
        kernel = torch.zeros(side, side)
        kernel[side // 2 - 1 : side // 2 + 2, side // 2 - 1 : side // 2 + 2] = torch.tensor(_KERNEL)
        for number in range(round(share * module.out_channels)):
            weight = module.weight[number]
            norm = weight.norm()
            weight.zero_()
            weight[number % len(weight)] = kernel.to(weight) * (norm / kernel.norm())
            count += 1
    return count
