"""A folder with photographs in which the command line is run in forked processes."""

from __future__ import annotations

import csv
import json
import mmap
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from advbench.cli.main import main as command_line
from advbench.datasets.dataset import open_folder
from advbench.scores.records import read_records
from advbench.shards.verify import verify

IMAGES = 6
TOY = ("--plugin", "toy_victim:ToyVictim")
# Two epochs and a stage each, on crops of 32 pixels.
TRAINING = ("--set", "crop=32", "--set", "batch=2")
STAGES = ("--set", "epochs_first=2", "--set", "epochs_mgr=1")
SUITE = """
schema = "advbench.suite/1"
title = "six images"
datasets = ["six"]
shard_size = 2
[victims.toy]
weights = "random"
[attacks.fgsm]
[attacks.bim]
[defenses.median]
"""
# What a verb needs done before it.
BEFORE = {
    "import": (),
    "generate": ("import",),
    "evaluate": ("import", "generate"),
    "run": ("import",),
    "export": ("import", "generate"),
    "train victim": ("import", "split"),
    "train ansm": ("import", "split"),
}


class Place:
    """A folder with photographs and, once they are made, with the results of every verb.

    Attributes:
        syncs: how often the last command synced to disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self._shared = mmap.mmap(-1, 8)
        rng = np.random.default_rng(1)
        for name in ("images", "masks"):
            (folder / "forged" / name).mkdir(parents=True)
        for number in range(IMAGES):
            mask = np.zeros((36, 40), np.uint8)
            mask[4:16, 8:20] = 255
            pixels = rng.integers(0, 256, (36, 40, 3), np.uint8)
            PillowImage.fromarray(pixels).save(folder / "forged" / "images" / f"{number}.png")
            PillowImage.fromarray(mask).save(folder / "forged" / "masks" / f"{number}.png")
        (folder / "suite.toml").write_text(SUITE)

    @property
    def syncs(self) -> int:
        return int.from_bytes(self._shared[:], "little")

    def command(self, verb: str, out: Path) -> list[str]:
        """The arguments of a verb."""
        small = ["--size", "small", "--dataset", "six", "--to", str(out.with_name("run"))]
        return {
            "import": ["dataset", "import", "folder", str(self.folder / "forged"), "--name", "six"],
            "split": ["dataset", "split", "six", "--train", "0.6", "--val", "0.2"],
            "generate": [
                *("generate", *TOY, "--victim", "toy", "--weights", "random"),
                *("--attack", "fgsm,bim", "--dataset", "six", "--shard-size", "2"),
            ],
            "evaluate": ["evaluate", *TOY, "--defense", "median"],
            "run": ["run", str(self.folder / "suite.toml"), *TOY],
            "export": ["export", "png", "--to", str(out.with_name("exported"))],
            "train victim": [
                *("train", "victim", "ifosn", *small, *TRAINING, "--set", "epochs=2"),
            ],
            "train ansm": [
                *("train", "ansm", *TOY, "--victim", "toy", "--weights", "random"),
                *(*small, *TRAINING, *STAGES),
            ],
        }[verb] + ["--out", str(out)]

    def start(
        self, arguments: Sequence[str], *, wait: int | None = None, dies_at: int | None = None
    ) -> int:
        """Run a command in a forked process; its number.

        Args:
            wait: a pipe that it first reads a byte of.
            dies_at: the sync to disk at which it kills itself, from 0.
        """
        self._shared[:] = bytes(8)
        child = os.fork()
        if child:
            return child
        with self.log.open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        self._count_syncs(dies_at)
        if wait is not None:
            os.read(wait, 1)
        sys.argv = ["advbench", *arguments]
        try:
            command_line()
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        except BaseException:
            os._exit(99)

    def ends(self, child: int) -> int:
        """Its exit code, negative for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def run(self, verb: str, out: Path) -> int:
        """Run a verb to its end; its exit code."""
        return self.ends(self.start(self.command(verb, out)))

    def foreign(self) -> bool:
        """Whether anything since the last time was no line of advbench's own."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        self.log.write_text("")
        return "Traceback" in text or "a fault of advbench" in text

    def _count_syncs(self, dies_at: int | None) -> None:
        """A file is synced before it has its name and its folder after, so each name is seen
        before and after it is there."""
        real = os.fsync

        def fsync(descriptor: int) -> None:
            if self.syncs == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self._shared[:] = (self.syncs + 1).to_bytes(8, "little")
            real(descriptor)

        os.fsync = fsync


def result(verb: str, out: Path) -> object:
    """What a verb made, in a form that can be compared."""
    if verb == "import":
        data = open_folder(out / "datasets" / "six")
        assert [data.image(row).sum() for row in data.rows]
        return data.info.model_dump(mode="json"), str(data.root)
    if verb.startswith("train"):
        return _trained(out.with_name("run"))
    if verb == "export":
        exported = out.with_name("exported")
        files = sorted(path for path in exported.rglob("*") if path.is_file())
        return [(str(path.relative_to(exported)), path.read_bytes()) for path in files]
    report = verify(out / "shards")
    assert report.problems == [], report.problems
    if verb == "generate":
        return report.content_sha256
    records = read_records(out / "records")
    order = ["victim", "variant", "defense", "strength", "sample_id"]
    return report.content_sha256, records.sort_values(order).to_csv(index=False)


def _trained(run: Path) -> object:
    """Weights to the byte; card, curve and names of files, but for the seconds that it took."""
    (weights,) = run.glob("*.safetensors")
    card = json.loads(weights.with_suffix(".json").read_text())
    timed = {"seconds", "card_sha256"}
    curves = []
    for path in (run / "curve.csv", weights.with_suffix(".curve.csv")):
        lines = csv.DictReader(path.read_text().splitlines())
        curves.append([{k: v for k, v in line.items() if k not in timed} for line in lines])
    names = sorted(path.name for path in run.iterdir())
    plain = {key: value for key, value in card.items() if key not in timed}
    return weights.read_bytes(), plain, curves, names
