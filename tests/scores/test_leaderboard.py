"""The ranking of defenses against a plain computation; the same records, the same bytes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from advbench.errors import AdvbenchError
from advbench.scores.intervals import Bootstrap, loss_bound
from advbench.scores.leaderboard import board_name, leaderboard, missing_cells, tuned
from advbench.scores.records import read_records, write_merged
from advbench.scores.tables import as_csv
from advbench.scores.worst_case import worst_case
from tests.scores.made import frame, record, row

IMAGES = [f"{n:02}" for n in range(20)]
JPEG_90 = '{"defense": "jpeg", "quality": 90.0}'


def cell(
    variant: str, mcc: float, defense: str = "none", strength: float = math.nan, **changes: Any
):
    """Records of one variant behind a defense, around a mean; F1 is as much above 0.5 as MCC."""
    name, _, rest = variant.partition("-")
    intensity = float(rest.partition("@")[0] or "nan")
    spread = np.random.default_rng(len(defense)).normal(0, 0.05, len(IMAGES))
    spread -= spread.mean()
    fields: dict[str, Any] = {
        "attack": name,
        "variant": variant,
        "intensity": intensity,
        "budget": math.nan if name in ("original", "cw") else intensity,
        "linf": 0.0 if name == "original" else min(intensity, 2.0),
        "defense": defense,
        "strength": strength,
        "defense_spec": json.dumps({"defense": defense, "quality": strength}),
    }
    if "@" in variant:
        fields |= {"threat": "adaptive", "through": fields["defense_spec"]}
    return frame(
        [
            record(
                image, mcc=mcc + s, f1=0.5 + (mcc + s) / 2, source_group=image, **fields | changes
            )
            for image, s in zip(IMAGES, spread, strict=True)
        ]
    )


def cells(defense: str, strength: float, **mcc: float) -> list[pd.DataFrame]:
    """Variants (``pgd_3``) to mean MCC."""
    return [
        cell(variant.replace("_", "-", 1), value, defense, strength)
        for variant, value in mcc.items()
    ]


@pytest.fixture
def records() -> pd.DataFrame:
    """JPEG 90 is the best under both attacks, 70 the second; undefended nothing is left."""
    return pd.concat(
        [
            *cells("none", math.nan, original=0.8, fgsm_3=0.1, pgd_1=0.1, pgd_3=-0.2),
            *cells("jpeg", 70.0, original=0.5, fgsm_3=0.45, pgd_1=0.4, pgd_3=0.3),
            *cells("jpeg", 90.0, original=0.7, fgsm_3=0.6, pgd_1=0.5, pgd_3=0.5),
        ],
        ignore_index=True,
    )


@pytest.fixture
def adaptive(records) -> pd.DataFrame:
    """Attacked through themselves, 70 keeps more than 90."""
    return pd.concat(
        [
            records,
            cell("pgd-3@jpeg-70", 0.25, "jpeg", 70.0),
            cell("pgd-3@jpeg-90", 0.1, "jpeg", 90.0),
        ],
        ignore_index=True,
    )


def ranks(board: pd.DataFrame) -> dict[tuple[str, float], int]:
    ranked = board[board["rank"].notna()]
    keys = zip(ranked.defense, ranked.strength.fillna(0), strict=True)
    return dict(zip(keys, ranked["rank"].tolist(), strict=True))


def test_ranked_by_the_worst_case_of_each_image(records):
    board = leaderboard(records)
    assert ranks(board) == {("jpeg", 90): 1, ("jpeg", 70): 2}
    assert str(board["rank"].dtype) == "Int64"
    best = row(board, defense="jpeg", strength=90.0)
    own = records[(records.defense == "jpeg") & (records.strength == 90)]
    lowest = {name: own[own.sample_id == name].mcc.min() for name in sorted(set(own.sample_id))}
    assert best.worst_mcc == pytest.approx(np.mean(list(lowest.values())))
    bootstrap = Bootstrap(IMAGES)
    expected = bootstrap.interval(bootstrap.means(np.array(list(lowest.values()))))
    assert (best.worst_mcc_low, best.worst_mcc_high) == pytest.approx(expected)
    assert best.worst_variant in ("pgd-1", "pgd-3")
    assert best.original_mcc == pytest.approx(0.7)
    clean = records[(records.attack == "original") & (records.defense == "none")]
    lost = [
        max(0, c - own[own.sample_id == name].f1.min())
        for name, c in zip(clean.sample_id, clean.f1, strict=True)
    ]
    assert best.lost_f1 == pytest.approx(np.mean(lost))
    assert best.lost_f1_bound == pytest.approx(loss_bound(np.array(lost), IMAGES))


def test_rp_per_attack_and_their_mean(records):
    """Each attack over its intensities, then over attacks; F1 is 0.5 + MCC / 2."""
    best = row(leaderboard(records), defense="jpeg", strength=90.0)
    clean = 0.5 + 0.8 / 2
    fgsm, pgd = (100 * (0.5 + mcc / 2) / clean for mcc in (0.6, 0.5))
    assert best.fgsm_rp == pytest.approx(fgsm)
    assert best.pgd_rp == pytest.approx(pgd)
    assert best.mean_rp == pytest.approx((fgsm + pgd) / 2)
    assert best.mean_rp_low < best.mean_rp < best.mean_rp_high
    assert best.original_rp == pytest.approx(100 * 0.85 / clean)


def test_attacks_through_the_defense_decide(adaptive):
    """Static RP stands beside, untouched; 90, which was first, is second."""
    board = leaderboard(adaptive)
    assert ranks(board) == {("jpeg", 70): 1, ("jpeg", 90): 2}
    second = row(board, defense="jpeg", strength=90.0)
    assert second.worst_variant == "pgd-3@jpeg-90"
    assert second.worst_over == "fgsm-3 original pgd-1 pgd-3 pgd-3@jpeg-90"
    assert second.worst_mcc == pytest.approx(0.1)
    assert second.pgd_adaptive_rp == pytest.approx(100 * 0.55 / 0.9)
    assert second.pgd_rp == pytest.approx(100 * 0.75 / 0.9)
    assert math.isnan(row(board, defense="none").pgd_adaptive_rp)
    assert row(board, defense="none").note == "not told apart from a map that knows nothing"


def test_the_name_says_static(records, adaptive):
    assert board_name(records) == "mine-static"
    assert board_name(adaptive) == "mine"


def test_what_the_attacker_may_choose_from():
    """Static and adaptive, moved by up to 3 grey levels as stored; the original too."""
    shared = {"defense": "jpeg", "strength": 90.0}
    found = worst_case(
        pd.concat(
            [
                cell("original", 0.4, **shared),
                cell("pgd-3", 0.5, **shared),
                cell("cw-250", 0.1, linf=5.0, **shared),
                cell("pgd-32", 0.0, linf=32.0, **shared),
                cell("square-3", 0.0, threat="query", **shared),
                cell("bim-3", 0.0, threat="transfer", surrogate="code", **shared),
            ],
            ignore_index=True,
        )
    )
    assert found.mcc.mean() == pytest.approx(0.4)
    assert set(found.variant) == {"original"}


def test_overlapping_intervals_share_a_rank(records):
    twin = records[records.strength == 90].assign(defense="median")
    twin["mcc"] += 0.001
    board = leaderboard(pd.concat([records, twin], ignore_index=True))
    assert ranks(board) == {("median", 90): 1, ("jpeg", 90): 1, ("jpeg", 70): 3}
    first = board.iloc[0]
    assert first.defense == "median"
    # The same images: their difference has no spread, though their intervals overlap.
    assert [first.lead, first.lead_low, first.lead_high] == pytest.approx([0.001] * 3)


def test_one_photograph_gives_no_interval_and_so_no_rank(records):
    board = leaderboard(records.assign(source_group="one"))
    assert not ranks(board)
    assert set(board[board.complete].note) == {"no interval: fewer than two source photographs"}


def test_a_map_that_marks_everything_has_no_rank(records):
    """As gaussian 10 before ifosn, with the RP of that floor."""
    counts = {"tp": 4, "fp": 96, "fn": 0, "tn": 0}
    blur = records[records.strength == 70].assign(defense="gaussian", mcc=0.0, f1=8 / 104, **counts)
    board = leaderboard(pd.concat([records, blur], ignore_index=True))
    found, floor = (row(board, defense=name) for name in ("gaussian", "all forged"))
    assert pd.isna(found["rank"])
    assert found.note == "not told apart from a map that knows nothing"
    assert found.fgsm_rp == pytest.approx(floor.fgsm_rp)
    assert (floor.worst_mcc, floor.note) == (0, "a floor")


def test_a_failed_gate_takes_the_rank(records):
    beyond = records.copy()
    where = (beyond.strength == 90) & (beyond.variant == "fgsm-3")
    beyond.loc[where, "budget"] = 1.0
    best = row(leaderboard(beyond), defense="jpeg", strength=90.0)
    assert pd.isna(best["rank"])
    assert (best.gates, best.note) == ("FAIL budget", "a gate fails")


@pytest.mark.parametrize("missing", ["variant", "image"])
def test_what_has_met_less_has_no_rank_and_is_told_how_to(records, missing):
    best = records[records.strength == 90].assign(defense="median", mcc=1.0)
    best["defense_spec"] = '{"defense": "median", "kernel": 90.0}'
    where = best.variant == "fgsm-3" if missing == "variant" else best.sample_id == "mine/03"
    every = pd.concat([records, best[~where]], ignore_index=True)
    board = leaderboard(every)
    found = row(board, defense="median")
    assert pd.isna(found["rank"])
    assert ranks(board) == {("jpeg", 90): 1, ("jpeg", 70): 2}
    (lacking,) = missing_cells(every)
    if missing == "variant":
        assert found.note == "has not met fgsm-3 (20 images)"
    else:
        assert "original (1 images)" in found.note
    assert lacking.commands == [
        "advbench evaluate --victim ifosn --dataset mine --defense median --set kernel=90"
    ]


def test_an_attack_through_one_defense_must_be_met_by_all(adaptive):
    """Before every victim of the dataset; the commands make and score it."""
    without = adaptive[adaptive.variant != "pgd-3@jpeg-70"]
    other = without[without.threat == "static"].assign(victim="code", dataset="mine")
    every = pd.concat([without, other], ignore_index=True)
    board = leaderboard(every)
    assert ranks(board[board.victim == "ifosn"]) == {("jpeg", 90): 1}
    assert ranks(board[board.victim == "code"]) == {}
    found = row(board, victim="ifosn", defense="jpeg", strength=70.0)
    assert found.note == "has not met pgd-3 through it (20 images)"
    lacking = missing_cells(every)
    assert [(one.about["victim"], one.about["strength"]) for one in lacking] == [
        ("code", 70), ("code", 90), ("ifosn", 70)
    ]  # fmt: skip
    assert lacking[-1].commands == [
        "advbench generate --victim ifosn --dataset mine --attack pgd --eps 3 --through jpeg-70",
        "advbench evaluate --victim ifosn --dataset mine --defense jpeg --set quality=70",
    ]


def test_commands_name_regions_and_authentic_images(adaptive):
    """Of validation images too, which lie under a name of their own."""
    seam = cell("pgd-1@jpeg-90", 0.6, "jpeg", 90.0, region="seam").assign(tp=0, fn=0)
    every = pd.concat([adaptive, seam.assign(sample_id="mine/authentic")[:1]], ignore_index=True)
    (lacking,) = missing_cells(every.assign(dataset="mine-val"))
    assert lacking.commands[0] == (
        "advbench generate --victim ifosn --dataset mine --split val --images all --attack pgd "
        "--eps 1 --set region=seam --through jpeg-70"
    )


@pytest.mark.parametrize("undefended", [True, False])
def test_other_pixels_than_the_undefended_have_no_rank(records, undefended):
    """Two sets of images under one name, as when shards were made anew in between."""
    where = (records.defense == "none") if undefended else (records.strength == 90)
    changed = records.copy()
    changed.loc[where & (records.variant == "pgd-3"), "image_sha256"] = "2" * 64
    board = leaderboard(changed)
    assert ranks(board) == ({} if undefended else {("jpeg", 70): 1})
    told = set(board[board.note.str.startswith("other images")].strength)
    assert told == ({70, 90} if undefended else {90})


def test_two_networks_and_images_without_reference_have_no_rank(records):
    mixed = records[records.strength == 90].assign(defense="median")
    mixed.loc[mixed.sample_id == "mine/03", "defense_spec"] = "another"
    board = leaderboard(pd.concat([records, mixed], ignore_index=True))
    assert row(board, defense="median").note == "its records come from two networks"
    assert len(ranks(board)) == 2

    clean = (records.defense == "none") & (records.attack == "original")
    board = leaderboard(records[~(clean & (records.sample_id == "mine/03"))])
    assert ranks(board) == {}


def test_authentic_images_stand_beside_and_weigh_nothing(records):
    blank = {"tp": 0, "fn": 0, "fp": 1, "tn": 99, "f1": math.nan, "mcc": math.nan, "iou": math.nan}
    parts = [records]
    for marked, variant in ((0.005, "original"), (0.3, "frame-1"), (0.2, "frame-3")):
        for defense, strength in (("none", math.nan), ("jpeg", 70.0), ("jpeg", 90.0)):
            part = cell(variant, 0.0, defense, strength).assign(marked=marked, **blank)
            part.loc[part.index[0], "marked"] = 0.6
            parts.append(part.assign(sample_id=part.sample_id + "-authentic"))
    board, plain = leaderboard(pd.concat(parts, ignore_index=True)), leaderboard(records)
    found = row(board, defense="jpeg", strength=70.0)
    assert found.marked_authentic == pytest.approx((0.6 + 19 * 0.005) / 20)
    assert found.alarms_authentic == pytest.approx(1 / 20)
    assert found.framed_authentic == pytest.approx((0.6 + 19 * 0.3) / 20)
    assert (found.n, found.n_authentic) == (20, 20)
    assert ranks(board) == ranks(plain)
    same = ["worst_mcc", "fgsm_rp", "mean_rp", "original_rp"]
    pd.testing.assert_frame_equal(board[same], plain[same])
    everything = row(board, defense="all forged")
    assert (everything.marked_authentic, everything.alarms_authentic) == (1, 1)


def test_nothing_to_compare_with_has_no_rank(records):
    board = leaderboard(records.assign(f1=0.0, mcc=0.0))
    assert board.mean_rp.isna().all()
    assert ranks(board) == {}


def test_tuned_on_other_images(records):
    """JPEG 90 is the better one on these; where 70 is on others, 70 is shown."""
    others = records.assign(dataset="others")
    better = others.defense.eq("jpeg") & others.strength.eq(70)
    others.loc[better, "mcc"] = 0.9
    board = leaderboard(tuned(records, others))
    whole = leaderboard(records)
    assert ranks(board) == {("jpeg", 70): 1}
    for column in ["original_rp", "worst_mcc", "mean_rp", "content_sha256"]:
        assert row(board, defense="jpeg")[column] == row(whole, strength=70.0)[column]
    assert ranks(leaderboard(tuned(records, records))) == {("jpeg", 90): 1}
    with pytest.raises(AdvbenchError, match=r"others: jpeg before \w+ is not complete there"):
        tuned(records, others[others.defense == "none"])
    with pytest.raises(
        AdvbenchError, match=r"jpeg before \w+ is not complete there at a strength that is here"
    ):
        tuned(records[records.strength != 70], others)


def test_victims_and_protocols_are_ranked_apart(records):
    other = records.assign(victim="code")
    third = records.assign(protocol="f1/other")
    board = leaderboard(pd.concat([records, other, third], ignore_index=True))
    assert sorted(board["rank"].dropna()) == [1, 1, 1, 2, 2, 2]


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


def test_order_of_records_does_not_matter(adaptive, tmp_path: Path):
    shuffled = adaptive.sample(frac=1, random_state=0)
    assert as_csv(leaderboard(shuffled)) == as_csv(leaderboard(adaptive))
    write_merged(tmp_path / "all.parquet", shuffled)
    merged = read_records(tmp_path / "all.parquet")
    assert as_csv(leaderboard(merged)) == as_csv(leaderboard(adaptive))
    write_merged(tmp_path / "again.parquet", merged)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "all.parquet").read_bytes()
