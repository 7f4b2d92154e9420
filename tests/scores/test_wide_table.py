"""The wide table of the paper's shape, and the floors under every score."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from advbench.rng import numpy_stream
from advbench.scores.floors import floors, with_floors
from advbench.scores.intervals import DRAWS
from advbench.scores.protocols import protocol
from advbench.scores.tables import wide_table, write_tables

from .made import frame, record, row, scored

CLEAN = {"a": 0.8, "b": 0.2}
JPEG = {"defense": "jpeg", "strength": 75.0}
CELLS = [
    scored(CLEAN),
    scored({"a": 0.6, "b": 0.2}, "pgd-1"),
    scored({"a": 0.2, "b": 0.2}, "pgd-2"),
    scored({"a": 0.0, "b": 0.1}, "pgd-3"),
    scored({"a": 0.1, "b": 0.1}, "fgsm-3"),
    scored({"a": 0.3, "b": 0.3}, "acme-1"),
    scored({"a": 0.7, "b": 0.3}, **JPEG),
    scored({"a": 0.4, "b": 0.4}, "pgd-1", **JPEG),
    scored({"a": 0.2, "b": 0.0}, "pgd-3", **JPEG),
]


def test_means_over_intensities() -> None:
    """Each attack is the mean over the intensities that were run, in F1 and in RP."""
    table = wide_table(frame(*CELLS))
    assert len(table) == 2
    undefended = row(table, defense="none")
    assert undefended.original_f1 == pytest.approx(0.5)
    assert undefended.original_rp == pytest.approx(100)
    assert undefended.pgd_f1 == pytest.approx((0.4 + 0.2 + 0.05) / 3)
    assert undefended.pgd_rp == pytest.approx((80 + 40 + 10) / 3)
    assert undefended.fgsm_rp == pytest.approx(20)
    defended = row(table, defense="jpeg", strength=75)
    assert defended.original_rp == pytest.approx(100)
    assert defended.pgd_f1 == pytest.approx((0.4 + 0.1) / 2)
    assert math.isnan(defended.fgsm_f1)
    assert undefended.n == defended.n == 2


def test_a_row_a_threat_model_with_the_same_originals() -> None:
    """Static and adaptive are never averaged; an original belongs to neither."""
    adaptive = {**JPEG, "threat": "adaptive", "through": "{}"}
    table = wide_table(frame(*CELLS, scored({"a": 0.0, "b": 0.1}, "pgd-3", **adaptive)))
    assert table.threat.tolist() == ["static", "static", "adaptive"]
    static, through = (row(table, defense="jpeg", threat=t) for t in ("static", "adaptive"))
    assert through.pgd_rp == pytest.approx(10)
    assert static.pgd_rp == pytest.approx(50)
    assert through.original_rp == static.original_rp == pytest.approx(100)


def test_intervals_of_a_mean_over_intensities() -> None:
    """The draws of the intensities are averaged draw by draw, not their ends."""
    rng, names = np.random.default_rng(3), [f"{n:02}" for n in range(20)]
    f1 = {a: dict(zip(names, rng.uniform(0.3, 0.9, 20), strict=True)) for a in ("o", "1", "3")}
    records = frame(scored(f1["o"]), scored(f1["1"], "pgd-1"), scored(f1["3"], "pgd-3"))
    records["source_group"] = records.sample_id
    (found,) = wide_table(records).itertuples()
    times = numpy_stream("bootstrap", *sorted(records.sample_id.unique())).multinomial(
        20, [1 / 20] * 20, DRAWS
    )
    values = {a: np.array([f1[a][name] for name in names]) for a in f1}
    drawn = 100 * sum((times @ values[a]) / (times @ values["o"]) for a in ("1", "3")) / 2
    expected = np.quantile(drawn, [0.025, 0.975])
    assert [found.pgd_rp_low, found.pgd_rp_high] == pytest.approx(expected)


def test_floors_are_rows() -> None:
    """Marking everything and nothing, with F1 and RP under every attack."""
    table = wide_table(with_floors(frame(*CELLS)))
    assert table.defense.tolist() == ["none", "jpeg", "all authentic", "all forged"]
    everything = row(table, defense="all forged")
    assert everything.original_f1 == everything.pgd_f1 == pytest.approx(8 / 104)
    assert everything.pgd_rp == pytest.approx(100 * 8 / 104 / 0.5)
    assert row(table, defense="all authentic").original_f1 == 0


def test_columns_as_in_the_paper() -> None:
    """Original, attacks in the paper's order, then those of plug-ins; undefended row first."""
    table = wide_table(frame(*reversed(CELLS)))
    scores = [name.removesuffix("_f1") for name in table.columns if name.endswith("_f1")]
    assert scores == ["original", "fgsm", "pgd", "acme"]
    assert table.defense.tolist() == ["none", "jpeg"]
    assert {"victim", "weights", "protocol", "strength", "n"} <= set(table.columns)


