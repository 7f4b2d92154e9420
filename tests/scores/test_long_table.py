"""The long table: means over images, RP as a ratio of dataset means over the same images."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from advbench.rng import numpy_stream
from advbench.scores.intervals import DRAWS
from advbench.scores.tables import long_table, write_tables

from .made import frame, record, row, scored

CLEAN = {"a": 0.8, "b": 0.2}


def test_rp_is_a_ratio_of_means() -> None:
    """0.4 and 0.2 of 0.8 and 0.2 make 60 %, where the mean of ratios would make 75 %."""
    table = long_table(frame(scored(CLEAN), scored({"a": 0.4, "b": 0.2}, "pgd-1")))
    attacked = row(table, attack="pgd")
    assert attacked.f1 == pytest.approx(0.3)
    assert attacked.rp == pytest.approx(60)
    assert (attacked.n, attacked.n_authentic) == (2, 0)
    original = row(table, attack="original")
    assert original.f1 == pytest.approx(0.5)
    assert original.rp == pytest.approx(100)


def test_defended_originals_too() -> None:
    """A defended original is measured by the undefended one; above 100 % is possible."""
    table = long_table(
        frame(
            scored(CLEAN),
            scored({"a": 0.9, "b": 0.3}, defense="jpeg", strength=75.0),
            scored({"a": 0.3, "b": 0.1}, "pgd-3", defense="jpeg", strength=75.0),
        )
    )
    assert row(table, attack="original", defense="jpeg").rp == pytest.approx(120)
    assert row(table, attack="pgd", defense="jpeg").rp == pytest.approx(40)


def test_same_images_where_fewer_were_attacked() -> None:
    """An attack on some of the images is measured by the originals of those alone."""
    table = long_table(frame(scored(CLEAN), scored({"a": 0.4}, "pgd-1")))
    assert row(table, attack="pgd").rp == pytest.approx(50)
    assert row(table, attack="pgd").n == 1


def test_same_images_where_a_score_is_undefined() -> None:
    """An image without a defined F1 drops out of both means."""
    table = long_table(frame(scored(CLEAN), scored({"a": 0.4, "b": math.nan}, "pgd-1")))
    attacked = row(table, attack="pgd")
    assert attacked.f1 == pytest.approx(0.4)
    assert attacked.n == 1
    assert attacked.rp == pytest.approx(50)


def test_same_images_where_an_original_is_missing() -> None:
    """An image whose original was not scored says nothing about what was kept."""
    table = long_table(frame(scored({"a": 0.8}), scored({"a": 0.4, "c": 0.6}, "pgd-1")))
    assert row(table, attack="pgd").rp == pytest.approx(50)


@pytest.mark.parametrize("clean", [{"a": 0.0, "b": 0.0}, {"a": math.nan, "b": math.nan}, {}])
def test_no_rp_without_a_reference(clean: dict[str, float]) -> None:
    """Nothing found undefended, or nothing defined: RP is NaN, not infinite and not 0."""
    table = long_table(frame(scored(clean), scored({"a": 0.4, "b": 0.2}, "pgd-1")))
    assert math.isnan(row(table, attack="pgd").rp)
    assert row(table, attack="pgd").f1 == pytest.approx(0.3)


def test_authentic_images_have_no_f1_but_a_marked_area() -> None:
    """Their area, the share of them with more than 1 % of it, and in no other mean."""
    blank = {"tp": 0, "fn": 0, "f1": math.nan, "mcc": math.nan, "iou": math.nan, "auc": math.nan}
    areas = {"x": 0.0, "y": 0.01, "z": 0.05, "w": 0.1}
    authentic = [record(name, marked=area, **blank) for name, area in areas.items()]
    table = long_table(frame(scored(CLEAN), authentic, scored({"a": 0.4, "b": 0.2}, "pgd-1")))
    original = row(table, attack="original")
    assert (original.n, original.n_authentic, original.f1) == (2, 4, 0.5)
    assert original.marked_authentic == pytest.approx(0.04)
    assert original.alarms_authentic == pytest.approx(0.5)
    assert original.rp == pytest.approx(100)
    attacked = row(table, attack="pgd")
    assert (attacked.n, attacked.n_authentic) == (2, 0)
    assert math.isnan(attacked.marked_authentic)


def test_no_rp_where_marking_everything_is_as_good() -> None:
    """Undefended 0.3 on images a third of which is forged (floor 0.5), 0.3 where a tenth is."""
    for share, rp in ((1 / 3, math.nan), (0.1, 100 * 0.2 / 0.3)):
        counts = {"tp": 0, "fp": 0, "fn": round(300 * share), "tn": round(300 * (1 - share))}
        cells = [
            [replace(one, **counts) for one in scored({"a": f1, "b": f1}, attack)]
            for attack, f1 in (("original", 0.3), ("pgd-1", 0.2))
        ]
        attacked = row(long_table(frame(*cells)), attack="pgd")
        assert attacked.rp == pytest.approx(rp, nan_ok=True)
        assert attacked.f1 == pytest.approx(0.2)
        assert attacked["mark"] == ("floor" if math.isnan(rp) else "")


@pytest.mark.parametrize(
    ("changes", "mark"),
    [({"linf": 0.0}, "unchanged"), ({"zero_gradients": 3.0}, "no gradient"), ({}, "")],
)
def test_an_attack_that_did_nothing_is_marked(changes: dict[str, float], mark: str) -> None:
    attacked = scored(CLEAN, "pgd-1", **{"linf": 1.0, **changes})
    table = long_table(frame(scored(CLEAN), attacked))
    assert row(table, attack="pgd")["mark"] == mark
    assert row(table, attack="original")["mark"] == ""


def test_intervals_are_those_of_plain_resampling() -> None:
    """Both ends of RP from photographs drawn in a loop, the undefended ones with them."""
    rng = np.random.default_rng(0)
    names = [f"{number:02}" for number in range(12)]
    clean = dict(zip(names, rng.uniform(0.5, 1, 12), strict=True))
    attacked = dict(zip(names, rng.uniform(0, 0.5, 12), strict=True))
    records = frame(scored(clean), scored(attacked, "pgd-1"))
    records["source_group"] = "p" + records.sample_id.str[-1]
    found = row(long_table(records), attack="pgd")
    assert found.photographs == 10
    groups = sorted(set(records.source_group))
    drawn = []
    for times in numpy_stream("bootstrap", *groups).multinomial(10, [0.1] * 10, DRAWS):
        above = below = 0.0
        for group, count in zip(groups, times, strict=True):
            for name in names:
                if f"p{name[-1]}" == group:
                    above += count * attacked[name]
                    below += count * clean[name]
        drawn.append(100 * above / below)
    assert [found.rp_low, found.rp_high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def test_threat_models_and_options_of_an_attack_never_share_a_cell() -> None:
    through = {"threat": "adaptive", "through": "{}", "defense": "jpeg", "strength": 75.0}
    table = long_table(
        frame(
            scored(CLEAN),
            scored({"a": 0.4}, "pgd-1", defense="jpeg", strength=75.0),
            scored({"a": 0.1}, "pgd-1", **through),
            scored({"a": 0.6}, "pgd-1", region="seam"),
            scored({"a": 0.7}, "pgd-1", target="pred"),
            scored({"a": 0.2}, "pgd-1", threat="transfer", surrogate="code"),
        )
    )
    assert row(table, threat="static", defense="jpeg").f1 == 0.4
    assert row(table, threat="adaptive").f1 == 0.1
    assert row(table, attack="pgd (region=seam)").f1 == 0.6
    assert row(table, attack="pgd (target=pred)").f1 == 0.7
    assert row(table, threat="transfer", attack="pgd (surrogate=code)").f1 == 0.2


OTHERS = [{"dataset": "other"}, {"victim": "code"}, {"weights": "random:0"}, {"protocol": "f2/v1"}]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_cells_do_not_mix(other: dict[str, str]) -> None:
    """Dataset, victim, weights and protocol each have a reference of their own."""
    attacked = {"a": 0.4, "b": 0.4}
    table = long_table(
        frame(
            scored(CLEAN),
            scored({"a": 0.1, "b": 0.1}, **other),
            scored(attacked, "pgd-1", **other),
            scored(attacked, "pgd-1"),
        )
    )
    ((column, value),) = other.items()
    assert len(table) == 4
    theirs = table[(table.attack == "pgd") & (table[column] == value)]
    ours = table[(table.attack == "pgd") & (table[column] != value)]
    assert theirs.rp.tolist() == pytest.approx([400])
    assert ours.rp.tolist() == pytest.approx([80])


def test_every_intensity_and_strength_is_a_row() -> None:
    """In order: undefended first, originals first, intensities and strengths rising."""
    cells = [
        scored(CLEAN, attack, defense=defense, strength=strength)
        for defense, strength in [("jpeg", 90.0), ("none", math.nan), ("jpeg", 50.0)]
        for attack in ("pgd-3", "cw-50", "original", "fgsm-1", "pgd-1")
    ]
    table = long_table(frame(*cells))
    assert list(zip(table.attack, table.intensity.fillna(0), strict=True)) == 3 * [
        ("original", 0),
        ("fgsm", 1),
        ("cw", 50),
        ("pgd", 1),
        ("pgd", 3),
    ]
    assert table.defense.tolist() == ["none"] * 5 + ["jpeg"] * 10
    assert table.strength.tolist()[5:] == [50] * 5 + [90] * 5


def test_order_of_records_is_immaterial() -> None:
    """The same records in another order make the same table."""
    records = frame(
        scored(CLEAN), scored(CLEAN, "zeta-1"), scored(CLEAN, "eta-1"), scored(CLEAN, "eta-2")
    )
    shuffled = records.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(long_table(records), long_table(shuffled))


def test_other_means() -> None:
    """Noise is the mean over images, L∞ the largest."""
    cell = scored({"a": 0.5, "b": 0.5}, "pgd-3", psnr=40.0)
    records = frame(scored(CLEAN), cell)
    records["linf"] = [0, 0, 3, 2]
    records["l2"] = [0, 0, 1.0, 3.0]
    attacked = row(long_table(records), attack="pgd")
    assert (attacked.linf, attacked.l2, attacked.psnr) == (3, 2, 40)


def test_csv(tmp_path: Path) -> None:
    """``long.csv`` has the promised columns, readable by pandas, and says the same."""
    records = frame(scored(CLEAN), scored({"a": 0.4, "b": 0.2}, "pgd-1"))
    returned, *_ = write_tables(records, tmp_path)
    data = (tmp_path / "long.csv").read_bytes()
    assert b"\r" not in data
    found = pd.read_csv(tmp_path / "long.csv")
    promised = ["dataset", "victim", "attack", "intensity", "defense", "strength", "f1", "rp", "n"]
    promised += ["protocol", "weights"]
    assert set(promised) <= set(found.columns)
    line = row(found, attack="pgd", defense="none")
    expected = ["mine", "ifosn", "pgd", 1, "none", 0.3, 60, 2, "f1/v1", "builtin"]
    assert [line[name] for name in promised if name != "strength"] == pytest.approx(expected)
    assert math.isnan(line.strength)
    assert found.f1.tolist() == pytest.approx(returned.f1.tolist(), abs=5e-5)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["gates.csv", "long.csv", "mine.csv"]
