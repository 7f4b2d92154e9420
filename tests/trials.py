"""Trials of the stores: kills, damage and runs at once, in numbers.

    python -m tests.trials kills|damage|pairs [--count N] [--seed N]

Prints what was tried as JSON. ``silent`` counts other results without a word, ``foreign`` errors
that are no line of advbench's; both must be 0. Children are forked from a process that has imported
all that they need, so that kills fall into the work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from advbench.cli.main import main as command_line
from advbench.datasets.dataset import open_folder
from advbench.errors import AdvbenchError
from advbench.files import temporaries
from advbench.scores.records import read_records
from advbench.shards.dataset import ShardDataset
from advbench.shards.store import ShardStore
from advbench.shards.verify import verify

IMAGES = 6
TOY = ("--plugin", "toy_victim:ToyVictim")
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


class Place:
    """A folder with photographs and, once they are made, with the results of every verb."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        rng = np.random.default_rng(1)
        for name in ("images", "masks"):
            (folder / "forged" / name).mkdir(parents=True)
        for number in range(IMAGES):
            mask = np.zeros((24, 32), np.uint8)
            mask[4:16, 8:20] = 255
            pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
            PillowImage.fromarray(pixels).save(folder / "forged" / "images" / f"{number}.png")
            PillowImage.fromarray(mask).save(folder / "forged" / "masks" / f"{number}.png")
        (folder / "suite.toml").write_text(SUITE)

    def command(self, verb: str, out: Path) -> list[str]:
        """The arguments of a verb."""
        return {
            "import": ["dataset", "import", "folder", str(self.folder / "forged"), "--name", "six"],
            "generate": [
                *("generate", *TOY, "--victim", "toy", "--weights", "random"),
                *("--attack", "fgsm,bim", "--dataset", "six", "--shard-size", "2"),
            ],
            "evaluate": ["evaluate", *TOY, "--defense", "median"],
            "run": ["run", str(self.folder / "suite.toml"), *TOY],
            "export": ["export", "png", "--to", str(out.with_name("exported"))],
        }[verb] + ["--out", str(out)]

    def start(self, arguments: Sequence[str], wait: int | None = None) -> int:
        """Run a command in a forked process, as soon as ``wait`` is closed; its number."""
        child = os.fork()
        if child:
            return child
        with self.log.open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
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
        return self.ends(self.start(self.command(verb, out)))

    def foreign(self) -> bool:
        """Whether anything since the last time was no line of advbench's own."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        self.log.write_text("")
        return "Traceback" in text or "a fault of advbench" in text


# What a verb needs done before it.
BEFORE = {
    "import": (),
    "generate": ("import",),
    "evaluate": ("import", "generate"),
    "run": ("import",),
    "export": ("import", "generate"),
}


def result(verb: str, out: Path) -> object:
    """What a verb made, in a form that can be compared."""
    if verb == "import":
        data = open_folder(out / "datasets" / "six")
        assert [data.image(row).sum() for row in data.rows]
        return data.info.model_dump(mode="json"), str(data.root)
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


def kills(place: Place, count: int, rng: random.Random) -> Counter[str]:
    """Kill each verb at random moments, run it again, compare with one that was not killed."""
    found: Counter[str] = Counter()
    for verb, before in BEFORE.items():
        base = place.folder / verb / "base" / "out"
        base.mkdir(parents=True)
        for earlier in before:
            assert place.run(earlier, base) == 0, place.log.read_text()
        whole = place.folder / verb / "whole" / "out"
        shutil.copytree(base, whole)
        started = time.perf_counter()
        assert place.run(verb, whole) == 0, place.log.read_text()
        seconds = time.perf_counter() - started
        expected = result(verb, whole)
        for number in range(count // len(BEFORE)):
            out = place.folder / verb / str(number) / "out"
            shutil.copytree(base, out)
            found["tried"] += 1
            child = place.start(place.command(verb, out))
            time.sleep(rng.random() * seconds)
            os.kill(child, signal.SIGKILL)
            found[f"killed in {verb}"] += place.ends(child) == -signal.SIGKILL
            left = any(temporaries(out.parent))
            found["left temporaries"] += left
            if verb == "import" and (out / "datasets/six/dataset.json").exists():
                found["silent"] += result(verb, out) != expected
            again = 0
            if not (verb == "export" and out.with_name("exported").exists()):
                again = place.run(verb, out)
            found["not resumed"] += again != 0
            found["silent"] += result(verb, out) != expected
            found["temporaries after the next run"] += any(temporaries(out.parent))
            found["foreign"] += place.foreign()
            shutil.rmtree(out.parent)
    return found


def damage(place: Place, count: int, rng: random.Random) -> Counter[str]:
    """Change or cut one file; read all as evaluate and export do, and verify."""
    out = place.folder / "out"
    for verb in ("import", "generate", "evaluate"):
        assert place.run(verb, out) == 0, place.log.read_text()
    shards = sorted((out / "shards").rglob("*.h5"))
    records = sorted((out / "records").rglob("*.parquet"))
    index = out / "shards" / "index.csv"
    expected = _read(out)
    found: Counter[str] = Counter()
    for number in range(count):
        path = rng.choice((shards, [index], records)[number % 3])
        whole = path.read_bytes()
        place_ = rng.randrange(len(whole))
        if rng.random() < 0.8:
            data = bytearray(whole)
            data[place_] ^= rng.randrange(1, 256)
            path.write_bytes(data)
        else:
            path.write_bytes(whole[:place_])
        kind = ("shards", "index", "records")[number % 3]
        found[f"tried on {kind}"] += 1
        noticed = same = foreign = False
        try:
            if kind != "records":
                noticed = bool(verify(out / "shards").problems)
                found["missed by verify"] += not noticed
            same = _read(out) == expected
        except AdvbenchError as error:
            noticed = True
            foreign = "\n" in str(error)
        except Exception as error:
            foreign = True
            print(path, place_, repr(error), file=sys.stderr)
        found["noticed"] += noticed
        found["without effect"] += same and not noticed
        found["foreign"] += foreign
        found["silent"] += not (noticed or same or foreign)
        path.write_bytes(whole)
    return found


def _read(out: Path) -> object:
    store = ShardStore(out / "shards")
    store.compare()
    images = [(*item.values(),) for item in ShardDataset(out)]
    plain = [[v.tobytes() if isinstance(v, np.ndarray) else v for v in item] for item in images]
    return plain, read_records(out / "records").to_csv()


def pairs(place: Place, count: int, rng: random.Random) -> Counter[str]:
    """Two runs of generate at once on one folder, of other shard sizes, limits and attacks."""
    found: Counter[str] = Counter()
    base = place.folder / "base" / "out"
    assert place.run("import", base) == 0
    for _ in range(count):
        out = place.folder / "pair" / "out"
        shutil.copytree(base, out)
        limits = [rng.randint(1, IMAGES) for _ in range(2)]
        reader, writer = os.pipe()
        children = []
        for limit in limits:
            arguments = place.command("generate", out)
            arguments[arguments.index("--shard-size") + 1] = str(rng.randint(1, IMAGES))
            children.append(place.start([*arguments, "--limit", str(limit)], reader))
        os.write(writer, b"..")
        found["tried"] += 1
        codes = [place.ends(child) for child in children]
        found["failed"] += codes != [0, 0]
        os.close(reader)
        os.close(writer)
        found["foreign"] += place.foreign()
        problems = verify(out / "shards").problems
        held = Counter(
            (entry.settings.sha256, name)
            for entry in ShardStore(out / "shards").entries()
            for name in entry.sample_ids
        )
        # Originals, one variant of FGSM for each of its intensities, and of BIM.
        variants = len({key for key, _ in held})
        found["with problems"] += bool(problems)
        found["silent"] += max(held.values()) > 1 or len(held) != max(limits) * variants
        found["shards"] += len(list((out / "shards").rglob("*.h5")))
        shutil.rmtree(out.parent)
    return found


TRIALS: dict[str, Callable[[Place, int, random.Random], Counter[str]]] = {
    "kills": kills,
    "damage": damage,
    "pairs": pairs,
}


def main() -> None:
    """Do one kind of trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trial", choices=TRIALS)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent / "cli"))
    _import_all()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        found = TRIALS[given.trial](place, given.count, random.Random(given.seed))
    print(json.dumps(found, indent=2))


def _import_all() -> None:
    """Import what the verbs import late, and hold torch to one thread, so that forks are safe."""
    import importlib

    import torch

    torch.set_num_threads(1)
    names = ("dataset", "generate", "evaluate", "suite", "export", "verify")
    for name in (*(f"advbench.cli.{n}" for n in names), "advbench.exports.export", "toy_victim"):
        importlib.import_module(name)
    for name in ("pipelines.generate", "pipelines.evaluate", "pipelines.suites.run"):
        importlib.import_module(f"advbench.{name}")
    for name in ("fgsm", "bim"):
        importlib.import_module(f"advbench.attacks.{name}")


if __name__ == "__main__":
    main()
