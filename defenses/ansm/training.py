"""How ANSM is trained: Algorithm 1, alignment of features first, then refinement by masks."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from advbench.defenses.ansm.features import tapped
from advbench.defenses.ansm.files import read_network, shipped_path
from advbench.defenses.ansm.losses import ffa_loss, mgr_loss, pwr_loss
from advbench.defenses.ansm.network import AnsmNetwork, Size
from advbench.defenses.ansm.recipe import AnsmRecipe, Upsampling
from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.images import to_tensor, to_unit
from advbench.rng import stream_key
from advbench.training.checkpoint import Checkpoint, write_weights
from advbench.training.data import Crops, Examples
from advbench.victims.base import Victim

# ReduceLROnPlateau as the paper states it.
FACTOR, PATIENCE = 0.9, 10
# What a recipe becomes without its second stage.
FIRST_STAGE = {"epochs_mgr": 0, "target": "prediction"}
# FFA is divided by the number of positions: its gradients, 1e-7 at the start and less later, would
# vanish in the 1e-8 that AdamW adds to their size by default.
EPSILON = 1e-15


@dataclass(frozen=True)
class Epoch:
    """One line of the training curve; validation RP in percent of the undefended original's F1."""

    epoch: int
    stage: str
    loss: float
    val_rp_original: float
    val_rp_fgsm: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Start:
    """Weights of another run, perhaps for another victim, that this one begins from."""

    sha256: str
    state: dict[str, Tensor]

    @classmethod
    def read(cls, source: str | Path, size: Size, upsampling: Upsampling) -> Self:
        """Those in a file, or the shipped ones of the victim of that name.

        Raises:
            AdvbenchError: the file holds no ANSM network of this size and upsampling.
        """
        shipped = shipped_path(str(source), size)
        path = shipped if shipped.is_file() else Path(source)
        if not path.is_file():
            raise AdvbenchError(
                f"--start {path}: no such file; give weights that advbench train ansm wrote, or "
                "the name of a victim that has shipped ones"
            )
        sha256, network = read_network(path)
        if network.size != size:
            raise AdvbenchError(
                f"--start {path}: is of size {network.size}; give --size {network.size}"
            )
        if network.upsampling != upsampling:
            raise AdvbenchError(
                f"--start {path}: give --set upsampling={network.upsampling}, as that network has"
            )
        return cls(sha256, network.state_dict())


def train(
    victim: Victim,
    size: Size,
    training: Examples,
    validation: Examples,
    source: Mapping[str, Any],
    recipe: AnsmRecipe,
    folder: Path,
    report: Callable[[Epoch], None] = lambda epoch: None,
    processes: Processes | None = None,
    start: Start | None = None,
    after: Path | None = None,
) -> Path:
    """Train S_φ for one frozen victim; run again to resume.

    Args:
        training, validation: pairs at the victim's working size: an image has six channels, the
            original's RGB and the adversarial one's.
        source: what the pairs are, for the card; with ``content_sha256``.
        processes: those that train together; each calls this function alike.
        start: what to begin from, random weights otherwise.
        after: folder of a finished run of the same first stage alone, which is not repeated.
        folder: receives ``checkpoint.pt`` and ``curve.csv`` after every epoch, and at the end
            ``<victim>-<size>.safetensors`` with its card and curve.

    Returns:
        the path of the weights: those of the second stage's best validation, the mean of both RP;
        of the last epoch where there is no second stage.

    Raises:
        AdvbenchError: ``folder`` or ``after`` holds another run, there is less than a batch of
            crops, the processes cannot share a batch evenly, or the training diverged.
    """
    processes = processes or Processes()
    if recipe.batch % processes.count:
        raise AdvbenchError(
            f"a batch of {recipe.batch} cannot be shared by {processes.count} processes; "
            f"give --set batch={processes.count * max(1, recipe.batch // processes.count)}"
        )
    checkpoint = Checkpoint(folder, _key(victim, size, source, recipe, start))
    state = checkpoint.load()
    if state is None and after:
        first = recipe.model_copy(update=FIRST_STAGE)
        state = Checkpoint(after, _key(victim, size, source, first, start)).load()
    run = _Run(victim, size, recipe, checkpoint, processes, start)
    if state:
        run.resume(state)
    crops = Crops(training, recipe)
    if len(crops) == 0:
        raise AdvbenchError(
            f"{len(training.names)} training images give less than a batch of {recipe.batch} "
            "crops; give more images, a smaller batch or more crops_per_image"
        )
    floor = None
    for number in range(len(run.curve), recipe.epochs_first + recipe.epochs_mgr):
        started = time.perf_counter()
        stage = run.enter(number)
        loss = run.train_epoch(crops, number, stage)
        if not all(value.isfinite().all() for value in run.network.state_dict().values()):
            raise AdvbenchError(
                f"training diverged in epoch {number + 1}: its weights are no longer finite; give "
                f"a lower --set {'lr_mgr' if stage == 'mgr' else 'lr_first'}=RATE and another --to"
            )
        floor = run.undefended(validation) if floor is None else floor
        original, fgsm = (100 * f1 / max(floor, 1e-9) for f1 in run.validate(validation))
        rate = run.optimizer.param_groups[0]["lr"]
        run.scheduler.step(loss)
        line = Epoch(number, stage, loss, original, fgsm, rate, time.perf_counter() - started)
        run.finish_epoch(line)
        report(line)
    return run.save_weights(source)


