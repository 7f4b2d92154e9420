"""The training loop: deterministic, resumable after every epoch, the best validation F1 kept."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from advbench.errors import AdvbenchError
from advbench.images import to_tensor, to_unit
from advbench.rng import stream_key
from advbench.training.checkpoint import Checkpoint, write_weights
from advbench.training.data import Crops, Examples, at_working_size
from advbench.training.guidance import NoiseGuidance
from advbench.training.recipe import Recipe
from advbench.training.residuals import start_from_residuals
from advbench.victims.base import Size, Victim
from advbench.victims.objective import make_objective
from advbench.victims.weights import Weights


@dataclass(frozen=True)
class Epoch:
    """One line of the training curve."""

    epoch: int
    loss: float
    val_f1: float
    learning_rate: float
    seconds: float


def train(
    victim_class: type[Victim],
    size: Size,
    training: Examples,
    validation: Examples,
    source: dict[str, Any],
    recipe: Recipe,
    folder: Path,
    device: str = "cpu",
    report: Callable[[Epoch], None] = lambda epoch: None,
    start: Victim | None = None,
) -> Path:
    """Train a victim; run again to resume.

    Args:
        source: what the examples are, for the card; its ``id`` becomes the weights' label.
        folder: receives ``checkpoint.pt`` (after every epoch), ``curve.csv``, and at the end
            ``<victim>-<size>.safetensors`` with its card beside it.
        report: called after every epoch.
        start: a victim of the same class and size whose weights training starts from.

    Returns:
        the path of the weights.

    Raises:
        AdvbenchError: ``folder`` holds a run of another recipe or of other examples.
    """
    random.seed(recipe.seed)
    np.random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    network = victim_class.build_network(size).to(device)
    if start:
        network.load_state_dict(start.network.state_dict())
    else:
        start_from_residuals(network, recipe.residual_start)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = Checkpoint(folder, _run_key(victim_class, size, source, recipe, start))
    run = _Run(victim_class, size, network, recipe, checkpoint)
    run.resume()
    victim = run.objective.victim
    training, validation = (at_working_size(e, victim) for e in (training, validation))
    crops = Crops(training, recipe)
    if not len(crops):
        raise AdvbenchError(
            f"{len(training.names)} training images do not fill a batch of {recipe.batch}; "
            "take --set batch=N or --set crops_per_image=N"
        )
    for number in range(len(run.curve), recipe.epochs):
        if run.stalled:
            break
        started = time.perf_counter()
        loss = run.train_epoch(crops, number, device)
        if not math.isfinite(loss):
            raise AdvbenchError(
                f"training diverged in epoch {number + 1}: its loss is no longer finite; give a "
                "lower --set learning_rate=RATE and another --to"
            )
        f1 = run.validate(validation, device)
        line = Epoch(number, loss, f1, run.learning_rate, time.perf_counter() - started)
        run.finish_epoch(line)
        report(line)
    return run.save_weights(source, start)


def _run_key(
    victim_class: type[Victim],
    size: Size,
    source: dict[str, Any],
    recipe: Recipe,
    start: Victim | None,
) -> str:
    parts = [victim_class.name, size, source["content_sha256"], recipe.model_dump_json()]
    if start:
        parts.append(start.weights.sha256)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


class _Run:
    def __init__(
        self,
        victim_class: type[Victim],
        size: Size,
        network: nn.Module,
        recipe: Recipe,
        checkpoint: Checkpoint,
    ) -> None:
        self.victim_class, self.size, self.recipe = victim_class, size, recipe
        self.checkpoint = checkpoint
        self.network = network
        self.average = AveragedModel(
            network,
            multi_avg_fn=get_ema_multi_avg_fn(recipe.ema),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        # After the copy above, so that the average carries no hook.
        victim = self._victim(network)
        self.objective = make_objective(victim, recipe)
        self.guidance = NoiseGuidance(victim, recipe.crop, self.objective.guided)
        device = next(network.parameters()).device
        self.objective.to(device)
        self.guidance.to(device)
        # float16 keeps a tenth of a grey level; bfloat16 would round away the traces themselves.
        self.mixed = recipe.precision == "fp16" or (
            recipe.precision == "auto" and device.type == "cuda"
        )
        self.scaler = torch.GradScaler(device.type, enabled=self.mixed)
        self.optimizer = torch.optim.AdamW(
            [*network.parameters(), *self.objective.parameters(), *self.guidance.parameters()],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        self.curve: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        self.learning_rate = 0.0

    def train_epoch(self, crops: Crops, number: int, device: str) -> float:
        self.network.train()
        # Noise of the objective and dropout: a resumed epoch draws what an uninterrupted one draws.
        torch.manual_seed(stream_key(self.recipe.seed, "epoch", number))
        self.objective.start_epoch(number)
        total = torch.zeros((), device=device)
        for step, (images, masks) in enumerate(crops.epoch(number)):
            progress = (number + step / len(crops)) / self.recipe.epochs
            self.learning_rate = _schedule(progress, self.recipe)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate
            images = images.to(device, memory_format=torch.channels_last)
            with torch.autocast(images.device.type, torch.float16, enabled=self.mixed):
                loss = self.objective.loss(images, masks.to(device))
                seen = self.objective.seen(images)
                guided = loss + self.recipe.guidance * self.guidance.loss(seen)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(guided).backward()  # type: ignore[no-untyped-call]
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.average.update_parameters(self.network)
            total += loss.detach()
        return float(total) / max(len(crops), 1)

    @torch.no_grad()
    def validate(self, examples: Examples, device: str) -> float:
        """Mean pixel F1 of the averaged weights at the victim's threshold and working size."""
        victim = self._victim(self.average.module.eval())
        scores = []
        for number in range(len(examples.names)):
            pixels, truth = examples.load(number)
            image = to_tensor(pixels).to(device)
            forged = victim.probabilities(to_unit(image))[0, 0].cpu().numpy() > victim.threshold
            scores.append(2 * (forged & truth).sum() / max(forged.sum() + truth.sum(), 1))
        return float(np.mean(scores))

    def finish_epoch(self, line: Epoch) -> None:
        self.curve.append(line)
        if self.best_epoch == line:
            self.best = {k: v.cpu().clone() for k, v in self.average.module.state_dict().items()}
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "objective": self.objective.state_dict(),
            "guidance": self.guidance.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
        }
        self.checkpoint.save(state, [asdict(epoch) for epoch in self.curve])

    @property
    def best_epoch(self) -> Epoch | None:
        """The one of the best validation F1, the last of equals."""
        ended = [epoch for epoch in self.curve if self.objective.may_end(epoch.epoch)]
        return max(ended, key=lambda epoch: (epoch.val_f1, epoch.epoch), default=None)

    @property
    def stalled(self) -> bool:
        """No better validation F1 for as long as the recipe's patience."""
        ended = [epoch for epoch in self.curve if self.objective.may_end(epoch.epoch)]
        if not self.recipe.patience or not ended:
            return False
        first_best = max(ended, key=lambda epoch: (epoch.val_f1, -epoch.epoch))
        return len(self.curve) - 1 - first_best.epoch >= self.recipe.patience

    def resume(self) -> None:
        state = self.checkpoint.load()
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.objective.load_state_dict(state["objective"])
        self.guidance.load_state_dict(state["guidance"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where the run began without mixed precision
            self.scaler.load_state_dict(state["scaler"])
        self.best = state["best"]
        self.curve = [Epoch(**epoch) for epoch in state["curve"]]

    def save_weights(self, source: dict[str, Any], start: Victim | None) -> Path:
        path = self.checkpoint.folder / f"{self.victim_class.name}-{self.size}.safetensors"
        best = self.best_epoch
        assert best is not None
        card = {
            "victim": self.victim_class.name,
            "size": self.size,
            "label": source["id"],
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "dataset": source,
            "start": asdict(start.weights) if start else None,
            "recipe": self.recipe.model_dump(),
            "best_epoch": best.epoch,
            "val_f1": round(best.val_f1, 4),
        }
        return write_weights(path, self.best, card, [asdict(epoch) for epoch in self.curve])

    def _victim(self, network: nn.Module) -> Victim:
        """A victim around a network in training: mode and gradients stay as they are."""
        training = network.training
        victim = self.victim_class(network, Weights("", "training"), self.size)
        network.train(training).requires_grad_(True)
        return victim


def _schedule(progress: float, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine to 1 % of the peak."""
    if progress < recipe.warmup:
        return recipe.learning_rate * (0.01 + 0.99 * progress / recipe.warmup)
    rest = (progress - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * (0.01 + 0.99 * (1 + cos(pi * rest)) / 2)
