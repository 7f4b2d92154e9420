"""A run that is killed anywhere resumes and ends with the content of one that was not."""

from __future__ import annotations

import contextlib
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

from advbench.datasets.importing.layouts.folder import import_folder
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


class SuiteRuns:
    """The same suite in an output folder that is left alone, and in one whose runs are killed."""

    def __init__(self, forty: Path, tmp_path: Path, *engine: str) -> None:
        (tmp_path / "suite.toml").write_text(SUITE)
        self.whole, self.killed, self.engine = tmp_path / "whole", tmp_path / "killed", engine
        self.options = {
            "env": os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
            "cwd": tmp_path,
            "stderr": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
        }
        for out in (self.whole, self.killed):
            shutil.copytree(forty, out)
        subprocess.run(self._command(self.whole), check=True, **self.options)
        report = json.loads((self.whole / "suites" / "suite.json").read_text())
        assert report["runs"][0]["planned"]["units"] >= 200
        self.files = len(self._finished(self.whole))
        self.kept: dict[Path, tuple[int, int]] = {}

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self._command(self.killed), *self.engine], **self.options)

    def wait_for(self, share: float, process: subprocess.Popen[bytes]) -> None:
        """Until this share of all files is there."""
        while len(self._finished(self.killed)) < share * self.files and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None, "the run ended before it was killed"

    def check_kept(self) -> None:
        now = self._finished(self.killed)
        assert self.kept.items() <= now.items(), "a unit that was there was made again, or is gone"
        self.kept = now

    def check_content(self, advbench_command) -> None:
        """What the killed runs left is what the whole one made."""
        self.check_kept()
        found, expected = (
            json.loads(advbench_command("verify", "--out", out, "--json").out)
            for out in (self.killed, self.whole)
        )
        assert found["problems"] == expected["problems"] == []
        assert found["content_sha256"] == expected["content_sha256"]
        order = ["variant", "defense", "strength", "sample_id"]
        records = [
            read_records(out / "records").sort_values(order, ignore_index=True)
            for out in (self.killed, self.whole)
        ]
        pd.testing.assert_frame_equal(*records)

    def _command(self, out: Path) -> list[str]:
        plugin = ["--plugin", "toy_victim:ToyVictim", "--out", str(out), "--json"]
        return [sys.executable, "-m", "advbench", "run", "suite.toml", *plugin]

    def _finished(self, out: Path) -> dict[Path, tuple[int, int]]:
        kinds = ("*.h5", "*.parquet")
        found = [path for kind in kinds for path in out.rglob(kind)]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_suite_killed_twenty_times(forty, tmp_path, advbench_command):
    """Of more than two hundred units none is lost, and none is made again once it is there."""
    runs, moments = SuiteRuns(forty, tmp_path), random.Random(2)
    for kill in range(SUITE_KILLS):
        process = runs.start()
        runs.wait_for((kill + moments.random()) / (SUITE_KILLS + 1), process)
        time.sleep(moments.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        runs.check_kept()
    assert runs.start().wait() == 0
    runs.check_content(advbench_command)


def ray_workers(driver: int) -> list[int]:
    """The processes under a driver that do units."""
    parents, named = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
            if b"ray::_do" in (folder / "cmdline").read_bytes():
                named.append(int(folder.name))

    def below(process: int) -> bool:
        return process == driver or (process in parents and below(parents[process]))

    return [process for process in named if below(process)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_suite_on_ray_whose_workers_and_driver_are_killed(forty, tmp_path, advbench_command):
    """Ten workers and five drivers, in any order, at random moments."""
    pytest.importorskip("ray")
    runs = SuiteRuns(forty, tmp_path, "--engine", "ray", "--workers", "2")
    moments = random.Random(3)
    victims = ["worker"] * 10 + ["driver"] * 5
    moments.shuffle(victims)
    process = runs.start()
    for number, victim in enumerate(victims):
        runs.wait_for((number + moments.random()) / (len(victims) + 1), process)
        if victim == "driver":
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = runs.start()
            continue
        while not (workers := ray_workers(process.pid)):
            assert process.poll() is None, "the run ended before its worker was killed"
            time.sleep(0.05)
        os.kill(moments.choice(workers), signal.SIGKILL)
    assert process.wait() == 0
    runs.check_content(advbench_command)
