"""Gradients against central differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


def assert_gradient(
    value: Callable[[Tensor], Tensor], x: Tensor, rel: float = 1e-5, directions: int = 5
) -> None:
    """Autograd's gradient of a scalar function at a float64 ``x``, along random directions."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(value(x), x)
    step = 1e-7
    for _ in range(directions):
        direction = torch.randn_like(x)
        with torch.no_grad():
            ahead, behind = value(x + step * direction), value(x - step * direction)
        numeric = float(ahead - behind) / (2 * step)
        assert numeric == pytest.approx(float((gradient * direction).sum()), rel=rel)
