"""Leaderboards: defenses ranked for each victim of a dataset, derived from records alone."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd

from advbench.errors import AdvbenchError
from advbench.scores.tables import long_table, wide_table

_VICTIM = ["victim", "size", "weights_sha256", "protocol"]
_DEFENSE = [*_VICTIM, "defense"]
_ROW = [*_DEFENSE, "strength"]


def leaderboard(records: pd.DataFrame) -> pd.DataFrame:
    """One dataset's leaderboard: one row per victim, protocol, defense and strength.

    ``rank`` orders the defenses of one victim by ``mean_rp``, the mean RP over attacks, then by
    ``worst_rp``. An attack's RP is the mean over its intensities (:func:`wide_table`);
    ``original_rp`` stands beside them and in neither; ``n`` is the fewest images behind any
    column. A defense that has not met every attack and intensity that another one of the same
    victim has met, on the same images to the pixel, has no rank; equals share one.
    ``content_sha256`` is over the ids and pixels of all images behind the row.

    Args:
        records: of one dataset.

    Returns:
        RP in percent, 0 and up; NaN where an attack was not met.
    """
    boards = [_one_victim(part) for _, part in records.groupby(_VICTIM, dropna=False, sort=True)]
    return pd.concat(boards, ignore_index=True)


def tuned(records: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
    """Of each victim's defense the records at one strength: that which ranks first on other images.

    Args:
        records, validation: each of one dataset.

    Raises:
        AdvbenchError: a defense of ``records`` has no rank on ``validation``, or there at a
            strength that ``records`` lack.
    """
    ranked = leaderboard(validation).dropna(subset="rank").sort_values("rank", kind="stable")
    kept = records.merge(ranked.drop_duplicates(_DEFENSE)[_ROW], on=_ROW)
    lost = set(records[_DEFENSE].itertuples(index=False)) - set(
        kept[_DEFENSE].itertuples(index=False)
    )
    if lost:
        first = min(lost)
        raise AdvbenchError(
            f"{validation.dataset.iloc[0]}: {first.defense} before {first.victim} has no rank "
            "there at a strength that is here; evaluate the same defenses on both, all on the same "
            "attacks and images"
        )
    return kept


def _one_victim(records: pd.DataFrame) -> pd.DataFrame:
    # The same weights with and without their card have two labels.
    records = records.assign(weights=records.weights.iloc[0])
    board = wide_table(long_table(records))
    rp = board[[c for c in board.columns if c.endswith("_rp") and c != "original_rp"]]
    board = board.drop(columns=[c for c in board.columns if c.endswith("_f1")])
    # Rounded as they are printed: what cannot be told apart there is not ranked apart.
    board["mean_rp"] = rp.mean(axis=1, skipna=False).round(2)
    board["worst_rp"] = rp.min(axis=1, skipna=False).round(2)
    board["worst_attack"] = [
        "" if row.isna().all() else str(row.idxmin()).removesuffix("_rp")
        for _, row in rp.iterrows()
    ]
    cells = records.groupby(["defense", "strength"], dropna=False)
    behind = pd.DataFrame(
        [
            {"defense": name, "strength": strength} | _behind(part)
            for (name, strength), part in cells
        ]
    )
    board = board.merge(behind, on=["defense", "strength"], validate="one_to_one")
    fullest = set().union(*board.met)
    clean = records[(records.attack == "original") & (records.defense == "none")]
    referred = set(records.sample_id) <= set(clean.sample_id)
    complete = board[[met == fullest and referred for met in board.met]]
    pixels = set(complete.content_sha256[complete.defense == "none"]) or set(
        complete.content_sha256
    )
    same = complete[complete.content_sha256.isin(pixels) & (len(pixels) == 1)]
    better = ["mean_rp", "worst_rp"]
    ranked = same.dropna(subset="mean_rp").sort_values(better, ascending=False, kind="stable")
    places = pd.Series(range(1, len(ranked) + 1), index=ranked.index, dtype="Int64")
    board["rank"] = places.mask(ranked.duplicated(better)).ffill()
    for column in ("size", "weights_sha256"):
        board[column] = records[column].iloc[0]
    board = board.sort_values("rank", kind="stable", na_position="last")
    first = ["victim", "size", "weights", "rank", "defense", "strength"]
    measured = ["original_rp", *rp.columns, "mean_rp", "worst_rp", "worst_attack"]
    last = ["n", "protocol", "weights_sha256", "defense_spec", "content_sha256", "version"]
    return board.reindex(columns=[*first, *measured, *last])


def _behind(records: pd.DataFrame) -> dict[str, Any]:
    """What one row of a leaderboard stands on."""
    images = sorted(records.sample_id + "," + records.variant + "," + records.image_sha256)
    return {
        # Two networks, as an evaluation that was cut leaves them, are not one defense.
        "met": frozenset(
            [] if records.defense_spec.nunique() > 1 else records.variant + "/" + records.sample_id
        ),
        "defense_spec": " ".join(sorted(set(records.defense_spec))),
        "content_sha256": hashlib.sha256("\n".join(images).encode()).hexdigest(),
        "version": " ".join(sorted(set(records.version))),
    }
