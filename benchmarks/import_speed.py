"""Measure what importing a dataset costs: seconds, CPU seconds and memory for N pairs of files.

    python benchmarks/import_speed.py [--pairs 5000] [--side 384] [--others 1]

Makes pairs of the size of CASIA's (a JPEG of side × 2/3 side and a PNG mask; each pair differs) in
a temporary folder, and imports them as layout ``folder`` in a process of its own: what is measured
there is decoding, checks, sums, and comparison with ``--others`` datasets of the same size.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

MIB = 1 << 20


@click.command()
@click.option("--pairs", type=click.IntRange(min=1), default=5000, show_default=True)
@click.option("--side", type=click.IntRange(min=48), default=384, show_default=True)
@click.option("--others", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--alone", type=click.Path(path_type=Path), hidden=True)
def main(pairs: int, side: int, others: int, as_json: bool, *, alone: Path | None) -> None:
    """Print what the import took."""
    if alone:
        print(json.dumps(measure(alone)))
        return
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        megabytes = make(folder / "files", pairs, side) / MIB
        row = measured_apart(folder)
        for number in range(others):
            beside = folder / "datasets" / f"other{number}"
            shutil.copytree(folder / "datasets" / "mine", beside)
        if others:
            row |= {f"{key}_with_others": value for key, value in measured_apart(folder).items()}
    row |= {"pairs": pairs, "files": 2 * pairs, "side": side, "megabytes": round(megabytes)}
    if as_json:
        print(json.dumps(row, indent=2))
        return
    print(f"{2 * pairs} files ({pairs} pairs of {side}×{side * 2 // 3}, {megabytes:.0f} MiB)")
    show("import", row, "")
    if others:
        show(f"import beside {others} of the same size", row, "_with_others")


def show(what: str, row: dict[str, Any], suffix: str) -> None:
    """One line of the table."""
    seconds, cpu = row[f"seconds{suffix}"], row[f"cpu_seconds{suffix}"]
    print(
        f"{what}: {seconds:.1f} s, {cpu:.1f} s of CPU, {row['files'] / seconds:.0f} files/s, "
        f"peak {row[f'peak_mib{suffix}']:.0f} MiB ({row[f'loaded_mib{suffix}']:.0f} before)"
    )


def make(folder: Path, pairs: int, side: int) -> int:
    """Write the pairs; returns their bytes."""
    rng = np.random.default_rng(0)
    height = side * 2 // 3
    for name in ("Tp", "Gt"):
        (folder / name).mkdir(parents=True)
    for number in range(pairs):
        small = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        image = cv2.resize(small, (side, height), interpolation=cv2.INTER_CUBIC)
        image = cv2.add(image, rng.integers(0, 8, image.shape, dtype=np.uint8))
        mask = np.zeros((height, side), np.uint8)
        centre = tuple(int(v) for v in rng.integers(height // 4, height * 3 // 4, 2))
        cv2.ellipse(mask, centre, (height // 6, height // 9), number % 180, 0, 360, 255, -1)
        cv2.imwrite(str(folder / f"Tp/{number:05d}.jpg"), image)
        cv2.imwrite(str(folder / f"Gt/{number:05d}.png"), mask)
    return sum(file.stat().st_size for file in folder.rglob("*.*"))


def measured_apart(folder: Path) -> dict[str, Any]:
    """:func:`measure` in a fresh process, as a command would run."""
    command = [sys.executable, __file__, "--alone", str(folder)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def measure(folder: Path) -> dict[str, Any]:
    """Import ``files`` into ``datasets/mine``, beside what lies there."""
    from advbench.datasets.importing.importing import import_found
    from advbench.datasets.importing.layouts.known import find

    datasets = folder / "datasets"
    beside = [path for path in datasets.glob("*") if path.name != "mine"]
    loaded = peak()
    began, cpu = time.perf_counter(), sum(os.times()[:2])
    found = find("folder", folder / "files")
    done = import_found(found, datasets / "mine", "mine", others=beside)
    return {
        "imported": done.info.counts["forged"],
        "shared": sum(len(overlap["pairs"]) for overlap in done.report["overlaps"]),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": sum(os.times()[:2]) - cpu,
        "loaded_mib": loaded,
        "peak_mib": peak(),
    }


def peak() -> float:
    """Largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
