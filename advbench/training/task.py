"""Define what the training loop is given: a network, its loss, its validation, and its card."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from advbench.engines.processes import Processes
from advbench.progress import CountProgress
from advbench.training.data import CropRecipe, Examples
from advbench.training.optimization import Optimization


@dataclass(frozen=True)
class Epoch:
    """One line of the training curve.

    Attributes:
        epoch: its number, from 0.
        stage: name of the stage that it belongs to; empty where there is one alone.
        loss: mean over its steps.
        scores: of the validation, by name.
    """

    epoch: int
    loss: float
    scores: dict[str, float]
    learning_rate: float
    seconds: float
    stage: str = ""

    def line(self) -> dict[str, Any]:
        """Return its columns in the order of the curve's file."""
        stage = {"stage": self.stage} if self.stage else {}
        rest = {"learning_rate": self.learning_rate, "seconds": self.seconds}
        return {"epoch": self.epoch} | stage | {"loss": self.loss} | self.scores | rest


class LoopRecipe(CropRecipe, Protocol):
    """Hold what a recipe says to the loop."""

    @property
    def ema(self) -> float: ...
    @property
    def precision(self) -> Literal["auto", "fp32", "fp16"]: ...


class Task(ABC):
    """One network to train.

    Attributes:
        recipe: of the run.
        network: what is trained, averaged and saved; on its device.
        beside: modules that are trained along with it and dropped afterwards; the loop sets it.
        key: of all that decides the result; a checkpoint of another key is refused.
        file: name of the weights, without its ending.
        stream: name of the random streams of the epochs.
        rate_field: of the recipe, to name where training diverges.
    """

    recipe: LoopRecipe
    network: nn.Module
    beside: nn.ModuleDict
    key: str
    file: str
    stream: ClassVar[str] = "epoch"
    rate_field: str = "learning_rate"

    @property
    @abstractmethod
    def epochs(self) -> int:
        """Count the epochs of the run."""

    @property
    def device(self) -> torch.device:
        """Name the device of the network."""
        return next(self.network.parameters()).device

    def attach(self) -> nn.ModuleDict:
        """Make what is trained beside the network, and let it listen; called once, after the
        average was copied."""
        return nn.ModuleDict()

    def augmentation(self, number: int) -> float:
        """The share of augmentation that the crops of an epoch meet."""
        return 0.0

    @abstractmethod
    def optimization(self, number: int) -> Optimization | None:
        """A new optimiser where an epoch begins with one, as the first does; else None."""

    @abstractmethod
    def start_epoch(self, number: int) -> str:
        """Set train mode, and return the name of the stage."""

    @abstractmethod
    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images float [0, 1] N×C×c×c, masks float N×1×c×c → a scalar to minimise."""

    @abstractmethod
    def validate(
        self, network: nn.Module, validation: Examples, processes: Processes
    ) -> dict[str, float]:
        """Scores of the averaged ``network`` in eval mode, by name; each process takes its part of
        the images."""

    @abstractmethod
    def best(self, curve: Sequence[Epoch]) -> Epoch | None:
        """The epoch whose average is kept; None where none can be yet."""

    def stalled(self, curve: Sequence[Epoch]) -> bool:
        """Tell whether training ends before its last epoch."""
        return False

    def finish(
        self, state: Mapping[str, Tensor], processes: Processes, progress: CountProgress
    ) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """Change the best weights after the last epoch; what was done, for the card."""
        return state, {}

    @abstractmethod
    def card(self, best: Epoch) -> dict[str, Any]:
        """Describe the run, to be written beside the weights."""


def key_of(*parts: str) -> str:
    """Hash all that decides the result of a run."""
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
