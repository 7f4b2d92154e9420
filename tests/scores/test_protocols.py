"""Counts, F1 and IoU against loops and scikit-learn; maps at the truth's size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, matthews_corrcoef

from advbench.errors import AdvbenchError
from advbench.scores.counts import Counts, iou, marked, mcc
from advbench.scores.protocols import PROTOCOLS, ProbabilityMap, protocol

F1 = protocol("f1/v1")


def drawn(seed: int, share: float) -> tuple[ProbabilityMap, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 12, 2))
    levels = rng.integers(0, 5, shape) / 4
    return levels.astype(np.float32), rng.random(shape) < share


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0, 0.1, 0.5, 1]),
    st.sampled_from([0, 0.25, 0.5, 0.6, 1]),
)
def test_counts_by_loops(seed: int, share: float, threshold: float) -> None:
    """Pixel by pixel, with levels that lie on the threshold: they are not above it."""
    probability, truth = drawn(seed, share)
    names = ["tn", "fn", "fp", "tp"]
    found = dict.fromkeys(names, 0)
    for place in np.ndindex(*truth.shape):
        forged = float(probability[place]) > threshold
        found[names[2 * forged + bool(truth[place])]] += 1
    assert F1.counts(probability, truth, threshold) == Counts(**found)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.5, 1]))
def test_scores_by_sklearn(seed: int, share: float) -> None:
    """F1 and IoU of the forged class, and the four counts."""
    probability, truth = drawn(seed, share)
    forged = probability > 0.5
    counts = F1.counts(probability, truth, 0.5)
    matrix = confusion_matrix(truth.ravel(), forged.ravel(), labels=[False, True])
    assert matrix.ravel().tolist() == [counts.tn, counts.fp, counts.fn, counts.tp]
    if truth.any():
        expected = f1_score(truth.ravel(), forged.ravel(), zero_division=0)
        assert F1.f1(counts) == pytest.approx(expected)
        assert float(iou(counts)) == pytest.approx(
            jaccard_score(truth.ravel(), forged.ravel(), zero_division=0)
        )
    else:
        assert math.isnan(F1.f1(counts))


@pytest.mark.parametrize(
    ("counts", "f1", "overlap"),
    [
        (Counts(3, 1, 2, 9), 6 / 9, 3 / 6),
        (Counts(5, 0, 0, 0), 1, 1),
        (Counts(0, 4, 1, 5), 0, 0),
        (Counts(0, 0, 4, 5), 0, 0),
        (Counts(0, 4, 0, 5), math.nan, math.nan),
        (Counts(0, 0, 0, 9), math.nan, math.nan),
        (Counts(0, 0, 0, 0), math.nan, math.nan),
    ],
)
def test_scores_by_hand(counts: Counts, f1: float, overlap: float) -> None:
    """An authentic image has neither, whatever the map marks on it."""
    assert F1.f1(counts) == pytest.approx(f1, nan_ok=True)
    assert float(iou(counts)) == pytest.approx(overlap, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.5, 1]))
def test_mcc_and_marked_by_sklearn(seed: int, share: float) -> None:
    """Also where the map is of one class; NaN where the truth is."""
    probability, truth = drawn(seed, share)
    forged = probability > 0.5
    counts = F1.counts(probability, truth, 0.5)
    assert float(marked(counts)) == pytest.approx(forged.mean())
    if truth.any() and not truth.all():
        expected = matthews_corrcoef(truth.ravel(), forged.ravel())
        assert float(mcc(counts)) == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(float(mcc(counts)))


def test_mcc_of_maps_that_know_nothing_and_of_large_images() -> None:
    """Everything or nothing marked is 0; right and inverted are 1 and -1, beyond int64 too."""
    size = 2**33
    counts = Counts(
        np.array([9, 0, size, 0]),
        np.array([7, 0, 0, size]),
        np.array([0, 9, 0, size]),
        np.array([0, 7, size, 0]),
    )
    assert mcc(counts).tolist() == pytest.approx([0, 0, 1, -1])
    assert marked(counts).tolist() == pytest.approx([1, 0, 0.5, 0.5])


def test_threshold_is_strict() -> None:
    """Exactly at the threshold is authentic; the next float above it is forged."""
    half = np.float32(0.5)
    above = np.nextafter(half, np.float32(1))
    probability = np.array([[0.25, half, above, 1]], dtype=np.float32)
    truth = np.ones((1, 4), dtype=bool)
    assert F1.counts(probability, truth, 0.5) == Counts(2, 0, 2, 0)
    assert F1.counts(probability, ~truth, 0.5) == Counts(0, 2, 0, 2)


def test_inverted_map_scores_nothing() -> None:
    """A map turned inside out is a success of the attack, not a hit."""
    truth = np.zeros((4, 4), dtype=bool)
    truth[:2] = True
    counts = F1.counts((~truth).astype(np.float32), truth, 0.5)
    assert F1.f1(counts) == 0


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Half-pixel centres, edges repeated, in doubles."""

    def weights(old: int, new: int) -> np.ndarray:
        matrix = np.zeros((new, old))
        for target in range(new):
            place = min(max((target + 0.5) * old / new - 0.5, 0), old - 1)
            low = int(place)
            matrix[target, low] += 1 - (place - low)
            matrix[target, min(low + 1, old - 1)] += place - low
        return matrix

    return weights(image.shape[0], height) @ image @ weights(image.shape[1], width).T


@pytest.mark.parametrize("shape", [(12, 20), (24, 40), (7, 31), (1, 1), (30, 5)])
def test_map_at_truth_size(shape: tuple[int, int]) -> None:
    """Bilinear, in floats, to height × width of the truth, not the other way round."""
    probability = np.random.default_rng(0).random((12, 20), dtype=np.float32)
    found = F1.at_truth_size(probability, np.zeros(shape, dtype=bool))
    assert found.shape == shape
    assert found.dtype == np.float32
    assert np.abs(found - bilinear(probability, *shape)).max() < 1e-5
    assert found.min() >= 0
    assert found.max() <= 1


def test_f1_of_a_map_of_another_size() -> None:
    """The counts of the map at the truth's size; NaN on an authentic image."""
    rng = np.random.default_rng(1)
    probability, truth = rng.random((12, 20), dtype=np.float32), rng.random((24, 40)) < 0.3
    resized = bilinear(probability, 24, 40) > 0.5
    expected = f1_score(truth.ravel(), resized.ravel())
    assert F1.f1_of_map(probability, truth, 0.5) == pytest.approx(expected)
    assert math.isnan(F1.f1_of_map(probability, np.zeros_like(truth), 0.5))


def test_the_map_is_resized_not_the_decision() -> None:
    """The threshold applies to the resized floats: between 0 and 1 the boundary lies half-way."""
    probability = np.array([[0, 1]], dtype=np.float32)
    resized = F1.at_truth_size(probability, np.zeros((1, 8), dtype=bool))
    assert resized.tolist() == [[0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]]


def test_by_id() -> None:
    """Known by its id, which it carries; another is refused with those there are."""
    assert list(PROTOCOLS) == ["f1/v1"]
    assert F1.id == "f1/v1"
    with pytest.raises(AdvbenchError, match="f1/v1"):
        protocol("f1/v9")
