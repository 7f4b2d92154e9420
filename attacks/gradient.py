"""The gradient of the attack's loss with respect to the image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from advbench.attacks.losses import LOSSES, LossName
from advbench.inference.runner import BatchRunner
from advbench.victims.base import Victim


class InputGradient:
    """∇ₓ J(V(x), y) for a batch, with a trace of what was seen.

    Args:
        runner: what it is computed within; it may be cancelled there.
        loss: J, one of :data:`~advbench.attacks.losses.LOSSES`.
        keys: stream keys of the rows, for a victim behind a random defense. Each call draws anew,
            and its gradient is the mean over the victim's ``draws`` (EOT, Athalye et al., ICML
            2018).
        region: N×1×H×W, True where an image may change; elsewhere the gradient is 0.

    Attributes:
        victim, y: what it is the gradient of.
        progress: share of the attack's steps that lie behind, which some losses depend on.
        losses: J per row at the last call.
        loss_first, loss_last: J per image at the first and the last call.
        zero_gradients: calls per image whose gradient was zero everywhere.
        broken_at: per image the first call, from 1, whose loss or gradient was NaN or infinite, as
            either is where a logit is; 0 where none was.
        calls, gradients: calls so far, and gradients per image.
    """

    def __init__(
        self,
        victim: Victim,
        y: Tensor,
        runner: BatchRunner | None = None,
        *,
        loss: LossName = "bce",
        keys: Sequence[tuple[object, ...]] = (),
        region: Tensor | None = None,
    ) -> None:
        self.victim, self.y = victim, y
        self.runner = runner or BatchRunner(y.device)
        self.progress = 0.0
        self.loss_first: Tensor | None = None
        self.losses = self.loss_last = torch.zeros(len(y), device=y.device)
        self.zero_gradients = torch.zeros(len(y), dtype=torch.long, device=y.device)
        self.broken_at = torch.zeros_like(self.zero_gradients)
        self._loss, self._keys, self._region = LOSSES[loss], keys, region
        self._threshold = logit(victim.threshold)
        self.calls = self.gradients = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Gradient at ``x``, M×3×H×W, where M is a multiple of the batch (neighbours stacked
        before images); the loss is summed over rows, so each row has its own gradient."""
        copies = len(x) // len(self.y)
        gradient, losses = self._drawn(x, copies, 0)
        for draw in range(1, self.victim.draws):
            more, other = self._drawn(x, copies, draw)
            gradient += more
            losses += other
        with torch.no_grad():
            if self.victim.draws > 1:
                gradient /= self.victim.draws
                losses /= self.victim.draws
            self.losses = losses
            self.loss_last = losses.view(copies, -1).mean(0)
            if self.loss_first is None:
                self.loss_first = self.loss_last
            largest = gradient.abs().amax((1, 2, 3))
            self.zero_gradients += (largest == 0).view(copies, -1).sum(0)
            self.calls += 1
            self.gradients += copies
            broken = ~(largest.isfinite() & losses.isfinite()).view(copies, -1).all(0)
            self.broken_at[broken & (self.broken_at == 0)] = self.calls
            if self._region is not None:
                gradient *= self._region.repeat(copies, 1, 1, 1)
        return gradient

    def kept_in_region(self, images: Tensor, x: Tensor) -> Tensor:
        """Undo what ``images`` changed of ``x`` outside of the region."""
        return images if self._region is None else torch.where(self._region, images, x)

    def _drawn(self, x: Tensor, copies: int, draw: int) -> tuple[Tensor, Tensor]:
        """Gradient and losses at one draw of what is random."""
        self.runner.check_cancelled()
        keys = [(*key, self.calls, copy, draw) for copy in range(copies) for key in self._keys]
        x = x.detach().requires_grad_()
        y = self.y.repeat(copies, 1, 1, 1)
        logits = self.victim.logits_for(x, keys)
        losses = self._loss(logits, y, self._threshold, self.progress)
        (gradient,) = torch.autograd.grad(losses.sum(), x)
        self.runner.on_pass(len(x))
        # Some losses are finite where a logit is not.
        broken = ~logits.detach().isfinite().flatten(1).all(1)
        return gradient.contiguous(), losses.detach().masked_fill(broken, math.nan)


def logit(probability: float) -> float:
    """Compute the logit of a probability; that of 0 and 1 is large but finite."""
    probability = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(probability / (1 - probability))
