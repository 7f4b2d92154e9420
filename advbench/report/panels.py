"""One image under attack: what is stored of it, the noise, and the victim's maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError
from advbench.images import Image, to_tensor, to_unit
from advbench.pipelines.cells import Cell
from advbench.pipelines.scoring import predict
from advbench.registry import DEFENSES
from advbench.shards.reader import Originals, Shard, ShardEntry
from advbench.shards.schema import ADVERSARIAL, ORIGINALS
from advbench.victims.base import Victim

Map = npt.NDArray[np.float32]


class Stored:
    """The images below an output folder that one victim's shards of one dataset hold.

    Args:
        entries: all shards.
        identity: the victim, as in shards' settings or, without its source, in records.
    """

    def __init__(
        self, entries: Sequence[ShardEntry], dataset: str, identity: dict[str, str]
    ) -> None:
        attacked = [
            entry
            for entry in entries
            if entry.settings.kind == ADVERSARIAL
            and entry.settings.dataset == dataset
            and identity.items() <= (entry.settings.victim or {}).items()
        ]
        spaces = {entry.settings.space for entry in attacked}
        self.originals = Originals(
            [
                entry
                for entry in entries
                if entry.settings.kind == ORIGINALS
                and entry.settings.dataset == dataset
                and entry.settings.space in spaces
            ]
        )
        self._where = {
            (entry.settings.variant or "", sample_id): (entry, number)
            for entry in attacked
            for number, sample_id in enumerate(entry.sample_ids)
        }

    @property
    def sample_ids(self) -> list[str]:
        """The attacked images, by name."""
        return sorted({sample_id for _, sample_id in self._where})

    def variants_of(self, sample_id: str) -> dict[str, ShardEntry]:
        """The variants of an image, each with the shard that holds it."""
        return {v: entry for (v, s), (entry, _) in sorted(self._where.items()) if s == sample_id}

    def adversarial(self, variant: str, sample_id: str) -> Image:
        """A decoded adversarial image, uint8 H×W×3.

        Raises:
            AdvbenchError: there is none, or its shard is damaged.
        """
        if (variant, sample_id) not in self._where:
            raise AdvbenchError(f"{sample_id}: no {variant} of it below the output folder")
        entry, number = self._where[variant, sample_id]
        with Shard(entry.path) as shard:
            return shard.adversarial(number, self.originals.get(sample_id)[0])


def recorded_cell(specification: str, identity: dict[str, str], given: Sequence[Defense]) -> Cell:
    """The defense and strength that a record's ``defense_spec`` names, before a victim.

    Args:
        given: defenses with settings of their own, such as networks, to look among first.

    Raises:
        AdvbenchError: no defense here is the one that was recorded.
    """
    wanted: dict[str, Any] = json.loads(specification)
    name = wanted["defense"]
    kind = DEFENSES.get(name)
    field = kind.strength_field
    strength = wanted.get(field) if field else None
    own = kind.create(**({field: strength} if field else {}))
    for defense in [*(d for d in given if d.name == name), own]:
        fitted = defense.for_victim(identity)
        if Cell(fitted, strength).specification == wanted:
            return Cell(fitted, strength)
    raise AdvbenchError(f"defense {name}: the one that was recorded is not here")


def map_of(victim: Victim, cell: Cell, image: Image, sample_id: str, *, seed: int = 0) -> Map:
    """The victim's probability map H×W of a uint8 image behind a defense."""
    x = to_unit(to_tensor(image).to(victim.device))
    return predict(victim, cell, x, sample_id, seed=seed)
