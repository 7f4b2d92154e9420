"""Change or cut one file, and see who notices."""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from advbench.defenses.ansm.defense import ANSM
from advbench.errors import AdvbenchError
from advbench.pipelines.provenance import defense_identity
from advbench.scores.records import read_records
from advbench.shards.dataset import ShardDataset
from advbench.shards.store import ShardStore
from advbench.shards.verify import verify
from advbench.training.checkpoint import read_state
from advbench.victims.ifosn.victim import IFOSN
from advbench.victims.weights import card_of
from tests.cli.toy_victim import ToyVictim
from tests.trials.place import Place


def damage(place: Place, count: int, rng: random.Random) -> Counter[str]:
    """Change or cut one file at a time; read it as the verbs do, and verify."""
    found: Counter[str] = Counter()
    kinds = _kinds(place)
    # What a file says when it is whole.
    expected = {kind: {path: read(path) for path in paths} for kind, (paths, read) in kinds.items()}
    for number in range(count):
        kind = list(kinds)[number % len(kinds)]
        paths, read = kinds[kind]
        path = rng.choice(paths)
        whole = path.read_bytes()
        at = rng.randrange(len(whole))
        if rng.random() < 0.8:
            data = bytearray(whole)
            data[at] ^= rng.randrange(1, 256)
            path.write_bytes(data)
        else:
            path.write_bytes(whole[:at])
        found[f"tried on {kind}"] += 1
        noticed = same = foreign = False
        try:
            if kind in ("shards", "index"):
                noticed = bool(verify(place.folder / "out" / "shards").problems)
                found["missed by verify"] += not noticed
            same = read(path) == expected[kind][path]
        except AdvbenchError as error:
            noticed = True
            foreign = "\n" in str(error)
        except Exception as error:
            foreign = True
            print(path, at, repr(error), file=sys.stderr)
        found["noticed"] += noticed
        found["without effect"] += same and not noticed
        found["foreign"] += foreign
        if not (noticed or same or foreign):
            found["silent"] += 1
            print("silent:", path, at, file=sys.stderr)
        path.write_bytes(whole)
    return found


def _kinds(place: Place) -> dict[str, tuple[list[Path], Callable[[Path], object]]]:
    """Files by kind, and how the verbs read one."""
    out = place.folder / "out"
    for verb in ("import", "generate", "evaluate"):
        assert place.run(verb, out) == 0, place.log.read_text()
    runs = []
    divided = place.folder / "divided" / "out"
    shutil.copytree(out / "datasets", divided / "datasets")
    assert place.run("split", divided) == 0
    for verb in ("train victim", "train ansm"):
        assert place.run(verb, divided) == 0, place.log.read_text()
        runs.append(divided.with_name(verb.replace(" ", "-")))
        divided.with_name("run").rename(runs[-1])
    weights = [path for run in runs for path in run.glob("*.safetensors")]
    return {
        "shards": (sorted((out / "shards").rglob("*.h5")), lambda _: _stored(out)),
        "index": ([out / "shards" / "index.csv"], lambda _: _stored(out)),
        "records": (
            sorted((out / "records").rglob("*.parquet")),
            lambda _: read_records(out / "records").to_csv(),
        ),
        "checkpoints": ([run / "checkpoint.pt" for run in runs], _checkpoint),
        "weights": (weights, _network),
        "cards": ([path.with_suffix(".json") for path in weights], _network),
    }


def _stored(out: Path) -> object:
    """What evaluate and export read of the shards."""
    store = ShardStore(out / "shards")
    store.compare()
    images = [(*item.values(),) for item in ShardDataset(out)]
    return [[v.tobytes() if isinstance(v, np.ndarray) else v for v in item] for item in images]


def _checkpoint(path: Path) -> object:
    return repr(read_state(path))


def _network(path: Path) -> object:
    """The identity of a victim or of ANSM, and what is read of the card, by one of the files of
    its weights."""
    weights = path.with_suffix(".safetensors")
    if "ansm" in path.parent.name:
        toy = ToyVictim.load(weights=None)
        victim = {"name": "toy", "size": "full", "weights_sha256": toy.weights.sha256}
        bound = ANSM(weights=(str(weights),)).for_victim(victim)
        return defense_identity(bound, None), _said(weights)
    return IFOSN.load("small", str(weights)).weights, _said(weights)


def _said(weights: Path) -> object:
    return [card_of(weights).get(name) for name in ("sha256", "label", "size", "victim_sha256")]
