"""Optimisers with their schedules of the learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import Any, Protocol

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau


class Schedule(Protocol):
    """Sets the learning rate before each step, or changes it after an epoch."""

    def before_step(self, progress: float) -> None:
        """Called with the part of the whole run that is done, in [0, 1)."""

    def after_epoch(self, loss: float) -> None:
        """Called with the mean loss of the epoch."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Optimization:
    """An optimiser and what changes its learning rate."""

    optimizer: torch.optim.Optimizer
    schedule: Schedule

    @property
    def learning_rate(self) -> float:
        """The rate of the last step, or of the next where there was none."""
        return float(self.optimizer.param_groups[0]["lr"])


class Cosine:
    """Linear warm-up to the peak, then half a cosine down to 1 % of it.

    Args:
        warmup: the part of its time that the warm-up takes.
        begin, end: the part of the whole run that it is for.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        peak: float,
        warmup: float,
        *,
        begin: float = 0.0,
        end: float = 1.0,
    ) -> None:
        self._optimizer, self._peak, self._warmup = optimizer, peak, warmup
        self._begin, self._end = begin, end

    def before_step(self, progress: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate(progress)

    def rate(self, progress: float) -> float:
        """The learning rate at a part of the whole run."""
        progress = (progress - self._begin) / (self._end - self._begin)
        if progress < self._warmup:
            return self._peak * (0.01 + 0.99 * progress / self._warmup)
        rest = (progress - self._warmup) / (1 - self._warmup)
        return self._peak * (0.01 + 0.99 * (1 + cos(pi * rest)) / 2)

    def after_epoch(self, loss: float) -> None:
        """Nothing: the rate depends on the progress alone."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


class Plateau:
    """The rate is multiplied by ``factor`` after ``patience`` epochs without a lower loss."""

    def __init__(self, optimizer: torch.optim.Optimizer, factor: float, patience: int) -> None:
        self._scheduler = ReduceLROnPlateau(optimizer, factor=factor, patience=patience)

    def before_step(self, progress: float) -> None:
        """Nothing: the rate changes between epochs."""

    def after_epoch(self, loss: float) -> None:
        self._scheduler.step(loss)

    def state_dict(self) -> dict[str, Any]:
        return dict(self._scheduler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scheduler.load_state_dict(state)
