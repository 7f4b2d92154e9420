"""Measure how far the originals and their adversarial images lie apart, as points of a space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from advbench.rng import numpy_stream

DRAWS = 999

Points = npt.NDArray[np.float32]  # n×d


@dataclass(frozen=True)
class Separation:
    """Say how far two clouds of paired points lie apart.

    Attributes:
        energy: the energy distance as a share of its largest value, (2E|X−Y| − E|X−X'| − E|Y−Y'|) /
            2E|X−Y| (Székely and Rizzo, J. Stat. Plan. Inference 2013): 0 where the clouds are one
            and the same, 1 where each is a point and the points differ.
        p: share of draws that swap the members of pairs at random and have at least this energy.
        shift: mean distance within a pair, over the mean distance between two different originals.
    """

    energy: float
    p: float
    shift: float


def separation(originals: Points, attacked: Points, *, draws: int = DRAWS) -> Separation:
    """Compare two clouds of points, the rows of one the pairs of the other's.

    Args:
        originals, attacked: n×d, n at least 2.
        draws: of swapped pairs; by a stream of their own, the same each time.
    """
    n = len(originals)
    within = np.linalg.norm(attacked.astype(np.float64) - originals, axis=1).mean()
    every = np.concatenate([originals, attacked]).astype(np.float64)
    distances = cdist(every, every)
    largest = 2 * distances[:n, n:].mean()
    if largest == 0:
        return Separation(0.0, 1.0, math.nan)
    signs = np.ones((draws + 1, n))
    signs[1:] = numpy_stream("separation", n, draws).choice([-1.0, 1.0], (draws, n))
    labels = np.concatenate([signs, -signs], axis=1)
    # 2E|X−Y| − E|X−X'| − E|Y−Y'| = −Σ sᵢ sⱼ dᵢⱼ / n², with s = 1 for X and −1 for Y.
    energies = -np.einsum("ki,ki->k", labels @ distances, labels) / n**2
    between = distances[:n, :n].sum() / (n * (n - 1))
    reached = energies[1:] >= energies[0] - 1e-9 * largest
    return Separation(
        energy=float(max(energies[0], 0) / largest),
        p=float((1 + reached.sum()) / (1 + draws)),
        shift=float(within / between) if between else math.nan,
    )