def test_n_is_the_least() -> None:
    """Where cells rest on different numbers of images, the smallest is told."""
    table = wide_table(frame(scored(CLEAN), scored({"a": 0.1}, "pgd-1")))
    assert table.n.tolist() == [1]


def test_one_file_a_dataset(tmp_path: Path) -> None:
    """Datasets are not averaged with each other."""
    other = scored({"a": 0.1, "b": 0.3}, dataset="other")
    write_tables(frame(*CELLS, other), tmp_path)
    found = pd.read_csv(tmp_path / "other.csv")
    assert found.original_f1.tolist()[:1] == [0.2]
    assert found.defense.tolist() == ["none", "all authentic", "all forged"]
    assert "pgd_f1" not in found.columns
    mine = pd.read_csv(tmp_path / "mine.csv")
    assert mine.original_f1.tolist()[:2] == [0.5, 0.5]
    assert mine.pgd_rp.tolist()[:2] == pytest.approx([43.33, 50], abs=0.005)


def test_victims_and_weights_have_rows_of_their_own() -> None:
    """Nothing is averaged over victims, nor over weights: labels never mix."""
    table = wide_table(
        frame(
            scored(CLEAN),
            scored({"a": 0.4, "b": 0.4}, weights="random:0"),
            scored({"a": 0.6, "b": 0.8}, victim="code"),
        )
    )
    found = {(one.victim, one.weights): one.original_f1 for one in table.itertuples()}
    assert found == pytest.approx(
        {("ifosn", "builtin"): 0.5, ("ifosn", "random:0"): 0.4, ("code", "builtin"): 0.7}
    )


def test_floors_by_brute_force() -> None:
    """Predictions of nothing and of everything, scored on the masks themselves."""
    rng = np.random.default_rng(0)
    f1, records, expected = protocol("f1/v1"), [], []
    for number, share in enumerate([0.05, 0.3, 0.7, 1.0]):
        truth = rng.random((9, 11 + number)) < share
        truth[0, 0] = True
        probability = rng.random(truth.shape, dtype=np.float32)
        counts = f1.counts(probability, truth, 0.5)
        records.append(record(str(number), **vars(counts)))
        blank = np.zeros(truth.shape, dtype=np.float32)
        expected.append([f1.f1(f1.counts(m, truth, 0.5)) for m in (blank, blank + 1)])
    # Another victim, an attack and a defense on the same images must not weigh them twice.
    more = [
        record("0", victim="code"),
        record("1", attack="pgd", tp=9),
        record("2", defense="jpeg"),
    ]
    (found,) = floors(frame(records, more)).itertuples()
    assert found.dataset == "mine"
    assert [found.all_zeros, found.all_ones] == pytest.approx(np.mean(expected, axis=0))
    assert found.all_zeros == 0


def test_floors_by_dataset() -> None:
    """Each dataset has its own; half forged gives 2/3."""
    half = {"tp": 10, "fn": 40, "fp": 5, "tn": 45}
    tenth = {"tp": 0, "fn": 10, "fp": 90, "tn": 0}
    table = floors(frame([record("a", **half), record("a", dataset="other", **tenth)]))
    found = dict(zip(table.dataset, table.all_ones, strict=True))
    assert found == pytest.approx({"mine": 2 / 3, "other": 2 * 10 / 110})
