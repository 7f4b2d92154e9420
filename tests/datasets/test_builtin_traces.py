"""Traces of version 2: each one what it says, a mixture of them in every forgery."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
from scipy import ndimage

from advbench.datasets.builtin.editions import BUILTIN_2, published_rows
from advbench.datasets.builtin.forgeries import random_region
from advbench.datasets.builtin.mixed import make_forgery
from advbench.datasets.builtin.photographs import photographs_of
from advbench.datasets.builtin.processing import blurred, noisy, on_random_grid, rescaled
from advbench.datasets.builtin.traces import (
    INHERENT,
    LASTING,
    TRACES,
    draw_traces,
    other_light,
    other_sharpness,
    resampled,
    soft_seam,
    visible_seam,
)
from advbench.datasets.manifest import Kind, Row
from advbench.images import Image

FORGED: list[Kind] = ["splice", "copymove", "removal"]
PUBLISHED = [row for name in ("builtin2", "open") for row in published_rows(name).values()]
MADE = [row for row in PUBLISHED if row.label]


def stream(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def smooth(seed: int = 0, side: int = 96) -> Image:
    """A picture of soft shapes, mid-grey on average."""
    coarse = stream(seed).integers(70, 180, (9, 9, 3)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype("u1")


def traces_of(row: Row) -> set[str]:
    (note,) = [n for n in row.provenance.split("; ") if n.startswith("traces ")]
    return set(note.removeprefix("traces ").split("+"))


@pytest.mark.parametrize("kind", FORGED)
def test_drawn_traces(kind: Kind) -> None:
    """Two, three or four, one of them lasting, the inherent ones always; every other comes up."""
    drawn = [draw_traces(kind, stream(seed)) for seed in range(600)]
    assert set(Counter(map(len, drawn))) == {2, 3, 4}
    assert all(len(set(traces)) == len(traces) for traces in drawn)
    assert all(set(traces) & set(LASTING) for traces in drawn)
    assert all(set(INHERENT[kind]) <= set(traces) for traces in drawn)
    seen = {trace for traces in drawn for trace in traces}
    assert seen == set(TRACES) - ({"resampling"} if kind == "removal" else set())


def test_published_forgeries_mix_their_traces() -> None:
    """Two at least in each, noise with nothing but a seam in no more than a tenth."""
    assert len(MADE) == 1440 + 320
    assert all(2 <= len(traces_of(row)) <= 4 for row in MADE)
    noise_alone = [row for row in MADE if traces_of(row) <= {"noise", "seam"}]
    assert len(noise_alone) <= 0.1 * len(MADE)
    for trace in TRACES:
        assert sum(trace in traces_of(row) for row in MADE) > 0.2 * len(MADE)


@pytest.mark.parametrize("label", [0, 1])
def test_half_of_all_are_processed(label: int) -> None:
    """Authentic images as often as forged ones."""
    rows = [row for row in PUBLISHED if row.label == label]
    processed = [row for row in rows if "; whole " in row.provenance]
    assert len(processed) / len(rows) == pytest.approx(0.5, abs=0.08)


def test_open_shares_no_photograph_between_splits() -> None:
    """And its test split rests on many."""
    groups: dict[str, set[str]] = {"val": set(), "test": set()}
    for row in published_rows("open").values():
        groups[row.split].add(row.source_group)
        groups[row.split] |= {
            note.removeprefix("donor ")
            for note in row.provenance.split("; ")
            if note.startswith("donor ")
        }
    assert not groups["val"] & groups["test"]
    assert len(groups["test"]) >= 40


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("visible", [False, True])
def test_seams(seed: int, visible: bool) -> None:
    """Beyond a few pixels of the edge: the host outside, the pasted picture inside."""
    host, pasted = smooth(1), smooth(2)
    region, notes = random_region(96, stream(seed)), []
    if visible:
        composed = visible_seam(host, pasted, region, stream(seed), notes=notes)
    else:
        composed = soft_seam(host, pasted, region, stream(seed))
    near = 9
    outside = ~ndimage.binary_dilation(region, iterations=near)
    inside = ndimage.binary_erosion(region, iterations=near)
    assert np.array_equal(composed[outside], host[outside])
    assert np.array_equal(composed[inside], pasted[inside])
    assert bool(notes) == visible


def test_every_visible_seam_comes_up_and_shows() -> None:
    """Hard, line and smeared; each changes pixels at the edge of a copy of the host itself."""
    host = np.asarray(noisy(smooth(1), 60, stream(0)))
    region = random_region(96, stream(3))
    kinds = set()
    for seed in range(20):
        notes: list[str] = []
        composed = visible_seam(host, host, region, stream(seed), notes=notes)
        kinds.add(notes[0])
        assert np.array_equal(composed, host) == (notes[0] == "seam hard")
    assert kinds == {"seam hard", "seam line", "seam smeared"}


def test_resampled_fetches_from_the_shift() -> None:
    """At 100 % without a turn, whole pixels are copied into the region's box."""
    image = np.asarray(noisy(smooth(1), 100, stream(0)))
    region = np.zeros((96, 96), dtype=bool)
    region[30:50, 20:44] = True
    found = resampled(image, region, 100, 0, shift=(20, 30))
    assert np.array_equal(found[30:50, 20:44], image[50:70, 50:74])
    assert np.array_equal(found[:20], image[:20])


