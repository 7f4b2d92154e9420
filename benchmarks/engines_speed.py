"""One ``generate`` on one thread, on two, on two processes and on Ray, and whether they agree.

    python benchmarks/engines_speed.py [--victim ifosn] [--images 40] [--attack pgd] [--csv PATH]

``times`` is the seconds of one thread over those of the row. Starting threads, processes and Ray is
part of the seconds, and given on its own as ``start_s``, the time of a run with nothing left to do.
Workers have one thread each (``OMP_NUM_THREADS``). The last row is what the machine itself gives:
gradients of the victim in one process and in two, with nothing around them, in turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from timing import put_out, ratio, table_options, turns

from advbench import load_victim
from advbench.attacks.gradient import InputGradient
from advbench.cli.progress import Progress
from advbench.inference.runner import BatchRunner

PASSES, TURNS = 100, 3  # of the row of bare gradients
SHARD = 4  # images; a shard is the smallest piece of work that a worker can take
# Threads in a process, and the options of the engine.
WAYS = {
    "1 thread": (1, []),
    "2 threads": (2, []),
    "2 processes": (1, ["--workers", "2"]),
    "Ray, 1 worker": (1, ["--engine", "ray", "--workers", "1"]),
    "Ray, 2 workers": (1, ["--engine", "ray", "--workers", "2"]),
}


@click.command()
@click.option("--victim", default="ifosn", show_default=True)
@click.option("--images", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--attack", default="pgd", show_default=True)
@table_options
def main(victim: str, images: int, attack: str, csv_path: Path | None, *, as_json: bool) -> None:
    """Print the table."""
    wanted = ("--victim", victim, "--attack", attack, "--limit", str(images))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as where, Progress() as progress:
        for name, (threads, options) in WAYS.items():
            out = ("--out", str(Path(where) / str(len(rows))))
            command = ("generate", *wanted, *out, "--shard-size", str(SHARD), *options)
            seconds, start = (timed(threads, *command) for _ in range(2))
            shown = advbench(threads, "verify", *out, "--json")
            rows.append(
                {
                    "engine": name,
                    "seconds": seconds,
                    "times": round(rows[0]["seconds"] / seconds, 2) if rows else 1.0,
                    "start_s": start,
                    "content": json.loads(shown)["content_sha256"],
                }
            )
            progress.update("measuring", len(rows), len(WAYS), "engines")
    assert len({row.pop("content") for row in rows}) == 1, "the engines differ"
    rows.append({"engine": "bare gradients, 2 processes", **bare(victim)})
    put_out(
        rows,
        csv_path,
        as_json,
        lambda row: (
            f"{row['engine']:<28} {row['seconds']:7.1f} s, {row['times']:.2f} times as fast as one "
            f"thread; start {row['start_s']} s"
        ),
    )


def bare(victim: str) -> dict[str, Any]:
    """Time gradients in two processes against as many in one."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:

        def passes(processes: int) -> None:
            list(pool.map(_gradients, [victim] * processes, [PASSES // processes] * processes))

        passes(2)  # loads the victim
        taken = turns({"one": partial(passes, 1), "two": partial(passes, 2)}, TURNS)
    return {
        "seconds": round(median(taken["two"]), 2),
        "times": round(ratio(taken, "one", "two")["ratio"], 2),
        "start_s": "",
    }


def _gradients(name: str, count: int) -> None:
    torch.set_num_threads(1)
    victim = _victim(name)
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    gradient = InputGradient(victim, torch.zeros(1, 1, 256, 256), BatchRunner(victim.device))
    for _ in range(count):
        gradient(x)


_victim = cache(load_victim)


def timed(threads: int, *arguments: str) -> float:
    """Seconds of one command."""
    started = time.perf_counter()
    advbench(threads, *arguments)
    return round(time.perf_counter() - started, 2)


def advbench(threads: int, *arguments: str) -> str:
    """Run the command and return what it prints."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "advbench", *arguments]
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    main()
