"""The ranking of defenses against a plain computation; the same records, the same bytes."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from advbench.errors import AdvbenchError
from advbench.scores.leaderboard import leaderboard, tuned
from advbench.scores.records import read_records, write_merged
from advbench.scores.tables import as_csv
from tests.scores.made import frame, row, scored

CLEAN = {"a": 0.8, "b": 0.4}


def defended(defense: str, strength: float, **f1: dict[str, float]) -> list[pd.DataFrame]:
    """Records of a defense: attack (``pgd_3`` for pgd-3) to F1 by image."""
    return [
        frame(scored(values, attack.replace("_", "-"), defense=defense, strength=strength))
        for attack, values in f1.items()
    ]


@pytest.fixture
def records() -> pd.DataFrame:
    nan = math.nan
    return pd.concat(
        [
            *defended("none", nan, original=CLEAN, fgsm_1={"a": 0.2, "b": 0.4},
                      fgsm_3={"a": 0.0, "b": 0.0}, pgd_3={"a": 0.3, "b": 0.3}),
            *defended("jpeg", 70.0, original={"a": 0.4, "b": 0.2}, fgsm_1={"a": 0.6, "b": 0.6},
                      fgsm_3={"a": 0.6, "b": 0.0}, pgd_3={"a": 0.12, "b": 0.0}),
            *defended("jpeg", 90.0, original=CLEAN, fgsm_1={"a": 0.6, "b": 0.6},
                      fgsm_3={"a": 0.6, "b": 0.0}, pgd_3={"a": 0.6, "b": 0.0}),
        ],
        ignore_index=True,
    )  # fmt: skip


def test_figures_and_order(records):
    board = leaderboard(records)
    assert list(board.defense) == ["jpeg", "jpeg", "none"]
    assert list(board["rank"]) == [1, 2, 3]
    assert str(board["rank"].dtype) == "Int64"
    first = row(board, defense="jpeg", strength=70.0)
    # By hand: the clean mean is 0.6; FGSM's two intensities have means 0.6 and 0.3, PGD 0.06.
    assert first["original_rp"] == pytest.approx(50)
    assert first["fgsm_rp"] == pytest.approx((100 + 50) / 2)
    assert first["pgd_rp"] == pytest.approx(10)
    assert first["mean_rp"] == pytest.approx(42.5)
    assert first["worst_rp"] == pytest.approx(10)
    assert first["worst_attack"] == "pgd"
    assert first["rank"] == 2


def test_equal_means_are_ordered_by_the_worst_attack(records):
    level = records[records.strength == 90].assign(defense="gaussian")
    level.loc[level.attack == "fgsm", "f1"] = 0.4  # RP 66.7 beside PGD's 50: mean 58.3
    even = level.assign(defense="median", f1=0.35)  # RP 58.3 everywhere
    board = leaderboard(pd.concat([records, level, even], ignore_index=True))
    gaussian, median = (row(board, defense=name) for name in ("gaussian", "median"))
    assert gaussian["mean_rp"] == pytest.approx(median["mean_rp"])
    assert median["rank"] == gaussian["rank"] - 1


@pytest.mark.parametrize("missing", ["variant", "image"])
def test_what_has_met_less_has_no_rank(records, missing):
    best = records[records.strength == 90].assign(defense="median", f1=1.0)
    where = best.variant == "fgsm-3" if missing == "variant" else best.sample_id == "mine/b"
    board = leaderboard(pd.concat([records, best[~where]], ignore_index=True))
    assert pd.isna(row(board, defense="median")["rank"])
    assert list(board["rank"])[:3] == [1, 2, 3]
    assert list(board.defense)[-1] == "median"


def test_equals_share_a_rank(records):
    twin = records[records.strength == 90].assign(defense="gaussian")
    board = leaderboard(pd.concat([records, twin], ignore_index=True))
    assert list(board["rank"]) == [1, 1, 3, 4]
    assert set(board.defense[:2]) == {"jpeg", "gaussian"}


@pytest.mark.parametrize("undefended", [True, False])
def test_other_pixels_than_the_undefended_have_no_rank(records, undefended):
    """Two sets of images under one name, as when shards were made anew in between."""
    where = (records.defense == "none") if undefended else (records.strength == 90)
    changed = records.copy()
    changed.loc[where & (records.variant == "pgd-3"), "image_sha256"] = "2" * 64
    board = leaderboard(changed)
    ranked = board[board["rank"].notna()]
    expected = [("none", 0)] if undefended else [("jpeg", 70), ("none", 0)]
    assert list(zip(ranked.defense, ranked.strength.fillna(0), strict=True)) == expected


def test_two_networks_and_images_without_reference_have_no_rank(records):
    mixed = records[records.strength == 90].assign(defense="median")
    mixed.loc[mixed.sample_id == "mine/a", "defense_spec"] = "another"
    board = leaderboard(pd.concat([records, mixed], ignore_index=True))
    assert pd.isna(row(board, defense="median")["rank"])
    assert board["rank"].notna().sum() == 3

    clean = (records.defense == "none") & (records.attack == "original")
    board = leaderboard(records[~(clean & (records.sample_id == "mine/b"))])
    assert board["rank"].isna().all()


def test_nothing_to_compare_with_has_no_rank(records):
    board = leaderboard(records.assign(f1=0.0))
    assert board.mean_rp.isna().all()
    assert board["rank"].isna().all()


def test_tuned_on_other_images(records):
    """JPEG 90 is the better one on these; where 70 is on others, 70 is shown."""
    others = records.assign(dataset="others")
    better = others.defense.eq("jpeg") & others.strength.eq(70) & others.attack.ne("original")
    others.loc[better, "f1"] = 0.9
    board = leaderboard(tuned(records, others))
    whole = leaderboard(records)
    assert list(zip(board.defense, board.strength.fillna(0), board["rank"], strict=True)) == [
        ("jpeg", 70, 1),
        ("none", 0, 2),
    ]
    shown = ["original_rp", "mean_rp", "worst_rp", "content_sha256"]
    for column in shown:
        assert row(board, defense="jpeg")[column] == row(whole, strength=70.0)[column]
    assert list(leaderboard(tuned(records, records)).strength.fillna(0)) == [90, 0]
    with pytest.raises(AdvbenchError, match=r"others: jpeg before \w+ has no rank there"):
        tuned(records, others[others.defense == "none"])
    with pytest.raises(
        AdvbenchError, match=r"jpeg before \w+ has no rank there at a strength that is here"
    ):
        tuned(records[records.strength != 70], others)


def test_victims_and_protocols_are_ranked_apart(records):
    other = records.assign(victim="code")
    third = records.assign(protocol="f1/other")
    board = leaderboard(pd.concat([records, other, third], ignore_index=True))
    assert sorted(board["rank"]) == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_content_hash_says_which_pixels(records):
    changed = records.copy()
    changed.loc[changed.index[-1], "image_sha256"] = "2" * 64
    hashes = [
        leaderboard(part).set_index(["defense", "strength"]).content_sha256.sort_index()
        for part in (records, changed)
    ]
    assert list(hashes[0].index[hashes[0] != hashes[1]]) == [("jpeg", 90.0)]


def test_other_files_and_the_same_records_twice_are_refused(records, tmp_path: Path):
    write_merged(tmp_path / "a.parquet", records)
    read_records(tmp_path)
    write_merged(tmp_path / "b.parquet", records)
    with pytest.raises(AdvbenchError, match="holds the same records twice"):
        read_records(tmp_path)
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(AdvbenchError, match=r"b\.parquet: no records of this version"):
        read_records(tmp_path)


def test_order_of_records_does_not_matter(records, tmp_path: Path):
    shuffled = records.sample(frac=1, random_state=0)
    assert as_csv(leaderboard(shuffled)) == as_csv(leaderboard(records))
    write_merged(tmp_path / "all.parquet", shuffled)
    merged = read_records(tmp_path / "all.parquet")
    assert as_csv(leaderboard(merged)) == as_csv(leaderboard(records))
    write_merged(tmp_path / "again.parquet", merged)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "all.parquet").read_bytes()
