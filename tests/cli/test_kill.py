"""A run that is killed anywhere resumes and ends with the content of one that was not."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as PillowImage

from advbench.datasets.importers.folder import import_folder
from advbench.scores.records import read_records

KILLS = 10


def command(out: Path, data: Path) -> list[str]:
    options = "--plugin toy_victim:ToyVictim --victim toy --weights random --attack all"
    sizes = "--shard-size 1 --steps 40,80 --set iterations=20 --set neighbours=4"
    arguments = [*options.split(), *sizes.split(), "--dataset", str(data), "--out", str(out)]
    return [sys.executable, "-m", "advbench", "generate", *arguments]


@pytest.mark.slow
def test_ten_kills_at_random_moments(imported, tmp_path, advbench_command):
    """SIGKILL between the first shard and the end of the run, ten times."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    data = imported / "datasets" / "mine"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"env": environment, "cwd": tmp_path, "stderr": subprocess.DEVNULL}
    subprocess.run(command(whole, data), check=True, **options)
    expected = json.loads(advbench_command("verify", "--out", whole, "--json").out)
    total = len(list(whole.rglob("*.h5")))

    moments = random.Random(0)
    for kill in range(KILLS):
        process = subprocess.Popen(command(killed, data), **options)
        wanted = (kill + 1) * total // (KILLS + 1)
        while len(list(killed.rglob("*.h5"))) < wanted and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    subprocess.run(command(killed, data), check=True, **options)

    found = json.loads(advbench_command("verify", "--out", killed, "--json").out)
    assert found["problems"] == expected["problems"] == []
    assert found["images"] == expected["images"]
    assert found["content_sha256"] == expected["content_sha256"]


SUITE = """
schema = "advbench.suite/1"
title = "forty images, every attack"
datasets = ["forty"]
shard_size = 1
[victims.toy]
weights = "random"
[attacks.fgsm]
[attacks.bim]
[attacks.pgd]
[attacks.mifgsm]
[attacks.pgn]
neighbours = 4
[attacks.cw]
[defenses.median]
[defenses.jpeg]
"""
SUITE_KILLS = 20


@pytest.fixture
def forty(tmp_path: Path) -> Path:
    """An output folder into which forty small forgeries were imported."""
    rng = np.random.default_rng(1)
    for name in ("images", "masks"):
        (tmp_path / "forged" / name).mkdir(parents=True)
    for number in range(40):
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
        mask = np.zeros((24, 32), np.uint8)
        mask[4:16, 8:20] = 255
        PillowImage.fromarray(pixels).save(tmp_path / "forged" / "images" / f"{number:02}.png")
        PillowImage.fromarray(mask).save(tmp_path / "forged" / "masks" / f"{number:02}.png")
    import_folder(tmp_path / "forged", tmp_path / "out" / "datasets" / "forty", "forty")
    return tmp_path / "out"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_suite_killed_twenty_times(forty, tmp_path, advbench_command):
    """Of more than two hundred units none is lost, and none is made again once it is there."""
    (tmp_path / "suite.toml").write_text(SUITE)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    options = {"env": environment, "cwd": tmp_path, "stderr": subprocess.DEVNULL}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for out in (whole, killed):
        shutil.copytree(forty, out)

    def run(out: Path) -> list[str]:
        plugin = ["--plugin", "toy_victim:ToyVictim", "--out", str(out), "--json"]
        return [sys.executable, "-m", "advbench", "run", "suite.toml", *plugin]

    def finished() -> dict[Path, tuple[int, int]]:
        kinds = ("*.h5", "*.parquet")
        found = [path for kind in kinds for path in killed.rglob(kind)]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}

    subprocess.run(run(whole), check=True, stdout=subprocess.DEVNULL, **options)
    report = json.loads((whole / "suites" / "suite.json").read_text())
    assert report["runs"][0]["planned"]["units"] >= 200
    total = len([path for kind in ("*.h5", "*.parquet") for path in whole.rglob(kind)])
    moments = random.Random(2)
    kept: dict[Path, tuple[int, int]] = {}
    for kill in range(SUITE_KILLS):
        process = subprocess.Popen(run(killed), stdout=subprocess.DEVNULL, **options)
        wanted = (kill + moments.random()) * total / (SUITE_KILLS + 1)
        while len(finished()) < wanted and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
        now = finished()
        assert kept.items() <= now.items(), "a unit that was there was made again, or is gone"
        kept = now
    subprocess.run(run(killed), check=True, stdout=subprocess.DEVNULL, **options)
    assert kept.items() <= finished().items()

    found, expected = (
        json.loads(advbench_command("verify", "--out", out, "--json").out)
        for out in (killed, whole)
    )
    assert found["problems"] == expected["problems"] == []
    assert found["content_sha256"] == expected["content_sha256"]
    order = ["variant", "defense", "strength", "sample_id"]
    records = [
        read_records(out / "records").sort_values(order, ignore_index=True)
        for out in (killed, whole)
    ]
    pd.testing.assert_frame_equal(*records)
