"""Forgeries: masks exact by construction, the host untouched elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from advbench.datasets.builtin.forgeries import (
    HOST_NOISE,
    KINDS,
    make_forgery,
    match_colours,
    random_region,
)
from advbench.datasets.builtin.histories import random_history, random_view
from advbench.datasets.builtin.photographs import photographs_of
from advbench.datasets.manifest import Kind
from advbench.images import Image

PHOTOGRAPHS = photographs_of("train")[:2]
FORGED: list[Kind] = ["splice", "copymove", "removal"]


def stream(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def host_of(kind: Kind, size: int, seed: int) -> Image:
    """The finished host, drawn anew from the same stream."""
    rng = stream(seed)
    photo = PHOTOGRAPHS[rng.integers(0, len(PHOTOGRAPHS))]
    history = random_history(rng, *HOST_NOISE[kind])
    return history.apply(random_view(photo.load(), size, rng), rng)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([64, 97, 256]))
def test_region(seed: int, size: int) -> None:
    """One connected piece of 2 to 30 % of the picture."""
    region = random_region(size, stream(seed))
    assert region.shape == (size, size)
    assert region.dtype == np.bool_
    assert 0.02 <= region.mean() <= 0.30
    assert ndimage.label(region, np.ones((3, 3)))[1] == 1


def test_regions_lie_anywhere() -> None:
    """Different seeds, different places: the mean of many is no answer."""
    regions = np.array([random_region(64, stream(seed)) for seed in range(60)])
    centres = [ndimage.center_of_mass(region) for region in regions]
    assert np.std(centres, axis=0).min() > 6
    assert regions.mean(axis=0).max() < 0.5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", FORGED)
def test_host_outside_forgery_inside(kind: Kind, seed: int) -> None:
    """Beyond the soft seam every pixel is the host's; within, most are not."""
    host = host_of(kind, 128, seed)
    forgery = make_forgery(kind, PHOTOGRAPHS, 128, stream(seed))
    away = ~ndimage.binary_dilation(forgery.mask, np.ones((3, 3)), iterations=6)
    assert away.mean() > 0.3
    assert np.array_equal(forgery.image[away], host[away])
    inside = ndimage.binary_erosion(forgery.mask, iterations=3)
    changed = (forgery.image != host).any(axis=2)
    assert changed[inside].mean() > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_authentic_is_the_host(seed: int) -> None:
    """Nothing is pasted, and the mask is empty."""
    forgery = make_forgery("none", PHOTOGRAPHS, 128, stream(seed))
    assert np.array_equal(forgery.image, host_of("none", 128, seed))
    assert not forgery.mask.any()


def test_kinds_and_splices_differ() -> None:
    """The cycle holds each kind of forgery, the splice twice."""
    assert sorted(KINDS) == ["copymove", "removal", "splice", "splice"]
    images = [make_forgery(kind, PHOTOGRAPHS, 64, stream(5)).image for kind in FORGED]
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[1], images[2])


def pictures_of(donor_mean: int, host_mean: int, spread: int) -> tuple[Image, Image]:
    rng = np.random.default_rng(donor_mean)
    donor = rng.normal(donor_mean, spread, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    host = rng.normal(host_mean, 10, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    return donor, host


@pytest.mark.parametrize(("donor_mean", "host_mean"), [(60, 180), (180, 60), (100, 100)])
@pytest.mark.parametrize("spread", [6, 10, 18])
def test_match_colours(donor_mean: int, host_mean: int, spread: int) -> None:
    """In the region the mean becomes the host's and the deviation comes nearer to it."""
    donor, host = pictures_of(donor_mean, host_mean, spread)
    region = np.zeros((64, 64), dtype=bool)
    region[10:50, 20:60] = True
    host[~region] = 7
    matched = match_colours(donor, host, region)
    for channel in range(3):
        ours = matched[..., channel][region].astype(float)
        theirs = host[..., channel][region].astype(float)
        assert ours.mean() == pytest.approx(theirs.mean(), abs=2)
        off = abs(donor[..., channel][region].std() - theirs.std())
        assert abs(ours.std() - theirs.std()) <= max(0.67 * off, 1)


def test_match_colours_keeps_order() -> None:
    """One rising table a channel: equal levels stay equal, brighter ones stay no darker."""
    donor, host = pictures_of(60, 180, 18)
    region = np.zeros((64, 64), dtype=bool)
    region[:20, :20] = True
    matched = match_colours(donor, host, region)
    for channel in range(3):
        order = np.argsort(donor[..., channel].ravel(), kind="stable")
        before = donor[..., channel].ravel()[order]
        after = matched[..., channel].ravel()[order].astype(int)
        steps = np.diff(after)
        assert steps.min() >= 0
        assert not steps[np.diff(before) == 0].any()
