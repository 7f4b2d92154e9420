"""All adversarial images of an output folder as a map-style dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advbench.errors import AdvbenchError
from advbench.images import fit_mask
from advbench.shards.reader import Handles, Originals, ShardEntry
from advbench.shards.schema import ADVERSARIAL
from advbench.shards.store import ShardStore


class ShardDataset:
    """Every adversarial image below an output folder, as a map-style dataset.

    An item is a dict: ``image`` and ``original`` (uint8 H×W×3), ``mask`` (bool H×W),
    ``sample_id``, ``dataset``, ``victim``, ``variant``; torch's default collate stacks items of one
    size. Files are opened where they are read, so it works in the workers of a ``DataLoader``.

    Args:
        native_masks: give masks at the ground truth's own size, not at the image's.
    """

    def __init__(self, folder: str | Path, *, native_masks: bool = False) -> None:
        self._native_masks = native_masks
        store = ShardStore(Path(folder) / "shards")
        entries = store.entries()
        if not entries:
            raise AdvbenchError(f"{store.root}: no shards there; make some with advbench generate")
        store.compare()
        groups: dict[tuple[str, str], list[ShardEntry]] = {}
        for entry in entries:
            groups.setdefault((entry.settings.dataset, entry.settings.space), []).append(entry)
        self._originals = {key: Originals(group) for key, group in groups.items()}
        self._items = [
            (entry, number)
            for entry in entries
            if entry.settings.kind == ADVERSARIAL
            for number in range(len(entry.sample_ids))
        ]
        self._open = Handles()

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        entry, number = self._items[index]
        settings = entry.settings
        originals = self._originals[settings.dataset, settings.space]
        original, mask = originals.get(entry.sample_ids[number])
        assert settings.victim is not None
        return {
            "image": self._open(entry.path).adversarial(number, original),
            "original": original,
            "mask": mask if self._native_masks else fit_mask(mask, original),
            "sample_id": entry.sample_ids[number],
            "dataset": settings.dataset,
            "victim": settings.victim["name"],
            "variant": settings.variant,
        }
