"""Kill every verb, run it again, and compare with one that was not killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable

from advbench.files import temporaries
from tests.trials.place import BEFORE, Place, result


def kills(
    place: Place, count: int, rng: random.Random, verbs: Iterable[str] = tuple(BEFORE)
) -> Counter[str]:
    """Kill each verb in turn: at a random moment, or as it syncs one of its writes to disk."""
    found: Counter[str] = Counter()
    for verb in verbs:
        base = place.folder / verb / "base" / "out"
        base.mkdir(parents=True)
        for earlier in BEFORE[verb]:
            assert place.run(earlier, base) == 0, place.log.read_text()
        whole = place.folder / verb / "whole" / "out"
        shutil.copytree(base, whole)
        started = time.perf_counter()
        assert place.run(verb, whole) == 0, place.log.read_text()
        seconds, syncs = time.perf_counter() - started, place.syncs
        expected = result(verb, whole)
        for number in range(count // len(tuple(verbs))):
            out = place.folder / verb / str(number) / "out"
            shutil.copytree(base, out)
            found["tried"] += 1
            dies_at = rng.randrange(syncs) if number % 2 and syncs else None  # export syncs none
            child = place.start(place.command(verb, out), dies_at=dies_at)
            if dies_at is None:
                time.sleep(rng.random() * seconds)
                os.kill(child, signal.SIGKILL)
            found[f"killed in {verb}"] += place.ends(child) == -signal.SIGKILL
            found["left temporaries"] += any(temporaries(out.parent))
            if verb == "import" and (out / "datasets/six/dataset.json").exists():
                found["silent"] += result(verb, out) != expected
            again = 0
            if not (verb == "export" and out.with_name("exported").exists()):
                again = place.run(verb, out)
            found["not resumed"] += again != 0
            if result(verb, out) != expected:
                found["silent"] += 1
                print(f"silent: kill {number} of {verb}, {dies_at=}", file=sys.stderr)
            found["temporaries after the next run"] += any(temporaries(out.parent))
            found["foreign"] += place.foreign()
            shutil.rmtree(out.parent)
    return found
