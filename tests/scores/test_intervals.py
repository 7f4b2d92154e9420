"""Bootstrap intervals against plain loops and closed forms; the loss bound against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from advbench.rng import numpy_stream
from advbench.scores.intervals import DRAWS, Bootstrap, loss_bound


def test_draws_by_plain_loops():
    """Whole photographs with their images, NaN left out of both sums."""
    photographs = ["a", "b", "a", "c", "b", "b"]
    values = np.array([[0.1, 1], [0.2, 2], [0.3, math.nan], [0.4, 4], [0.5, 5], [math.nan, 6]])
    found = Bootstrap(photographs).means(values)
    assert found.shape == (DRAWS, 2)
    times = numpy_stream("bootstrap", "a", "b", "c").multinomial(3, [1 / 3] * 3, DRAWS)
    for draw in range(0, DRAWS, 97):
        taken = [
            row
            for name, count in zip("abc", times[draw], strict=True)
            for row in [r for r, p in zip(values, photographs, strict=True) if p == name] * count
        ]
        for column in range(2):
            kept = [row[column] for row in taken if not math.isnan(row[column])]
            expected = sum(kept) / len(kept) if kept else math.nan
            assert found[draw, column] == pytest.approx(expected, nan_ok=True)


def test_interval_of_many_independent_images_is_the_normal_one():
    values = np.random.default_rng(0).normal(0.5, 0.2, 400)
    bootstrap = Bootstrap([str(n) for n in range(400)])
    low, high = bootstrap.interval(bootstrap.means(values))
    half = norm.ppf(0.975) * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_copies_of_a_photograph_tell_nothing_new():
    """Ten crops of each of eight photographs: as wide as one of each."""
    values = np.random.default_rng(1).random(8)
    names = [str(n) for n in range(8)]
    one, ten = Bootstrap(names), Bootstrap(np.repeat(names, 10).tolist())
    assert ten.photographs == 8
    assert ten.interval(ten.means(np.repeat(values, 10))) == pytest.approx(
        one.interval(one.means(values))
    )


def test_differences_are_paired():
    """Two figures that differ by the same everywhere have a difference without spread."""
    values = np.random.default_rng(2).random(30)
    names = [str(n % 10) for n in range(30)]
    drawn = Bootstrap(names).means(values + 0.1) - Bootstrap(names[::-1]).means(values[::-1])
    assert np.ptp(drawn) < 1e-12


def test_order_of_images_does_not_matter():
    values, names = np.arange(9.0), [str(n % 3) for n in range(9)]
    forth = Bootstrap(names).means(values)
    assert Bootstrap(names[::-1]).means(values[::-1]) == pytest.approx(forth)


@pytest.mark.parametrize("photographs", [["a"], ["a", "a"]])
def test_no_interval_from_one_photograph(photographs):
    bootstrap = Bootstrap(photographs)
    low, high = bootstrap.interval(bootstrap.means(np.ones(len(photographs))))
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("n", [1, 7, 160])
def test_bound_without_any_loss(n):
    """(1 - u)^n = 0.05, in closed form."""
    bound = loss_bound(np.zeros(n), [str(k) for k in range(n)])
    assert bound == pytest.approx(1 - 0.05 ** (1 / n), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_bound_by_brute_force(seed):
    """The smallest of a fine grid at which both tails are below 5 %."""
    losses = np.random.default_rng(seed).beta(1, 2 + seed, 40)
    mean, grid = losses.mean(), np.linspace(1e-4, 1 - 1e-4, 20000)
    grid = grid[grid >= mean]
    hoeffding = np.exp(
        -40 * (mean * np.log(mean / grid) + (1 - mean) * np.log((1 - mean) / (1 - grid)))
    )
    bentkus = math.e * binom.cdf(math.ceil(40 * mean), 40, grid)
    expected = grid[np.minimum(hoeffding, bentkus) <= 0.05][0]
    assert loss_bound(losses, [str(k) for k in range(40)]) == pytest.approx(expected, abs=1e-4)


def test_bound_holds_as_often_as_it_says():
    """Of coins with a known mean: the bound lies below it in at most 5 % of trials."""
    rng, names = np.random.default_rng(5), [str(k) for k in range(25)]
    missed = sum(loss_bound(rng.random(25) < 0.3, names) < 0.3 for _ in range(200))
    assert missed <= 15


def test_bound_counts_photographs():
    """Twenty crops of one photograph are one observation; nothing is known of all lost."""
    assert loss_bound(np.zeros(20), ["a"] * 20) == pytest.approx(0.95)
    assert loss_bound(np.ones(20), [str(k) for k in range(20)]) == 1.0
