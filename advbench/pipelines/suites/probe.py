"""Measure how fast a victim is attacked and scored here, and what an image takes on disk."""

from __future__ import annotations

import hashlib
import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from advbench.attacks.base import Attack
from advbench.datasets.manifest import Row
from advbench.images import Image, Mask, Residual, fit_mask, to_tensor
from advbench.inference.numerics import deterministic_mode
from advbench.inference.runner import BatchRunner
from advbench.pipelines.cells import Cell
from advbench.pipelines.making import GenerationJob
from advbench.pipelines.scoring import Sample, Scorer
from advbench.rng import numpy_stream
from advbench.shards.writer import GZIP_LEVEL

REPEAT_SECONDS, REPEATS = 0.5, 5
STEPS = 4  # of an iterated attack: what a call takes beside its passes is shared by more of them
# Grey levels; what 250 steps of C&W leave has this spread.
UNBOUNDED_SIGMA = 0.6


@dataclass(frozen=True)
class Speed:
    """Measured of one victim on an image of the dataset's mean size, as many copies side by side as
    the run has images side by side.

    Attributes:
        per_gradient: seconds of one forward and backward pass, by attack.
        per_variant: seconds to encode one adversarial image, and its bytes, by variant.
        scoring: seconds to score one image before all cells.
        original_bytes: of one stored original.
    """

    per_gradient: dict[str, float]
    per_variant: dict[str, tuple[float, int]]
    scoring: float
    original_bytes: int


def probe(job: GenerationJob, scorer: Scorer, cells: Sequence[Cell]) -> Speed:
    """Run a few steps of every attack, and every defense, on an image of the mean size; where the
    victim works at native size, one gradient on the largest image too, which must fit in memory as
    often as images are handed to an attack together.

    Raises:
        AdvbenchError: an image that cannot be read, a plug-in that does not do what it must.
        torch.OutOfMemoryError: an image does not fit.
    """
    rows = sorted(job.rows, key=lambda row: row.height * row.width)
    mean = sum(row.height * row.width for row in rows) / len(rows)
    typical = min(rows, key=lambda row: abs(row.height * row.width - mean))
    cheapest = min(job.attacks, key=lambda attack: attack.brief().passes())
    copies = min(BatchRunner(job.victim.device).images_at_once, len(rows))
    if job.victim.working_side is None and rows[-1] != typical:
        _attack(cheapest.brief(), job, *_pair(job, rows[-1]), copies=copies)
    image, truth = _pair(job, typical)
    per_gradient, attacked = {}, image
    for attack in job.attacks:
        # The first call does not count: it may take a thousand times as long, for imports.
        attacked = _attack(attack.brief(), job, image, truth, copies=copies)
        brief = attack.brief(STEPS)
        seconds = _seconds(partial(_attack, brief, job, image, truth, copies=copies))
        per_gradient[attack.label] = seconds / (copies * max(1, brief.passes()))
    sample = Sample(typical.sample_id, "", "", attacked, image, truth)
    fixed = job.victim.working_side is not None
    with deterministic_mode(scorer.victim.network):
        scorer.records([sample], cells)
        scoring = _seconds(lambda: list(scorer.all_records([sample] * copies, cells)))
    ratio = 1.0 if fixed else mean / (typical.height * typical.width)
    return Speed(
        {label: ratio * seconds for label, seconds in per_gradient.items()},
        {
            attack.variant_name(intensity): _encoded(_noise(attack, intensity, image), ratio)
            for attack in job.attacks
            for intensity in attack.intensities
        },
        ratio / copies * scoring,
        _encoded(image, ratio)[1],
    )


def _pair(job: GenerationJob, row: Row) -> tuple[Image, Mask]:
    image = job.victim.fit(job.dataset.image(row))
    return image, job.dataset.mask(row)


def _attack(
    attack: Attack, job: GenerationJob, image: Image, truth: Mask, *, copies: int = 1
) -> Image:
    """One adversarial image, of whichever intensity comes first, out of so many copies."""
    results = attack.run(
        job.victim,
        to_tensor(image).repeat(copies, 1, 1, 1),
        torch.from_numpy(fit_mask(truth, image).copy()).repeat(copies, 1, 1),
        [f"probe-{number}" for number in range(copies)],
        seed=job.seed,
    )
    first = next(iter(results.values()))
    return np.ascontiguousarray(first.images[0].permute(1, 2, 0).numpy())


def _seconds(work: Callable[[], object]) -> float:
    """The median of a few calls."""
    times: list[float] = []
    while not times or (sum(times) < REPEAT_SECONDS and len(times) < REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _noise(attack: Attack, intensity: float, image: Image) -> Residual:
    """Noise that takes as many bytes as the attack's: one gradient gives two levels, several give
    any of the budget."""
    stream, budget = numpy_stream("probe"), attack.budget(intensity)
    if budget is None:
        levels = stream.normal(0, UNBOUNDED_SIGMA, image.shape).round().clip(-127, 127)
    elif attack.passes() == 1:
        levels = stream.choice([-budget, budget], image.shape)
    else:
        levels = stream.integers(-budget, budget + 1, image.shape)
    return levels.astype(np.int8)


def _encoded(values: Image | Residual, ratio: float) -> tuple[float, int]:
    """Seconds to compress, read back and hash an image ``ratio`` times as large, and its bytes."""
    stored = b""

    def work() -> None:
        nonlocal stored
        stored = zlib.compress(values.tobytes(), GZIP_LEVEL)
        hashlib.sha256(zlib.decompress(stored)).digest()

    seconds = _seconds(work)
    return ratio * seconds, round(ratio * len(stored))
