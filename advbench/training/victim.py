"""Train a victim: its objective on crops, the best validation F1 kept."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.progress import CountProgress
from advbench.training.calibration import calibrate, check_can_be_calibrated
from advbench.training.data import Examples, FreshExamples, at_working_size, joined
from advbench.training.deep_supervision import DeepSupervision
from advbench.training.guidance import NoiseGuidance
from advbench.training.loop import TrainingRun, fit
from advbench.training.optimization import Cosine, Optimization
from advbench.training.recipe import Recipe
from advbench.training.starts import start_at_full_scale, start_from_residuals
from advbench.training.task import Epoch, Task, key_of
from advbench.training.validation import mean_over_all, own_part, pixel_f1
from advbench.victims.base import Size, Victim
from advbench.victims.objective import make_objective
from advbench.victims.weights import Weights


def train(
    victim_class: type[Victim],
    size: Size,
    training: Examples | FreshExamples,
    validation: Examples,
    *,
    source: dict[str, Any],
    recipe: Recipe,
    run: TrainingRun,
    device: str = "cpu",
    start: Victim | None = None,
    authentic: Examples | None = None,
) -> Path:
    """Train a victim; run again to resume.

    Args:
        source: what the examples are, for the card; its ``label``, or else its ``id``, becomes the
            weights' label.
        run: the weights become ``<victim>-<size>.safetensors`` in its folder.
        start: a victim of the same class and size whose weights training starts from.
        authentic: more validation images, for a recipe that calibrates.

    Returns:
        the path of the weights.

    Raises:
        AdvbenchError: as :func:`advbench.training.loop.fit`.
    """
    task = VictimTask(victim_class, size, recipe, source, device=device, start=start)
    victim = task.objective.victim
    validation = at_working_size(validation, victim)
    if recipe.calibrate:
        more = [at_working_size(authentic, victim)] if authentic else []
        task.calibration = joined(validation, *more)
    return fit(task, at_working_size(training, victim), validation, run)


class VictimTask(Task):
    """A victim's network, trained by one of its objectives and, beside it, noise guidance.

    Attributes:
        calibration: images to calibrate the trained network on; None where it stays as it is.
    """

    recipe: Recipe
    calibration: Examples | None = None

    def __init__(
        self,
        victim_class: type[Victim],
        size: Size,
        recipe: Recipe,
        source: dict[str, Any],
        *,
        device: str = "cpu",
        start: Victim | None = None,
    ) -> None:
        self.victim_class, self.size, self.recipe = victim_class, size, recipe
        self.source, self.start = source, start
        if recipe.calibrate:
            check_can_be_calibrated(victim_class)
        self.file = f"{victim_class.name}-{size}"
        parts = [victim_class.name, size, source["content_sha256"], recipe.model_dump_json()]
        self.key = key_of(*parts, *([start.weights.sha256] if start else []))
        random.seed(recipe.seed)
        np.random.seed(recipe.seed)
        torch.manual_seed(recipe.seed)
        network = victim_class.build_network(size).to(device)
        if recipe.start_keeps and not start:
            raise AdvbenchError("--set start_keeps: give the weights to start from with --start")
        if not start or recipe.start_keeps:
            if recipe.full_scale_start:
                start_at_full_scale(network)
            start_from_residuals(network, recipe.residual_start)
        if start:
            kept = _beginning_with(recipe.start_keeps, start.network.state_dict())
            network.load_state_dict(network.state_dict() | kept)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = make_objective(self._victim(self.network), recipe).to(device)

    def attach(self) -> nn.ModuleDict:
        beside = nn.ModuleDict({"objective": self.objective})
        if self.recipe.guidance:
            victim = self.objective.victim
            guidance = NoiseGuidance(victim, self.recipe.crop, self.objective.guided)
            beside["guidance"] = guidance.to(self.device)
        if self.recipe.deep_supervision:
            heads = DeepSupervision(self.objective.victim, self.recipe.crop)
            beside["heads"] = heads.to(self.device)
        return beside

    @property
    def epochs(self) -> int:
        return self.recipe.epochs

    def augmentation(self, number: int) -> float:
        if not self.recipe.augment:
            return 0.0
        ramp = self.recipe.augment_ramp * self.epochs
        return min(1.0, number / ramp) if ramp else 1.0

    def optimization(self, number: int) -> Optimization | None:
        if number:
            return None
        optimizer = torch.optim.AdamW(
            [*self.network.parameters(), *self.beside.parameters()],
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
        )
        cosine = Cosine(optimizer, self.recipe.learning_rate, self.recipe.warmup)
        return Optimization(optimizer, cosine)

    def start_epoch(self, number: int) -> str:
        self.network.train()
        if self.recipe.frozen_norms:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        self.objective.start_epoch(number)
        return ""

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        loss = self.objective.loss(images, masks)
        if "guidance" in self.beside:
            guidance = self.beside["guidance"]
            assert isinstance(guidance, NoiseGuidance)
            loss = loss + self.recipe.guidance * guidance.loss(self.objective.seen(images))
        if "heads" in self.beside:
            heads = self.beside["heads"]
            assert isinstance(heads, DeepSupervision)
            loss = loss + self.recipe.deep_supervision * heads.loss(masks, self.recipe.dice)
        return loss

    def validate(
        self, network: nn.Module, validation: Examples, processes: Processes
    ) -> dict[str, float]:
        victim = self._victim(network)
        found = [pixel_f1(victim, *one) for one in own_part(validation, processes, self.device)]
        return {"val_f1": mean_over_all(found, validation, processes, self.device)}

    def best(self, curve: Sequence[Epoch]) -> Epoch | None:
        """The one of the best validation F1, the last of equals."""
        return max(self._ended(curve), key=lambda e: (e.scores["val_f1"], e.epoch), default=None)

    def stalled(self, curve: Sequence[Epoch]) -> bool:
        """No better validation F1 for as long as the recipe's patience."""
        ended = self._ended(curve)
        if not self.recipe.patience or not ended:
            return False
        first_best = max(ended, key=lambda e: (e.scores["val_f1"], -e.epoch))
        return len(curve) - 1 - first_best.epoch >= self.recipe.patience

    def _ended(self, curve: Sequence[Epoch]) -> list[Epoch]:
        return [epoch for epoch in curve if self.objective.may_end(epoch.epoch)]

    def finish(
        self, state: Mapping[str, Tensor], processes: Processes, progress: CountProgress
    ) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        if self.calibration is None:
            return state, {}
        network = self.network.eval()
        network.load_state_dict(state)
        chosen = calibrate(self._victim(network), self.calibration, processes, progress)
        return network.state_dict(), {"calibration": asdict(chosen)}

    def card(self, best: Epoch) -> dict[str, Any]:
        return {
            "victim": self.victim_class.name,
            "size": self.size,
            "label": self.source.get("label", self.source["id"]),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "dataset": self.source,
            "start": asdict(self.start.weights) if self.start else None,
            "recipe": self.recipe.model_dump(),
            "best_epoch": best.epoch,
            "val_f1": round(best.scores["val_f1"], 4),
        }

    def _victim(self, network: nn.Module) -> Victim:
        """A victim around a network in training: mode and gradients stay as they are."""
        training = network.training
        victim = self.victim_class(network, Weights("", "training"), self.size)
        network.train(training).requires_grad_(True)
        return victim


def _beginning_with(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {name: value for name, value in state.items() if name.startswith(prefix)}
    if not found:
        raise AdvbenchError(f"--set start_keeps={prefix}: no weights of that name")
    return found
