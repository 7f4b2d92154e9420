"""Train ANSM: Algorithm 1, alignment of features first, then refinement by masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from advbench.defenses.ansm.features import tapped
from advbench.defenses.ansm.files import read_network
from advbench.defenses.ansm.losses import ffa_loss, mgr_loss, pwr_loss
from advbench.defenses.ansm.network import AnsmNetwork, Size
from advbench.defenses.ansm.noise import add_noise
from advbench.defenses.ansm.recipe import AnsmRecipe, Upsampling
from advbench.defenses.trained import shipped_path
from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.files import user_path
from advbench.training.checkpoint import Checkpoint
from advbench.training.data import Examples, FreshExamples
from advbench.training.loop import TrainingRun, fit
from advbench.training.optimization import Cosine, Optimization, Plateau
from advbench.training.task import Epoch, Task, key_of
from advbench.training.validation import mean_over_all, own_part, pixel_f1
from advbench.victims.base import Victim

# ReduceLROnPlateau as the paper states it.
FACTOR, PATIENCE = 0.9, 10
# The part of a stage in which a cosine warms up.
WARMUP = 0.05
# Channels of a pair.
ORIGINAL, ADVERSARIAL = slice(0, 3), slice(3, 6)
# What a recipe becomes without its second stage.
FIRST_STAGE = {"epochs_mgr": 0, "target": "prediction"}
# FFA is divided by the number of positions: its gradients, 1e-7 at the start and less later, would
# vanish in the 1e-8 that AdamW adds to their size by default.
EPSILON = 1e-15


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
        shipped = shipped_path("ansm", str(source), size)
        path = shipped if shipped.is_file() else user_path(source)
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
    training: Examples | FreshExamples,
    validation: Examples,
    *,
    source: Mapping[str, Any],
    recipe: AnsmRecipe,
    run: TrainingRun,
    start: Start | None = None,
    after: Path | None = None,
) -> Path:
    """Train S_φ for one frozen victim; run again to resume.

    Args:
        training, validation: pairs at the victim's working size: an image has six channels, the
            original's RGB and the adversarial one's. Of ``training`` the originals are enough where
            the recipe's noise is made on the fly.
        source: what the pairs are, for the card; with ``content_sha256``.
        run: the weights become ``<victim>-<size>.safetensors`` in its folder.
        start: what to begin from, random weights otherwise.
        after: folder of a finished run of the same first stage alone, which is not repeated.

    Returns:
        the path of the weights: those of the second stage's best validation, the mean of both RP;
        of the last epoch where there is no second stage.

    Raises:
        AdvbenchError: as :func:`advbench.training.loop.fit`; ``after`` holds another run.
    """
    task = AnsmTask(victim, size, recipe, source, start=start)
    first = None
    if after:
        alone = recipe.model_copy(update=FIRST_STAGE)
        first = Checkpoint(after, AnsmTask(victim, size, alone, source, start=start).key)
    return fit(task, training, validation, run, after=first)


class AnsmTask(Task):
    """S_φ before a frozen victim, in two stages with an optimiser each."""

    recipe: AnsmRecipe
    stream: ClassVar[str] = "ansm"

    def __init__(
        self,
        victim: Victim,
        size: Size,
        recipe: AnsmRecipe,
        source: Mapping[str, Any],
        *,
        start: Start | None = None,
    ) -> None:
        self.victim, self.size, self.recipe = victim, size, recipe
        self.source, self.start = source, start
        self.file = f"{victim.name}-{victim.size}"
        self.key = key_of(
            *(victim.name, victim.size, victim.weights.sha256, size, source["content_sha256"]),
            *(recipe.model_dump_json(), *([start.sha256] if start else [])),
        )
        torch.manual_seed(recipe.seed)
        network = AnsmNetwork(size, recipe.pretrained, recipe.upsampling)
        if start:
            network.load_state_dict(start.state)
        self.network = network.to(victim.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._floor: float | None = None

    @property
    def epochs(self) -> int:
        return self.recipe.epochs_first + self.recipe.epochs_mgr

    def optimization(self, number: int) -> Optimization | None:
        """The second stage begins with an optimiser of its own."""
        if number not in (0, self.recipe.epochs_first):
            return None
        second = number == self.recipe.epochs_first
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.recipe.lr_mgr if second else self.recipe.lr_first,
            weight_decay=self.recipe.weight_decay,
            eps=EPSILON,
        )
        if self.recipe.schedule == "plateau":
            return Optimization(optimizer, Plateau(optimizer, FACTOR, PATIENCE))
        first = self.recipe.epochs_first / self.epochs
        begin, end = (first, 1.0) if second else (0.0, first)
        rate = optimizer.param_groups[0]["lr"]
        return Optimization(optimizer, Cosine(optimizer, rate, WARMUP, begin=begin, end=end))

    def start_epoch(self, number: int) -> str:
        self.network.train()
        self._stage = self.recipe.first if number < self.recipe.epochs_first else "mgr"
        self.rate_field = "lr_mgr" if self._stage == "mgr" else "lr_first"
        return self._stage

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        clean = images[:, ORIGINAL].contiguous()
        if self.recipe.noise == "stored":
            adversarial = images[:, ADVERSARIAL].contiguous()
        else:
            levels = round(self.recipe.eps)
            adversarial = add_noise(self.recipe.noise, self.victim, clean, masks, levels=levels)
        losses = {"ffa": self._align, "pwr": self._reconstruct, "mgr": self._refine}
        return losses[self._stage](clean, adversarial, masks)

    def _align(self, clean: Tensor, adversarial: Tensor, masks: Tensor) -> Tensor:
        return self._aligned(clean, self.network(adversarial))

    def _aligned(self, clean: Tensor, processed: Tensor) -> Tensor:
        with tapped(self.victim, self.recipe.depth) as features:
            with torch.no_grad():
                self.victim.logits(clean)
                expected = list(features.values())
            self.victim.logits(processed)
            return ffa_loss(expected, list(features.values()))

    def _reconstruct(self, clean: Tensor, adversarial: Tensor, masks: Tensor) -> Tensor:
        return pwr_loss(clean, self.network(adversarial))

    def _refine(self, clean: Tensor, adversarial: Tensor, masks: Tensor) -> Tensor:
        recipe = self.recipe
        if recipe.target == "prediction":
            with torch.no_grad():
                masks = self.victim.probabilities(clean)
                if not recipe.soft_target:
                    masks = (masks > self.victim.threshold).float()
        processed = self.network(torch.cat([clean, adversarial]))
        of_clean, of_adversarial = self.victim.logits(processed).chunk(2)
        loss = mgr_loss(of_clean, of_adversarial, masks, recipe.mask_weight)
        if recipe.fidelity:
            loss = loss + recipe.fidelity * 255 * pwr_loss(clean, processed[: len(clean)])
        if recipe.feature_weight:
            loss = loss + recipe.feature_weight * self._aligned(clean, processed[len(clean) :])
        return loss

    def validate(
        self, network: nn.Module, validation: Examples, processes: Processes
    ) -> dict[str, float]:
        """RP behind S_φ on originals and on adversarial images, in percent of the victim's own
        mean F1 on the originals."""
        victim = self.victim

        def mean_f1(part: slice, defense: nn.Module | None) -> float:
            found = []
            for pair, truth in own_part(validation, processes, victim.device):
                image = pair[:, part].contiguous()
                found.append(pixel_f1(victim, defense(image) if defense else image, truth))
            return mean_over_all(found, validation, processes, victim.device)

        if self._floor is None:
            self._floor = max(mean_f1(ORIGINAL, None), 1e-9)
        return {
            "val_rp_original": 100 * mean_f1(ORIGINAL, network) / self._floor,
            "val_rp_fgsm": 100 * mean_f1(ADVERSARIAL, network) / self._floor,
        }

    def best(self, curve: Sequence[Epoch]) -> Epoch | None:
        """Choose of the second stage the one with the best mean RP, the last of equals; of the
        first, the last: it gives up originals for noise, so the best of both is where nothing is
        learnt yet.
        """
        second = [epoch for epoch in curve if epoch.stage == "mgr"]
        if not second:
            return curve[-1]
        return max(second, key=lambda epoch: (sum(epoch.scores.values()), epoch.epoch))

    def card(self, best: Epoch) -> dict[str, Any]:
        return {
            "defense": "ansm",
            "size": self.size,
            "victim": self.victim.name,
            "victim_size": self.victim.size,
            "victim_sha256": self.victim.weights.sha256,
            "label": self.victim.weights.label,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "pairs": dict(self.source),
            "recipe": self.recipe.model_dump(),
            "start_sha256": self.start.sha256 if self.start else None,
            "best_epoch": best.epoch,
            **{name: round(score, 2) for name, score in best.scores.items()},
        }
