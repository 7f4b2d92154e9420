"""How far clouds lie apart, against the definition written out and cases known by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from advbench.scores.separation import separation


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    def mean(a, b):
        return np.mean([np.linalg.norm(i - j) for i, j in itertools.product(a, b)])

    return (2 * mean(x, y) - mean(x, x) - mean(y, y)) / (2 * mean(x, y))


def clouds(n: int, d: int, shift: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x.astype(np.float32), (x + shift + 0.1 * rng.normal(size=x.shape)).astype(np.float32)


def test_energy_is_that_of_the_definition():
    for shift in (0.0, 0.3, 5.0):
        x, y = clouds(7, 3, shift)
        assert separation(x, y).energy == pytest.approx(by_definition(x, y), abs=1e-6)


def test_known_cases():
    x, _ = clouds(6, 4, 0)
    same = separation(x, x.copy())
    assert (same.energy, same.p, same.shift) == (pytest.approx(0, abs=1e-12), 1.0, 0.0)
    zeros, ones = np.zeros((5, 2), np.float32), np.ones((5, 2), np.float32)
    assert separation(zeros, ones).energy == pytest.approx(1.0)
    assert separation(zeros, zeros).energy == 0.0
    line = np.array([[0.0], [1.0], [2.0]], np.float32)  # mean distance of two: 4/3
    assert separation(line, line + 2).shift == pytest.approx(2 / (4 / 3))


def test_p_is_the_share_of_swaps_that_reach_it():
    """All swaps of four pairs, by the definition; draws come as near as chance allows."""
    x, y = (cloud.astype(np.float64) for cloud in clouds(4, 2, 0.4))
    energies = []
    for swap in itertools.product([False, True], repeat=4):
        s = np.array(swap)[:, None]
        a, b = np.where(s, y, x), np.where(s, x, y)
        energies.append(
            by_definition(a, b) * 2 * np.mean([np.linalg.norm(i - j) for i in a for j in b])
        )
    share = np.mean(np.array(energies) >= energies[0] - 1e-9)
    assert separation(x, y).p == pytest.approx(share, abs=0.05)


def test_p_tells_a_shift_from_none():
    far = separation(*clouds(20, 5, 1.0))
    assert far.p == pytest.approx(0.001)
    assert far.energy > 0.1
    plain = [separation(*clouds(12, 3, 0.0, seed), draws=99).p for seed in range(40)]
    assert 0.35 < np.mean(plain) < 0.65
