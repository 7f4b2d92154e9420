"""The records of an output folder: a file a cell, each image once, checked before they are reused.

A cell is a dataset, a victim, a variant and a defense at a strength. Files are written under a lock
that holds across processes and machines (:mod:`advbench.locks`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from advbench.errors import AdvbenchError
from advbench.locks import folder_lock
from advbench.scores.records import Record, path_of, read_cell, to_records, write_records

# From the images of a cell, sorted, to the hash of all that decides their records.
KeyOf = Callable[[tuple[str, ...]], str]


@dataclass(frozen=True)
class RecordStore:
    """The folder ``records`` of an output folder, which need not be there yet."""

    root: Path

    def path(self, dataset: str, victim: str, variant: str, defense: str) -> Path:
        """Name the file of a cell's records."""
        return path_of(self.root, dataset, victim, variant, defense=defense)

    def serving(
        self,
        path: Path,
        names: Sequence[str],
        *keys_of: KeyOf,
        there: Collection[str] | None = None,
    ) -> tuple[pd.DataFrame, KeyOf] | None:
        """The records of these images, where all are there and computed from the same things; with
        the first of ``keys_of`` that is theirs.

        Args:
            there: the images that shards hold, to compare the file with.

        Raises:
            AdvbenchError: the file is damaged or cannot be read now, or it scores an image that no
                shard holds.
        """
        if not path.exists():
            return None
        records, key = read_cell(path)
        if there is not None:
            _check_images(path, records, there)
        chosen = records[records.sample_id.isin(names)]
        every = tuple(sorted(records.sample_id))
        own = next((key_of for key_of in keys_of if key_of(every) == key), None)
        return (chosen, own) if own and len(chosen) == len(names) else None

    def add(self, path: Path, records: Sequence[Record], key_of: KeyOf) -> None:
        """Write the records of a cell; those of other images stay if they are still valid.

        Raises:
            AdvbenchError: as :meth:`serving`, or the file system has no locks.
            OSError: the disk is full or the folder read-only; what was there stays.
        """
        own = {record.sample_id for record in records}
        with folder_lock(self.root):
            found = self._valid(path, key_of)
            kept = [] if found is None else to_records(found[~found.sample_id.isin(own)])
            names = tuple(sorted(own.union(record.sample_id for record in kept)))
            write_records(path, [*records, *kept], key_of(names))

    def _valid(self, path: Path, key_of: KeyOf) -> pd.DataFrame | None:
        if not path.exists():
            return None
        records, key = read_cell(path)
        return records if key == key_of(tuple(sorted(records.sample_id))) else None


def _check_images(path: Path, records: pd.DataFrame, there: Collection[str]) -> None:
    lost = sorted(set(records.sample_id) - set(there))
    if lost:
        raise AdvbenchError(
            f"{path}: scores {len(lost)} images that no shard holds ({lost[0]}); make them "
            "again with the generate command that made them, or remove the file"
        )
