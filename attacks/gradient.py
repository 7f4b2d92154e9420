"""The gradient of the attack's loss with respect to the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from advbench.inference.runner import BatchRunner
from advbench.victims.base import Victim


def localization_loss(logits: Tensor, y: Tensor) -> Tensor:
    """J of eq. 3: binary cross-entropy on logits, the mean over each image's pixels, N values.

    Logits, because a float32 sigmoid is exactly 1 from 17 on and its gradient exactly 0; a mean
    per image, because the gradient of an image must not depend on its batch-mates.
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), y.float(), reduction="none")
    return losses.mean((1, 2, 3))


class InputGradient:
    """∇ₓ J(V(x), y) for a batch, with a trace of what was seen.

    Args:
        runner: what it is computed within; it may be cancelled there.

    Attributes:
        victim, y: what it is the gradient of.
        loss_first, loss_last: J per image at the first and the last call.
        zero_gradients: calls per image whose gradient was zero everywhere.
        broken_at: per image the first call, from 1, whose loss or gradient was NaN or infinite, as
            either is where a logit is; 0 where none was.
    """

    def __init__(self, victim: Victim, y: Tensor, runner: BatchRunner | None = None) -> None:
        self.victim, self.y = victim, y
        self.runner = runner or BatchRunner(y.device)
        self.loss_first: Tensor | None = None
        self.loss_last = torch.zeros(len(y), device=y.device)
        self.zero_gradients = torch.zeros(len(y), dtype=torch.long, device=y.device)
        self.broken_at = torch.zeros_like(self.zero_gradients)
        self._calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Gradient at ``x``, M×3×H×W, where M is a multiple of the batch (neighbours stacked
        before images); the loss is summed over rows, so each row has its own gradient."""
        self.runner.check_cancelled()
        copies = len(x) // len(self.y)
        x = x.detach().requires_grad_()
        losses = localization_loss(self.victim.logits(x), self.y.repeat(copies, 1, 1, 1))
        (gradient,) = torch.autograd.grad(losses.sum(), x)
        with torch.no_grad():
            gradient = gradient.contiguous()
            self.loss_last = losses.view(copies, -1).mean(0)
            if self.loss_first is None:
                self.loss_first = self.loss_last
            largest = gradient.abs().amax((1, 2, 3))
            self.zero_gradients += (largest == 0).view(copies, -1).sum(0)
            self._calls += 1
            broken = ~(largest.isfinite() & losses.isfinite()).view(copies, -1).all(0)
            self.broken_at[broken & (self.broken_at == 0)] = self._calls
        return gradient
