"""The paper's figures on a toy: their numbers against what shards, masks and definitions give."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import advbench
from advbench.defenses.median import Median
from advbench.errors import AdvbenchError
from advbench.pipelines.cells import Cell
from advbench.report.figures.make import FigureJob, make
from advbench.report.picture import save
from tests.pipelines.conftest import ToyVictim, _make
from tests.scores.made import row


@pytest.fixture
def job(small_dataset, tmp_path) -> FigureJob:
    """FGSM at two intensities on four of the pictures."""
    fgsm = advbench.load_attack("fgsm", eps=[1, 3])
    victims = [_make(ToyVictim, 3)]
    return FigureJob("fig3", tmp_path / "out", [small_dataset], victims, [fgsm], limit=4)


@pytest.fixture
def flat_umap(monkeypatch):
    """UMAP replaced by the first three coordinates; what it was asked for is kept."""
    asked = []

    class Flat:
        def __init__(self, **settings):
            asked.append(settings)

        def fit_transform(self, points):
            return points[:, :3]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Flat, __spec__=object()))
    return asked


def f1_of(victim, image: np.ndarray, mask: np.ndarray) -> float:
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        marked = (victim.probabilities(x)[0, 0] > victim.threshold).numpy()
    return 2 * (marked & mask).sum() / (marked.sum() + mask.sum())


def test_fig3_has_the_scores_of_the_stored_images(job):
    made = make(job)
    (victim,) = job.victims
    stored = list(advbench.open_dataset(job.out))
    for eps in (1, 3):
        own = [item for item in stored if item["variant"] == f"fgsm-{eps}"]
        assert len(own) == 4
        found = row(made.numbers, attack="fgsm", intensity=eps)
        by_hand = [f1_of(victim, item["image"], item["mask"]) for item in own]
        assert found.f1 == pytest.approx(np.mean(by_hand), abs=1e-6)
        assert (found.n, found.photographs) == (4, 4)
    titles = {axis.get_title() for part in made.figure.subfigs for axis in part.axes}
    assert {"fgsm: F1", "fgsm: PSNR, dB"} <= titles


def test_fig4_has_a_chart_a_filter(job):
    filters = [Median.create(kernel=[3, 5])]
    made = make(replace(job, figure="fig4", filters=filters))
    behind = made.numbers[made.numbers.defense == "median"]
    assert set(zip(behind.attack, behind.strength, strict=True)) == {
        (attack, kernel) for attack in ("original", "fgsm") for kernel in (3, 5)
    }
    (part,) = made.figure.subfigs
    (axis,) = (axis for axis in part.axes if axis.get_title() == "median")
    drawn = {
        tuple(np.round(line.get_ydata(), 9)) for line in axis.lines if len(line.get_xdata()) > 1
    }
    means = behind.groupby(["attack", "strength"]).f1.mean().unstack()
    assert {tuple(np.round(line, 9)) for line in means.to_numpy()} <= drawn


def test_fig7_has_the_f1_of_the_masks_it_shows(job, tmp_path):
    (victim,) = job.victims
    cells = {victim.name: [Cell(Median.create(kernel=3), 3)]}
    attacks = [job.attacks[0].only([3])]
    made = make(replace(job, figure="fig7", attacks=attacks, cells=cells, limit=2))
    assert list(made.numbers.defense) == (["none"] * 2 + ["median-3"] * 2) * 2
    for item in advbench.open_dataset(job.out):
        if item["variant"] != "fgsm-3":
            continue
        for defense in ("none", "median-3"):
            image = item["image"]
            if defense != "none":
                image = Median().filter(np.ascontiguousarray(image), 3, ())
            found = row(
                made.numbers, sample_id=item["sample_id"], variant="fgsm-3", defense=defense
            )
            assert found.f1 == pytest.approx(f1_of(victim, image, item["mask"]))
    for kind in ("png", "pdf"):
        save(made.figure, tmp_path / f"fig7.{kind}")
        assert (tmp_path / f"fig7.{kind}").stat().st_size > 5000


def test_fig8_compares_with_both_originals(job, flat_umap):
    (victim,) = job.victims
    cells = {victim.name: [Cell(Median.create(kernel=3), 3)]}
    attacks = [job.attacks[0].only([3])]
    made = make(replace(job, figure="fig8", attacks=attacks, cells=cells))
    behind = made.numbers[made.numbers.defense == "median-3"]
    assert set(behind.beside) == {"originals", "originals behind it"}
    assert list(made.numbers[made.numbers.defense == "none"].space) == [
        *("pixels", "shallow", "middle", "topmost")
    ]
    images = {(i["variant"], i["sample_id"]): i["image"] for i in advbench.open_dataset(job.out)}
    ids = sorted({name for _, name in images})
    size = (4, 4 * len(ids))
    assert len(made.points) == size[0] * size[1]
    assert flat_umap[0]["n_components"] == 3
    assert flat_umap[0]["n_neighbors"] == len(ids) * 4 - 1
    (name,) = {axis.get_title().partition("\n")[0] for axis in made.figure.axes[:1]}
    assert name == "pixels"


def test_fig5_is_the_undefended_part_of_fig8(job, flat_umap):
    (victim,) = job.victims
    attacks = [job.attacks[0].only([3])]
    alone = make(replace(job, figure="fig5", attacks=attacks))
    cells = {victim.name: [Cell(Median.create(kernel=3), 3)]}
    both = make(replace(job, figure="fig8", attacks=attacks, cells=cells))
    undefended = both.numbers[both.numbers.defense == "none"].reset_index(drop=True)
    assert alone.numbers.equals(undefended)


def test_umap_that_is_missing_is_told(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        AdvbenchError, match=r"fig5 needs umap-learn: pip install 'advbench\[umap\]'"
    ):
        make(replace(job, figure="fig5"))
    assert not job.out.exists()


def test_too_few_images_are_told(job, flat_umap):
    with pytest.raises(AdvbenchError, match="fig8 needs at least 4 images, not 3: raise --limit"):
        make(replace(job, figure="fig8", limit=3))
    assert not job.out.exists()


def test_umap_itself(job):
    pytest.importorskip("umap")
    attacks = [job.attacks[0].only([3])]
    wanted = replace(job, figure="fig5", attacks=attacks)
    once, again = make(wanted), make(wanted)
    assert np.isfinite(once.points[["x", "y", "z"]]).all(axis=None)
    assert once.points.equals(again.points)
