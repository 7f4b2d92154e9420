"""Does a victim localize forgeries, or a shortcut of the built-in dataset?

    python benchmarks/builtin_controls.py [--victim ifosn] [--weights PATH]

Prints F1 on the held-out test split by kind of forgery, the floors (nothing, everything, and a
centred disc forged), and three controls that a localizer of traces must fail: the image blurred
until its noise is gone, splices whose donor has the host's own history, and authentic images.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
import torch

import advbench
from advbench.datasets.builtin import forgeries
from advbench.datasets.builtin.editions import CURRENT, SIDE
from advbench.datasets.builtin.photographs import photographs_of
from advbench.images import Image, Mask, to_tensor, to_unit
from advbench.pipelines.load import load_dataset
from advbench.rng import numpy_stream
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim

CONTROLS = 60


@click.command()
@click.option("--victim", "name", default="ifosn")
@click.option("--weights", default="builtin")
def main(name: str, weights: str) -> None:
    """Print the table."""
    victim = advbench.load_victim(name, size="small", weights=weights)
    data = load_dataset("builtin", Path("advbench-data"), "test")
    forged, authentic = data.select("test", label=1), data.select("test", label=0)
    pairs = [(data.image(row), data.mask(row)) for row in forged]
    scores = scores_of(victim, pairs)
    kinds = np.array([row.kind for row in forged])
    print(f"{name}, weights {victim.weights.label} {victim.weights.sha256[:12]}")
    print(f"F1 on {len(forged)} held-out images   {scores.mean():.3f}")
    for kind in ("splice", "copymove", "removal"):
        chosen = scores[kinds == kind]
        print(f"  {kind:<10} ({len(chosen)})           {chosen.mean():.3f}")
    print("floors")
    for what, guess in floors().items():
        found = np.mean([f1(guess, truth, 0.5) for _, truth in pairs])
        print(f"  {what:<28} {found:.3f}")
    print("controls")
    blurred = [(cv2.GaussianBlur(image, (0, 0), 2.5), truth) for image, truth in pairs]
    print(f"  F1 on blurred images         {scores_of(victim, blurred).mean():.3f}")
    twins = [same_history_splice(index) for index in range(CONTROLS)]
    print(f"  F1, donor has host's history {scores_of(victim, twins).mean():.3f}")
    marked = [(predict(victim, data.image(row)) > victim.threshold).mean() for row in authentic]
    print(f"  area forged, authentic       {np.mean(marked):.3f}")
    print(f"  area forged, true            {np.mean([truth.mean() for _, truth in pairs]):.3f}")


def predict(victim: Victim, image: Image) -> np.ndarray:
    """The probability map at the victim's working size."""
    x = to_unit(to_tensor(victim.fit(image)))
    with torch.inference_mode():
        return victim.probabilities(x)[0, 0].numpy()


def f1(probability: np.ndarray, truth: Mask, threshold: float) -> float:
    """F1 of one map under f1/v1."""
    return protocol("f1/v1").f1_of_map(probability.astype(np.float32), truth, threshold)


def scores_of(victim: Victim, pairs: list[tuple[Image, Mask]]) -> np.ndarray:
    """F1 of each image."""
    return np.array([f1(predict(victim, i), truth, victim.threshold) for i, truth in pairs])


def floors() -> dict[str, np.ndarray]:
    """Predictions that know nothing of the image."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] - SIDE / 2
    return {
        "all zeros": np.zeros((SIDE, SIDE)),
        "all ones": np.ones((SIDE, SIDE)),
        "centred disc": (np.hypot(rows, columns) < SIDE / 3).astype(float),
    }


def same_history_splice(index: int) -> tuple[Image, Mask]:
    """A splice whose donor went through what its host went through: no trace but the seam."""
    rng = numpy_stream(CURRENT.seed, "same-history", index)
    photographs = photographs_of("test")
    history = forgeries.random_history(rng, *forgeries.HOST_NOISE["splice"])
    host, donor = (
        history.apply(
            forgeries.random_view(photographs[rng.integers(0, len(photographs))].load(), SIDE, rng),
            rng,
        )
        for _ in range(2)
    )
    region = forgeries.random_region(SIDE, rng)
    return forgeries.blend(host, donor, region, rng), region


if __name__ == "__main__":
    main()
