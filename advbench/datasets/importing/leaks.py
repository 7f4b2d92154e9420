"""Pictures that stand in two datasets, and which of them leak from training into test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from advbench.datasets.importing.fingerprints import is_plain, near_pairs, read_fingerprints
from advbench.datasets.manifest import Row, read_manifest
from advbench.errors import AdvbenchError

TRAINING = ("train", "val")


@dataclass(frozen=True)
class Shared:
    """One picture here and one there.

    Attributes:
        how: ``file`` (the same bytes), ``pixels`` (the same once decoded), ``near`` (by dHash).
        leak: one of them is for training or validation and the other for test.
    """

    sample: str
    other: str
    how: str
    distance: int
    splits: tuple[str, str]
    leak: bool


@dataclass
class Overlap:
    """Count what a dataset shares with another one.

    Attributes:
        error: why the two could not be compared.
        built_on: how many forged images here were made from a photograph that leaks.
    """

    dataset: str
    folder: str
    pairs: list[Shared] = field(default_factory=list)
    built_on: int = 0
    error: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """Pairs by how they were found, and leaks."""
        found = dict.fromkeys(("file", "pixels", "near"), 0)
        for pair in self.pairs:
            found[pair.how] += 1
        return found | {"leaks": sum(pair.leak for pair in self.pairs)}

    def as_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self) | {"counts": self.counts}


def duplicates(rows: Sequence[Row]) -> list[list[str]]:
    """Sample ids of images that decode to the same pixels, in groups."""
    groups: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if not row.excluded:
            groups[row.pixels_sha256].append(row.sample_id)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def overlaps(
    rows: Sequence[Row],
    fingerprints: Mapping[str, int],
    sources: Mapping[str, Sequence[str]],
    others: Sequence[Path],
) -> list[Overlap]:
    """Compare included images with those of other imported datasets; nothing is decoded.

    Args:
        fingerprints: of these rows, by sample id.
        sources: the photographs that each sample was made from, by sample id.
        others: folders of manifests.
    """
    ours = [row for row in rows if not row.excluded]
    found = []
    for folder in others:
        try:
            theirs = [row for row in read_manifest(folder)[1] if not row.excluded]
            pairs = _shared(ours, theirs, fingerprints, read_fingerprints(folder))
        except AdvbenchError as error:
            found.append(Overlap(folder.name, folder.name, error=str(error)))
            continue
        if not pairs:
            continue
        name = pairs[0].other.partition("/")[0]
        built_on = _built_on(ours, pairs, sources)
        found.append(Overlap(name, folder.name, pairs, built_on))
    return found


def _shared(
    ours: list[Row], theirs: list[Row], here: Mapping[str, int], there: Mapping[str, int]
) -> list[Shared]:
    by_file: dict[str, list[Row]] = defaultdict(list)
    by_pixels: dict[str, list[Row]] = defaultdict(list)
    for row in theirs:
        by_file[row.image_sha256].append(row)
        by_pixels[row.pixels_sha256].append(row)
    pairs: dict[tuple[str, str], Shared] = {}

    def add(one: Row, other: Row, how: str, distance: int = 0) -> None:
        leak = (one.split in TRAINING) != (other.split in TRAINING)
        pair = Shared(one.sample_id, other.sample_id, how, distance, (one.split, other.split), leak)
        pairs.setdefault((one.sample_id, other.sample_id), pair)

    for row in ours:
        for other in by_file[row.image_sha256]:
            add(row, other, "file")
        for other in by_pixels[row.pixels_sha256]:
            add(row, other, "pixels")
    left = [row for row in ours if not is_plain(here.get(row.sample_id, 0))]
    right = [row for row in theirs if not is_plain(there.get(row.sample_id, 0))]
    for i, k, distance in near_pairs(
        [here[row.sample_id] for row in left], [there[row.sample_id] for row in right]
    ):
        add(left[i], right[k], "near", distance)
    return sorted(pairs.values(), key=lambda pair: (pair.sample, pair.other))


def _built_on(ours: list[Row], pairs: list[Shared], sources: Mapping[str, Sequence[str]]) -> int:
    authentic = {row.sample_id for row in ours if row.label == 0}
    leaking = {
        photograph
        for pair in pairs
        if pair.leak and pair.sample in authentic
        for photograph in sources.get(pair.sample, ())
    }
    return sum(
        row.label == 1 and bool(leaking.intersection(sources.get(row.sample_id, ())))
        for row in ours
    )
