"""Divide a dataset for training, validation and test; no source photograph is on two sides."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from advbench.datasets.manifest import Row, Split, read_manifest, write_manifest
from advbench.errors import AdvbenchError
from advbench.rng import numpy_stream


def split_folder(
    folder: Path, train: float, val: float, sources: str | None = None, *, seed: int = 0
) -> dict[Split, int]:
    """Write new splits, and the groups that they follow, into the manifest in ``folder``.

    Args:
        train, val: parts of the images; what is left is for test.
        sources: regular expression whose matches in a file's name are the photographs that it was
            made from; without it, the manifest's own source groups count.
        seed: of the order in which groups are dealt out.

    Returns:
        how many images each split got, excluded ones left out.

    Raises:
        AdvbenchError: parts that do not fit, an expression that is none or that matches nothing.
    """
    if not (train > 0 and val >= 0 and train + val < 1):
        raise AdvbenchError(
            f"--train {train:g} --val {val:g}: take parts above 0 whose sum is below 1"
        )
    info, rows = read_manifest(folder)
    grouped = rows if sources is None else _with_sources(rows, sources)
    chosen = deal([row for row in grouped if not row.excluded], train, val, seed)
    divided = [
        row.model_copy(update={"split": chosen.get(row.source_group, row.split)}) for row in grouped
    ]
    kept = info.model_dump(exclude={"schema_id", "counts", "content_sha256", "manifest_sha256"})
    write_manifest(folder, divided, **kept)
    counts: dict[Split, int] = {"train": 0, "val": 0, "test": 0}
    for row in divided:
        counts[row.split] += not row.excluded
    return counts


def deal(rows: Sequence[Row], train: float, val: float, seed: int) -> dict[str, Split]:
    """The split of each source group: in a random order of groups, each goes where most is missing
    for its part; a large group can make a part larger than asked for."""
    sizes: dict[str, int] = defaultdict(int)
    for row in rows:
        sizes[row.source_group] += 1
    names = sorted(sizes)
    order = numpy_stream(seed, "split").permutation(len(names))
    wanted: dict[Split, float] = {"train": train, "val": val, "test": 1 - train - val}
    missing = {split: part * len(rows) for split, part in wanted.items()}
    chosen: dict[str, Split] = {}
    # Large groups first: they fit only while much is missing.
    for name in sorted((names[i] for i in order), key=lambda name: -sizes[name]):
        split = max(missing, key=lambda split: missing[split])
        chosen[name] = split
        missing[split] -= sizes[name]
    return chosen


def _with_sources(rows: Sequence[Row], sources: str) -> list[Row]:
    """Rows whose group is a connected set of photographs: who shares one is in one group."""
    try:
        pattern = re.compile(sources)
    except re.error as error:
        raise AdvbenchError(f"--sources {sources!r}: no regular expression ({error})") from error
    found = [[m.group() for m in pattern.finditer(Path(row.image).stem)] for row in rows]
    nameless = [row.image for row, photographs in zip(rows, found, strict=True) if not photographs]
    if nameless:
        raise AdvbenchError(
            f"--sources {sources!r}: matches nothing in {len(nameless)} names "
            f"(first: {nameless[0]})"
        )
    joined = connected(found)
    return [
        row.model_copy(update={"source_group": joined[photographs[0]]})
        for row, photographs in zip(rows, found, strict=True)
    ]


def connected(sets: Iterable[Sequence[str]]) -> dict[str, str]:
    """For each member of any set, the first name of all that sets join it to, by union-find."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for names in sets:
        for name in names[1:]:
            first, second = sorted((root(names[0]), root(name)))
            parent[second] = first
        root(names[0])
    return {name: root(name) for name in parent}
