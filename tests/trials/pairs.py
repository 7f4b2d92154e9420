"""Two runs at once on one output folder."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter

from advbench.shards.store import ShardStore
from advbench.shards.verify import verify
from tests.trials.place import IMAGES, Place


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
            children.append(place.start([*arguments, "--limit", str(limit)], wait=reader))
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
