"""From what a layout found to a dataset: every file decoded and checked, then all written."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import advbench
from advbench.datasets.builtin.editions import RESERVED
from advbench.datasets.dataset import LOCATION_FILE
from advbench.datasets.importing.check import MASKS_FOLDER, Examined, examine, name_of, slug
from advbench.datasets.importing.fingerprints import write_fingerprints
from advbench.datasets.importing.layouts.layout import Found
from advbench.datasets.importing.leaks import overlaps
from advbench.datasets.importing.problems import Fault, ImportRefusedError, Problem
from advbench.datasets.importing.report import FILE as REPORT_FILE
from advbench.datasets.importing.report import build_report
from advbench.datasets.manifest import DatasetInfo, Row, Split, write_manifest
from advbench.datasets.splitting import connected, deal
from advbench.errors import AdvbenchError
from advbench.files import write_atomically
from advbench.locks import folder_lock
from advbench.progress import CountProgress

_MAX_THREADS = 8
# So many at once: handing small images over one by one costs more than a tenth.
_BATCH = 16


@dataclass(frozen=True)
class Imported:
    """Hold what was written, and which images were left out and why."""

    info: DatasetInfo
    excluded: dict[str, str]
    report: dict[str, Any]


def check_name(name: str) -> None:
    """Refuse a name that is no dataset's id.

    Raises:
        AdvbenchError: other characters, too long, or the built-in dataset's.
    """
    if not re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,31}", name):
        raise AdvbenchError(f"--name {name!r}: use a-z, 0-9, - and _, at most 32 of them")
    if re.search(r"-(train|val|test)$", name):
        raise AdvbenchError(
            f"--name {name}: ends like the training images of another dataset; take another end"
        )
    if name in RESERVED:
        raise AdvbenchError(f"--name {name} is one of advbench's own datasets; take another name")


def import_found(
    found: Found,
    folder: Path,
    name: str,
    split: Split | None = None,
    *,
    allow_exclude: bool = False,
    listed: int | None = None,
    others: Sequence[Path] = (),
    redistribution: str | None = None,
    progress: CountProgress = lambda done, total: None,
) -> Imported:
    """Write manifest, made masks and report into ``folder``; the originals are only read.

    Args:
        split: of all images; by default the layout's own.
        allow_exclude: keep images at fault in the manifest as excluded rows, instead of stopping.
        listed: how many images a list asked for, where ``found`` was restricted to one.
        others: folders of other imported datasets, to compare with.
        redistribution: ``yes``, ``no`` or ``research-only``, by the user's word; else the layout's.

    Raises:
        ImportRefusedError: files at fault; nothing was written.
        AdvbenchError: a name that is taken or not allowed, twins, or no image that is left.
    """
    check_name(name)
    _check_names(found)
    examined: list[Examined] = []
    total = len(found.candidates)
    progress(0, total)
    for one in _examined(found, name, split):
        examined.append(one)
        progress(len(examined), total)
    faults = [
        Fault(one.row.image, one.problem) for one in examined if one.problem and not one.known
    ]
    faults += _orphans(found, listed)
    rows = _grouped(examined)
    if split is None and found.layout.parts:
        rows = _dealt(rows, *found.layout.parts)
    stop = bool(faults) and not allow_exclude
    shared = []
    if not stop:
        fingerprints = {one.row.sample_id: one.fingerprint for one in examined if not one.problem}
        sources = {one.row.sample_id: one.candidate.sources for one in examined}
        shared = overlaps(rows, fingerprints, sources, others)
    report = build_report(name, found, examined, rows, faults=faults, shared=shared, listed=listed)
    if stop:
        raise ImportRefusedError(found.root, faults, total, report)
    excluded = {one.row.image: one.problem.reason for one in examined if one.problem}
    if len(excluded) == total:
        raise AdvbenchError(f"{found.root}: no image is left; nothing was imported")
    kept = [row for row in rows if row.image_sha256]
    text = json.dumps(report, indent=2, ensure_ascii=False)
    _check_place(found.root, folder, examined)
    with folder_lock(folder):
        _write_masks(folder, examined)
        write_atomically(folder / LOCATION_FILE, json.dumps({"root": str(found.root)}).encode())
        write_fingerprints(folder, fingerprints)
        write_atomically(folder / REPORT_FILE, f"{text}\n".encode("utf-8", "backslashreplace"))
        # Last, since it ends with dataset.json, by which a dataset is seen.
        info = _write_manifest(found, folder, name, kept, redistribution=redistribution)
    return Imported(info, excluded, report)


def _examined(found: Found, name: str, split: Split | None) -> Iterator[Examined]:
    """Candidates in order, decoded by a few threads that are never far ahead."""
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    waiting: deque[Future[list[Examined]]] = deque()

    def batch(start: int) -> list[Examined]:
        candidates = found.candidates[start : start + _BATCH]
        return [
            examine(found.root, candidate, name, split or candidate.split or "test")
            for candidate in candidates
        ]

    with ThreadPoolExecutor(threads) as pool:
        try:
            for start in range(0, len(found.candidates), _BATCH):
                waiting.append(pool.submit(batch, start))
                if len(waiting) > 2 * threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check_names(found: Found) -> None:
    seen: dict[str, str] = {}
    for candidate in found.candidates:
        relative = candidate.image.relative_to(found.root).as_posix()
        for file in (candidate.image, *candidate.masks):
            _check_path(file.relative_to(found.root).as_posix())
        twin = seen.setdefault(name_of(candidate).casefold(), relative)
        if twin != relative:
            raise AdvbenchError(
                f"{relative} and {twin}: names that differ only in case, folder, suffix or "
                "special characters; rename one of them, or give a folder that holds one alone"
            )


def _check_path(relative: str) -> None:
    """Refuse names that a manifest cannot hold on every system."""
    plain = relative.encode("utf-8", "replace").decode() == relative
    if not plain or "\\" in relative or ":" in relative.partition("/")[0]:
        raise AdvbenchError(
            f"{relative!r}: a name with a backslash, a leading drive or bytes that are no UTF-8 "
            "cannot stand in a manifest; rename the file"
        )


def _orphans(found: Found, listed: int | None) -> list[Fault]:
    """Masks without an image: of a published dataset, images that were not downloaded."""
    if not found.layout.published or listed is not None:
        return []
    problem = Problem("orphan-mask", "no image for this mask", "download the image")
    return [Fault(mask.relative_to(found.root).as_posix(), problem) for mask in found.orphans]


def _grouped(examined: Sequence[Examined]) -> list[Row]:
    """Rows with their source groups: joined by a photograph in common, or by equal pixels."""
    sources = [
        [slug(source) for source in one.candidate.sources or (name_of(one.candidate),)]
        # Behind every name in order, so that a group is called by a photograph.
        + ([f"~{one.row.pixels_sha256}"] if one.row.pixels_sha256 else [])
        for one in examined
    ]
    groups = connected(sources)
    return [
        one.row if one.problem else one.row.model_copy(update={"source_group": groups[own[0]]})
        for one, own in zip(examined, sources, strict=True)
    ]


def _dealt(rows: Sequence[Row], train: float, val: float) -> list[Row]:
    chosen = deal([row for row in rows if not row.excluded], train, val, seed=0)
    return [
        row.model_copy(update={"split": chosen.get(row.source_group, row.split)}) for row in rows
    ]


def _check_place(root: Path, folder: Path, examined: Sequence[Examined]) -> None:
    if folder.resolve() == root and any(one.mask_png for one in examined):
        raise AdvbenchError(
            f"{folder}: holds the originals, and masks would be written among them; give another "
            "--out"
        )


def _write_masks(folder: Path, examined: Sequence[Examined]) -> None:
    for one in examined:
        if one.mask_png:
            write_atomically(folder / MASKS_FOLDER / f"{name_of(one.candidate)}.png", one.mask_png)


def _write_manifest(
    found: Found, folder: Path, name: str, rows: Sequence[Row], *, redistribution: str | None
) -> DatasetInfo:
    layout = found.layout
    licence = dict(layout.licence)
    if redistribution:
        licence["redistribution"] = redistribution
    rules = sorted({candidate.mask_rule for candidate in found.candidates if candidate.label})
    return write_manifest(
        folder,
        rows,
        dataset_id=name,
        title=layout.title if layout.published else name,
        version="1",
        licence=licence,
        citation=layout.citation,
        homepage=layout.homepage,
        importer={"name": f"advbench.{layout.name}", "version": advbench.__version__},
        rules={
            "mask_rule": ";".join(rules),
            "alpha_rule": "over white",
            "mismatch_rule": "refuse",
        },
        known_issues=list(layout.known_issues),
    )
