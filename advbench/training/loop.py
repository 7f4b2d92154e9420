"""The training loop of victims and defenses: deterministic, resumable after every epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.progress import CountProgress
from advbench.rng import stream_key
from advbench.training.checkpoint import Checkpoint, write_weights
from advbench.training.data import Crops, Examples, FreshExamples
from advbench.training.task import Epoch, Task

CLIP = 5.0

OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class TrainingRun:
    """Say where a training writes, whom it tells, and with whom it trains.

    Attributes:
        folder: receives ``checkpoint.pt`` and ``curve.csv`` after every epoch, and at the end the
            weights (safetensors) with their card and curve.
        report: called after every epoch.
        steps: called after every step, with the steps that are done and those of the whole run.
        finishing: of what is done after the last epoch, alike.
        processes: those that train together; each calls the training function alike.
    """

    folder: Path
    report: OnEpoch = lambda epoch: None
    steps: CountProgress = lambda done, total: None
    finishing: CountProgress = lambda done, total: None
    processes: Processes = field(default_factory=Processes)


def fit(
    task: Task,
    training: Examples | FreshExamples,
    validation: Examples,
    run: TrainingRun,
    *,
    after: Checkpoint | None = None,
) -> Path:
    """Train a network; run again to resume.

    Args:
        after: of a run whose last epoch this one goes on from, where it has none of its own.

    Returns:
        the path of the weights.

    Raises:
        AdvbenchError: ``run.folder`` holds another run, there is less than a batch of crops, the
            processes cannot share a batch evenly, or the training diverged.
    """
    recipe, count = task.recipe, run.processes.count
    if recipe.batch % count:
        raise AdvbenchError(
            f"a batch of {recipe.batch} cannot be shared by {count} processes; "
            f"give --set batch={count * max(1, recipe.batch // count)}"
        )
    checkpoint = Checkpoint(run.folder, task.key)
    trainer = _Trainer(task, checkpoint, run.processes)
    state = checkpoint.load() or (after.load() if after else None)
    if state:
        trainer.resume(state)
    crops = Crops(training, recipe, task.augmentation)
    if not len(crops):
        raise AdvbenchError(
            f"{crops.images} training images do not fill a batch of {recipe.batch}; "
            "take --set batch=N or --set crops_per_image=N"
        )
    for number in range(len(trainer.curve), task.epochs):
        if task.stalled(trainer.curve):
            break
        run.report(trainer.one_epoch(number, crops, validation, run.steps))
    return trainer.save_weights(run.finishing)


class _Trainer:
    def __init__(self, task: Task, checkpoint: Checkpoint, processes: Processes) -> None:
        self.task, self.checkpoint, self.processes = task, checkpoint, processes
        task.network = processes.prepare(task.network)
        self.average = AveragedModel(
            task.network,
            multi_avg_fn=get_ema_multi_avg_fn(task.recipe.ema),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        task.beside = task.attach()
        # float16 keeps a tenth of a grey level; bfloat16 would round away the traces themselves.
        self.mixed = task.recipe.precision == "fp16" or (
            task.recipe.precision == "auto" and task.device.type == "cuda"
        )
        self.curve: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        self._optimize(0)

    def _optimize(self, number: int) -> None:
        if optimization := self.task.optimization(number):
            self.optimization = optimization
            self.scaler = torch.GradScaler(self.task.device.type, enabled=self.mixed)

    def one_epoch(
        self, number: int, crops: Crops, validation: Examples, steps: CountProgress
    ) -> Epoch:
        """Train, validate and store one epoch."""
        started = time.perf_counter()
        if number:
            self._optimize(number)
        # Noise of the loss and dropout: a resumed epoch draws what an uninterrupted one draws.
        torch.manual_seed(stream_key(self.task.recipe.seed, self.task.stream, number))
        stage = self.task.start_epoch(number)
        loss = self._train(number, crops, steps)
        weights = self.task.network.state_dict().values()
        for what, finite in (
            ("loss is", math.isfinite(loss)),
            ("weights are", all(value.isfinite().all() for value in weights)),
        ):
            if not finite:
                raise AdvbenchError(
                    f"training diverged in epoch {number + 1}: its {what} no longer finite; give "
                    f"a lower --set {self.task.rate_field}=RATE and another --to"
                )
        with torch.no_grad():
            scores = self.task.validate(self.average.module.eval(), validation, self.processes)
        rate = self.optimization.learning_rate
        self.optimization.schedule.after_epoch(loss)
        epoch = Epoch(number, loss, scores, rate, time.perf_counter() - started, stage)
        self._store(epoch)
        return epoch

    def _train(self, number: int, crops: Crops, steps: CountProgress) -> float:
        """Mean loss over the steps of an epoch."""
        task, count = self.task, self.processes.count
        total = torch.zeros((), device=task.device)
        every = task.epochs * len(crops)
        for step, (images, masks) in enumerate(crops.epoch(number, self.processes.rank, count)):
            done = number * len(crops) + step
            self.optimization.schedule.before_step(done / every)
            images = images.to(task.device, memory_format=torch.channels_last)
            with torch.autocast(task.device.type, torch.float16, enabled=self.mixed):
                loss = task.loss(images, masks.to(task.device))
            self._step(loss)
            total += loss.detach()
            steps(done + 1, every)
        return float(self.processes.total(total)) / (len(crops) * count)

    def _step(self, loss: Tensor) -> None:
        optimizer = self.optimization.optimizer
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.processes.average_gradients(parameters)
        self.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(self.task.network.parameters(), CLIP)
        self.scaler.step(optimizer)
        self.scaler.update()
        self.average.update_parameters(self.task.network)

    def _store(self, epoch: Epoch) -> None:
        self.curve.append(epoch)
        if self.task.best(self.curve) == epoch:
            self.best = {k: v.cpu().clone() for k, v in self.average.module.state_dict().items()}
        if self.processes.rank == 0:
            state = {name: part.state_dict() for name, part in self._parts().items()}
            curve = [vars(line) for line in self.curve]
            self.checkpoint.save(state | {"best": self.best, "curve": curve}, self._lines())

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        for name, part in self._parts().items():
            if state[name] or name != "scaler":  # empty where the run began in float32
                part.load_state_dict(state[name])
        self.best = state["best"]
        self.curve = [Epoch(**line) for line in state["curve"]]
        if self.processes.rank == 0:
            self.checkpoint.write_curve(self._lines())

    def _parts(self) -> dict[str, Any]:
        return {
            "network": self.task.network,
            "average": self.average,
            "beside": self.task.beside,
            "optimizer": self.optimization.optimizer,
            "schedule": self.optimization.schedule,
            "scaler": self.scaler,
        }

    def _lines(self) -> list[dict[str, Any]]:
        return [epoch.line() for epoch in self.curve]

    def save_weights(self, finishing: CountProgress) -> Path:
        path = self.checkpoint.folder / f"{self.task.file}.safetensors"
        best = self.task.best(self.curve)
        assert best is not None
        state, finished = self.task.finish(self.best, self.processes, finishing)
        card = self.task.card(best) | finished
        if self.processes.rank == 0:
            write_weights(path, state, card, self._lines())
        self.processes.wait()
        return path