def _key(
    victim: Victim,
    size: Size,
    source: Mapping[str, Any],
    recipe: AnsmRecipe,
    start: Start | None,
) -> str:
    parts = [victim.name, victim.size, victim.weights.sha256, size, source["content_sha256"]]
    parts += [recipe.model_dump_json(), *([start.sha256] if start else [])]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


class _Run:
    def __init__(
        self,
        victim: Victim,
        size: Size,
        recipe: AnsmRecipe,
        checkpoint: Checkpoint,
        processes: Processes,
        start: Start | None = None,
    ) -> None:
        self.victim, self.size, self.recipe, self.checkpoint = victim, size, recipe, checkpoint
        self.processes, self.start = processes, start
        torch.manual_seed(recipe.seed)
        network = AnsmNetwork(size, recipe.pretrained, recipe.upsampling)
        if start:
            network.load_state_dict(start.state)
        network.to(victim.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.shared = processes.share(network)
        self.network = getattr(self.shared, "module", self.shared)
        self.average = AveragedModel(
            self.network,
            multi_avg_fn=get_ema_multi_avg_fn(recipe.ema),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        self.mixed = recipe.precision == "fp16" or (
            recipe.precision == "auto" and victim.device.type == "cuda"
        )
        self.curve: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        self._optimize(recipe.lr_first)

    def _optimize(self, rate: float) -> None:
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=rate,
            weight_decay=self.recipe.weight_decay,
            eps=EPSILON,
        )
        self.scheduler = ReduceLROnPlateau(self.optimizer, factor=FACTOR, patience=PATIENCE)
        self.scaler = torch.GradScaler(self.victim.device.type, enabled=self.mixed)

    def enter(self, number: int) -> str:
        """The stage of an epoch; the second one begins with an optimiser of its own."""
        if number == self.recipe.epochs_first:
            self._optimize(self.recipe.lr_mgr)
        return self.recipe.first if number < self.recipe.epochs_first else "mgr"

    def train_epoch(self, crops: Crops, number: int, stage: str) -> float:
        """Mean loss of an epoch."""
        torch.manual_seed(stream_key(self.recipe.seed, "ansm", number))
        losses: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
            "ffa": self._align,
            "pwr": self._reconstruct,
            "mgr": self._refine,
        }
        device = self.victim.device
        total = torch.zeros((), device=device)
        self.shared.train()
        for pairs, masks in crops.epoch(number, self.processes.rank, self.processes.count):
            pairs = pairs.to(device)
            clean, adversarial = pairs[:, :3].contiguous(), pairs[:, 3:].contiguous()
            with torch.autocast(device.type, torch.float16, enabled=self.mixed):
                loss = losses[stage](clean, adversarial, masks.to(device))
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.average.update_parameters(self.network)
            total += loss.detach()
        return float(self.processes.total(total)) / (len(crops) * self.processes.count)

    def _align(self, clean: Tensor, adversarial: Tensor, masks: Tensor) -> Tensor:
        with tapped(self.victim, self.recipe.depth) as features:
            with torch.no_grad():
                self.victim.logits(clean)
                expected = list(features.values())
            self.victim.logits(self.shared(adversarial))
            return ffa_loss(expected, list(features.values()))

    def _reconstruct(self, clean: Tensor, adversarial: Tensor, masks: Tensor) -> Tensor:
        return pwr_loss(clean, self.shared(adversarial))

    def _refine(self, clean: Tensor, adversarial: Tensor, masks: Tensor) -> Tensor:
        if self.recipe.target == "prediction":
            with torch.no_grad():
                masks = (self.victim.probabilities(clean) > self.victim.threshold).float()
        logits = self.victim.logits(self.shared(torch.cat([clean, adversarial])))
        of_clean, of_adversarial = logits.chunk(2)
        return mgr_loss(of_clean, of_adversarial, masks, self.recipe.mask_weight)

    @torch.no_grad()
    def validate(self, examples: Examples) -> tuple[float, float]:
        """Mean pixel F1 behind the averaged S_φ on originals and on adversarial images."""
        network = self.average.module.eval()
        scores = [
            [self._f1(network(image), truth) for image in (clean, adversarial)]
            for clean, adversarial, truth in self._pairs(examples)
        ]
        original, fgsm = (self._mean([row[k] for row in scores], examples) for k in (0, 1))
        return original, fgsm

    @torch.no_grad()
    def undefended(self, examples: Examples) -> float:
        """Mean pixel F1 of the victim on the originals: what RP is a percentage of."""
        scores = [self._f1(clean, truth) for clean, _, truth in self._pairs(examples)]
        return self._mean(scores, examples)

    def _mean(self, scores: Sequence[float], examples: Examples) -> float:
        """Over all images, of which this process scored its own; perhaps none."""
        total = torch.tensor(sum(scores, 0.0), device=self.victim.device)
        return float(self.processes.total(total)) / len(examples.names)

    def _pairs(self, examples: Examples) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        for number in range(self.processes.rank, len(examples.names), self.processes.count):
            pixels, truth = examples.load(number)
            pair = to_unit(to_tensor(pixels))
            pair = pair.to(self.victim.device)
            yield pair[:, :3].contiguous(), pair[:, 3:].contiguous(), truth

    def _f1(self, image: Tensor, truth: np.ndarray) -> float:
        probability = self.victim.probabilities(image)[0, 0].cpu().numpy()
        forged = probability > self.victim.threshold
        return float(2 * (forged & truth).sum() / max(forged.sum() + truth.sum(), 1))

    @property
    def best_epoch(self) -> Epoch:
        """Of the second stage, the one with the best mean RP, the last of equals; of the first, the
        last: it gives up originals for noise, so the best of both is where nothing is learnt yet.
        """
        second = [line for line in self.curve if line.stage == "mgr"]
        if not second:
            return self.curve[-1]
        return max(second, key=lambda e: (e.val_rp_original + e.val_rp_fgsm, e.epoch))

    def finish_epoch(self, line: Epoch) -> None:
        self.curve.append(line)
        if self.best_epoch == line:
            self.best = {k: v.cpu().clone() for k, v in self.average.module.state_dict().items()}
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
        }
        if self.processes.rank == 0:
            self.checkpoint.save(state, [asdict(epoch) for epoch in self.curve])

    def resume(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if state["scaler"]:  # empty where the run began without mixed precision
            self.scaler.load_state_dict(state["scaler"])
        self.best = state["best"]
        self.curve = [Epoch(**line) for line in state["curve"]]

    def save_weights(self, source: Mapping[str, Any]) -> Path:
        path = self.checkpoint.folder / f"{self.victim.name}-{self.victim.size}.safetensors"
        best = self.best_epoch
        card = {
            "defense": "ansm",
            "size": self.size,
            "victim": self.victim.name,
            "victim_size": self.victim.size,
            "victim_sha256": self.victim.weights.sha256,
            "label": self.victim.weights.label,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "pairs": dict(source),
            "recipe": self.recipe.model_dump(),
            "start_sha256": self.start.sha256 if self.start else None,
            "best_epoch": best.epoch,
            "val_rp_original": round(best.val_rp_original, 2),
            "val_rp_fgsm": round(best.val_rp_fgsm, 2),
        }
        if self.processes.rank == 0:
            write_weights(path, self.best, card, [asdict(epoch) for epoch in self.curve])
        self.processes.wait()
        return path
