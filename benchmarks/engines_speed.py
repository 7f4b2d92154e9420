"""One suite on the local engine, on processes and on Ray: seconds, and that the content is equal.

    python benchmarks/engines_speed.py [--victim ifosn] [--images 24] [--csv PATH]

Workers have one thread each (``OMP_NUM_THREADS=1`` in all of them). Starting processes and Ray is
part of the time, and given on its own as ``start_s``, the time of a run with nothing left to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from timing import put_out, table_options

from advbench.cli.progress import Progress

SUITE = """
schema = "advbench.suite/1"
title = "engines"
datasets = ["builtin"]
limit = {images}
shard_size = 4
[victims.{victim}]
[attacks.bim]
[attacks.pgd]
[defenses.median]
"""
WAYS = {
    "local": [],
    "2 processes": ["--workers", "2"],
    "Ray, 1 worker": ["--engine", "ray", "--workers", "1"],
    "Ray, 2 workers": ["--engine", "ray", "--workers", "2"],
}


@click.command()
@click.option("--victim", default="ifosn", show_default=True)
@click.option("--images", type=click.IntRange(min=1), default=24, show_default=True)
@table_options
def main(victim: str, images: int, csv_path: Path | None, as_json: bool) -> None:
    """Print the table."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as where, Progress() as progress:
        suite = Path(where) / "engines.toml"
        suite.write_text(SUITE.format(victim=victim, images=images))
        for number, (name, options) in enumerate(WAYS.items()):
            out = Path(where) / str(number)
            seconds, start = (run(suite, out, options) for _ in range(2))
            shown = advbench("verify", "--out", str(out), "--json")
            content = json.loads(shown)["content_sha256"]
            rows.append({"engine": name, "seconds": seconds, "start_s": start, "content": content})
            progress.update("measuring", number + 1, len(WAYS), "engines")
    assert len({row.pop("content") for row in rows}) == 1, "the engines differ"
    put_out(
        rows,
        csv_path,
        as_json,
        lambda row: (
            f"{row['engine']:<16} {row['seconds']:7.1f} s, of them start {row['start_s']:.1f} s"
        ),
    )


def run(suite: Path, out: Path, options: list[str]) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    advbench("run", str(suite), "--out", str(out), *options)
    return round(time.perf_counter() - started, 2)


def advbench(*arguments: str) -> str:
    """Run the command and return what it prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "advbench", *arguments]
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    main()
