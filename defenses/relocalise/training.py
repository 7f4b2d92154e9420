"""Train the writer: textures that make a frozen victim say a given map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from advbench.config import Config
from advbench.defenses.ansm.losses import mask_loss
from advbench.defenses.ansm.noise import add_noise
from advbench.defenses.relocalise.localizer import described, localised
from advbench.defenses.relocalise.network import Writer
from advbench.engines.processes import Processes
from advbench.images import Image, Mask, to_tensor, to_unit
from advbench.training.data import Change, Examples
from advbench.training.optimization import Cosine, Optimization
from advbench.training.task import Epoch, Task, key_of
from advbench.training.validation import mean_over_all, own_part, pixel_f1
from advbench.victims.base import Victim

Positive = Annotated[int, Field(ge=1)]
# The part of the run in which the learning rate grows.
WARMUP = 0.05


class RelocaliseRecipe(Config):
    """Settings of one run; the same recipe, images, victim and localizer give the same weights.

    Attributes:
        tile: side of the textures, in pixels.
        eps: φ of the FGSM noise that half of the crops get as well, in grey levels; 0 for none.
        forged_share, crops_per_image, ema, precision: as in the recipe of victims.
    """

    seed: int = 0
    tile: Positive = 32
    epochs: Positive = 3
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    eps: Annotated[int, Field(ge=0, le=255)] = 3
    crop: Annotated[int, Field(ge=32)] = 128
    batch: Positive = 8
    forged_share: Annotated[float, Field(ge=0, le=1)] = 0.7
    crops_per_image: Positive = 1
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.98
    precision: Literal["auto", "fp32", "fp16"] = "auto"


def marked_by(localizer: Victim) -> Change:
    """Make the function that gives an image the localizer's binary map for a mask."""

    def mark(image: Image, mask: Mask) -> tuple[Image, Mask]:
        with torch.inference_mode():
            found = localised(localizer, to_unit(to_tensor(image).to(localizer.device)))
        return image, np.asarray((found[0, 0] > localizer.threshold).cpu().numpy())

    return mark


class RelocaliseTask(Task):
    """A writer before a frozen victim; the masks of its examples are the localizer's maps.

    Args:
        source: what the images are, for the card; with ``content_sha256``.
    """

    recipe: RelocaliseRecipe
    network: Writer
    stream: ClassVar[str] = "relocalise"

    def __init__(
        self,
        victim: Victim,
        localizer: Victim,
        recipe: RelocaliseRecipe,
        source: Mapping[str, Any],
    ) -> None:
        self.victim, self.localizer, self.recipe, self.source = victim, localizer, recipe, source
        self.file = f"{victim.name}-{victim.size}"
        self.key = key_of(
            *(victim.name, victim.size, victim.weights.sha256, localizer.weights.sha256),
            *(source["content_sha256"], recipe.model_dump_json()),
        )
        torch.manual_seed(recipe.seed)
        self.network = Writer(recipe.tile).to(victim.device)

    @property
    def epochs(self) -> int:
        return self.recipe.epochs

    def optimization(self, number: int) -> Optimization | None:
        if number:
            return None
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.recipe.learning_rate)
        return Optimization(optimizer, Cosine(optimizer, self.recipe.learning_rate, WARMUP))

    def start_epoch(self, number: int) -> str:
        return ""

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        if self.recipe.eps:
            some, their = images[::2], masks[::2]
            noisy = add_noise("fgsm", self.victim, some, their, levels=self.recipe.eps)
            images = images.clone()
            images[::2] = noisy
        return mask_loss(self.victim.logits(self.network(images, masks)), masks)

    def validate(
        self, network: nn.Module, validation: Examples, processes: Processes
    ) -> dict[str, float]:
        """Mean F1 of the victim's map behind the writer against the map that was drawn."""
        device = self.victim.device
        found = []
        for image, mask in own_part(validation, processes, device):
            marks = torch.from_numpy(mask.copy())[None, None].to(image)
            found.append(pixel_f1(self.victim, network(image, marks), mask))
        return {"val_agreement": mean_over_all(found, validation, processes, device)}

    def best(self, curve: Sequence[Epoch]) -> Epoch | None:
        """The one of the best agreement, the last of equals."""
        return max(curve, key=lambda epoch: (epoch.scores["val_agreement"], epoch.epoch))

    def card(self, best: Epoch) -> dict[str, Any]:
        return {
            "defense": "relocalise",
            "victim": self.victim.name,
            "victim_size": self.victim.size,
            "victim_sha256": self.victim.weights.sha256,
            "label": self.victim.weights.label,
            "localizer": described(self.localizer),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "images": dict(self.source),
            "recipe": self.recipe.model_dump(),
            "best_epoch": best.epoch,
            "val_agreement": round(best.scores["val_agreement"], 4),
        }
