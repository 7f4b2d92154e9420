"""Do one kind of trial.

    python -m tests.trials kills|damage|pairs [--count N] [--seed N] [--verb VERB]

Prints what was tried as JSON. ``silent`` counts other results without a word, ``foreign`` errors
that are no line of advbench's; both must be 0. Children are forked from a process that has imported
all that they need, so that kills fall into the work.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
import tempfile
from pathlib import Path

import torch

from tests.trials.damage import damage
from tests.trials.kills import kills
from tests.trials.pairs import pairs
from tests.trials.place import BEFORE, Place

VERBS = ("dataset", "generate", "evaluate", "suite", "export", "verify", "train")
LATE = (
    *(f"cli.{verb}" for verb in VERBS),
    *("exports.export", "attacks.fgsm", "attacks.bim", "victims.ifosn.victim"),
    *("pipelines.generate", "pipelines.evaluate", "pipelines.suites.run"),
    "pipelines.train_verbs",
)


def main() -> None:
    """Do one kind of trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trial", choices=("kills", "damage", "pairs"))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verb", choices=BEFORE, action="append", help="Kill these alone.")
    given = parser.parse_args()
    _import_all()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        rng = random.Random(given.seed)
        if given.trial == "kills":
            found = kills(place, given.count, rng, given.verb or tuple(BEFORE))
        else:
            found = {"damage": damage, "pairs": pairs}[given.trial](place, given.count, rng)
    print(json.dumps(found, indent=2))


def _import_all() -> None:
    """Import what the verbs import late, and hold torch to one thread, so that forks are safe."""
    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
    for name in (*(f"advbench.{name}" for name in LATE), "toy_victim"):
        importlib.import_module(name)


if __name__ == "__main__":
    main()