@pytest.mark.parametrize("scale", [60, 180])
def test_resampled_scales(scale: int) -> None:
    """A line of width w becomes one of scale · w."""
    image = np.full((96, 96, 3), 60, np.uint8)
    image[:, 40:60] = 200
    region = np.zeros((96, 96), dtype=bool)
    region[20:76, 20:80] = True
    found = resampled(image, region, scale, 0, shift=(0, 0))
    row = found[48, 14:86, 0] > 130
    assert row.sum() == pytest.approx(20 * scale / 100, abs=2)


def test_other_sharpness_changes_the_gradient() -> None:
    """Blurred pictures lose gradient energy, sharpened ones gain, and both come up."""
    image = np.asarray(noisy(smooth(4), 80, stream(0)))
    energy = np.abs(np.diff(image.astype(int), axis=1)).mean()
    seen = set()
    for seed in range(12):
        notes: list[str] = []
        after = np.abs(np.diff(other_sharpness(image, stream(seed), notes).astype(int), axis=1))
        verb = notes[0].split()[0]
        seen.add(verb)
        assert (after.mean() < 0.8 * energy) if verb == "blurred" else (after.mean() > energy)
    assert seen == {"blurred", "sharpened"}


@pytest.mark.parametrize("seed", range(8))
def test_other_light_is_a_gain_and_a_slope(seed: int) -> None:
    """At the region's centre of a flat picture: the gains that the note tells."""
    flat = np.full((96, 96, 3), 120, np.uint8)
    region = np.zeros((96, 96), dtype=bool)
    region[30:61, 40:81] = True
    notes: list[str] = []
    lit = other_light(flat, region, stream(seed), notes)
    gains = [int(gain) for gain in notes[0].split()[1].removesuffix("%").split(",")]
    assert lit[45, 60] == pytest.approx([120 * gain / 100 for gain in gains], abs=1)
    assert all(abs(gain - 100) >= 7 for gain in gains)


def test_noise_per_pixel() -> None:
    """The region has its own deviation, in tenths of a level."""
    flat = np.full((256, 256, 3), 128, np.uint8)
    sigma = np.full((256, 256), 5, np.int32)
    sigma[:, 128:] = 35
    found = noisy(flat, sigma, stream(1)).astype(float) - 128
    for part, expected in ((found[:, :128], 0.5), (found[:, 128:], 3.5)):
        assert part.std() == pytest.approx(np.sqrt(expected**2 + 1 / 12), rel=0.02)
        assert abs(part.mean()) < 0.05
    assert np.array_equal(noisy(flat, 0, stream(1)), flat)


def test_processing_keeps_the_picture() -> None:
    """Each step leaves shape and mean, and takes less than six levels off on average."""
    image = smooth(5)
    found = [on_random_grid(image, 70, stream(0)), rescaled(image, 70), rescaled(image, 130)]
    for picture in [*found, blurred(image, 7)]:
        assert picture.shape == image.shape
        assert picture.dtype == np.uint8
        assert not np.array_equal(picture, image)
        assert np.abs(picture.astype(int) - image).mean() < 6
    assert np.array_equal(on_random_grid(image, 0, stream(0)), image)


@pytest.mark.parametrize("kind", ["splice", "copymove", "none"])
def test_the_mask_is_where_the_forgery_is(kind: Kind) -> None:
    """Over many, pixels step more at the mask's edge than elsewhere; authentic ones have none."""
    photographs = photographs_of("train")
    at_edge, elsewhere = [], []
    for seed in range(8):
        forgery = make_forgery(kind, photographs, 128, stream(seed))
        assert forgery.image.shape == (128, 128, 3)
        if kind == "none":
            assert not forgery.mask.any()
            continue
        steps = np.abs(np.diff(forgery.image.astype(int), axis=1)).mean(2)
        edge = np.diff(forgery.mask.astype(int), axis=1) != 0
        at_edge.append(steps[edge].mean())
        elsewhere.append(steps[~edge].mean())
    assert kind == "none" or np.mean(at_edge) > 1.1 * np.mean(elsewhere)


def test_same_edition_same_bytes() -> None:
    """The maker is a function of its stream."""
    for kind in FORGED:
        one, other = (make_forgery(kind, photographs_of("val"), 128, stream(9)) for _ in range(2))
        assert np.array_equal(one.image, other.image)
        assert one.notes == other.notes
    assert BUILTIN_2.make is make_forgery
