"""Leaderboards: defenses ranked for each victim of a dataset, derived from records alone."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from advbench.errors import AdvbenchError
from advbench.scores.cells import ALARM, Cells, DefenseKey, in_papers_order, key_of
from advbench.scores.floors import FLOORS, with_floors
from advbench.scores.gates import Verdict, gates_of, worst
from advbench.scores.intervals import Values, loss_bound
from advbench.scores.missing import Missing, missing
from advbench.scores.threats import ADAPTIVE, STATIC
from advbench.scores.worst_case import within, worst_case

_VICTIM = ["victim", "size", "weights_sha256", "protocol"]
_DEFENSE = [*_VICTIM, "defense"]
_ROW = ["defense", "strength"]
# A map that knows nothing has an MCC of 0 on every image.
FLOOR = 0.0
_DIGITS = 4  # as printed: what cannot be told apart there is not ranked apart


def board_name(records: pd.DataFrame) -> str:
    """Name the leaderboard of one dataset; it says so where no defense was attacked through
    itself, and the ranks hold against an attacker who does not know the defense."""
    static = not (records.threat == ADAPTIVE).any()
    return f"{records.dataset.iloc[0]}{'-static' if static else ''}"


def leaderboard(records: pd.DataFrame) -> pd.DataFrame:
    """One dataset's leaderboard: one row per victim, protocol, defense and strength.

    ``rank`` orders the defenses of one victim by ``worst_mcc``: of each forged image the lowest
    MCC over every static and adaptive variant up to φ = 3, then the mean over images. A rank is
    one more than the number of rows whose intervals lie wholly above. ``note`` says why a row has
    none: it has not met what others have, on the same images to the pixel; or it is not told apart
    from a map that knows nothing; or a gate fails. What each column means: docs/leaderboard.md.

    Args:
        records: of one dataset.

    Returns:
        RP in percent, 0 and up; NaN where an attack was not met.
    """
    parts = [part for _, part in records.groupby(_VICTIM, dropna=False, sort=True)]
    boards = [_Victim(part, records).board() for part in parts]
    board = pd.concat(boards, ignore_index=True)
    last = [column for column in boards[0].columns if column in _LAST]
    return board[[*(c for c in board.columns if c not in _LAST), *last]]


def missing_cells(records: pd.DataFrame) -> list[Missing]:
    """Find what the rows of one dataset's leaderboard have not met, though others have."""
    parts = [part for _, part in records.groupby(_VICTIM, dropna=False, sort=True)]
    return [one for part in parts for one in missing(part, records) if one]


def tuned(records: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
    """Keep of each victim's defense the records at one strength: the best on other images.

    Args:
        records, validation: each of one dataset.

    Raises:
        AdvbenchError: a defense of ``records`` has not met everything on ``validation``, or there
            at a strength that ``records`` lack.
    """
    board = leaderboard(validation)
    best = board[board.complete].sort_values("worst_mcc", ascending=False, kind="stable")
    row = [*_DEFENSE, "strength"]
    kept = records.merge(best.drop_duplicates(_DEFENSE)[row], on=row)
    lost = set(records[_DEFENSE].itertuples(index=False)) - set(
        kept[_DEFENSE].itertuples(index=False)
    )
    if lost:
        first = min(lost)
        raise AdvbenchError(
            f"{validation.dataset.iloc[0]}: {first.defense} before {first.victim} is not complete "
            "there at a strength that is here; evaluate the same defenses on both, all on the same "
            "attacks and images"
        )
    return kept


_LAST = {
    *("mean_rp", "mean_rp_low", "mean_rp_high"),
    *("kept_psnr", "removed"),
    *("marked_authentic", "alarms_authentic", "framed_authentic"),
    *("n", "photographs", "n_authentic", "gates", "note", "complete"),
    *("worst_over", "protocol", "weights_sha256", "defense_spec", "content_sha256", "version"),
}


class _Victim:
    """The rows of one victim."""

    def __init__(self, records: pd.DataFrame, dataset: pd.DataFrame) -> None:
        # The same weights with and without their card have two labels.
        records = records.assign(weights=records.weights.iloc[0])
        self.records = records
        every = with_floors(records)
        self.cells = Cells(every)
        self.parts = {key_of(*key): p for key, p in every.groupby(_ROW, dropna=False, sort=True)}
        self.lowest = {
            key_of(*key): part
            for key, part in worst_case(every).groupby(_ROW, dropna=False, sort=True)
        }
        self.lacking = {
            key_of(one.about["defense"], one.about["strength"]): one
            for one in missing(records, dataset)
        }
        clean = records[(records.attack == "original") & (records.defense == "none")]
        self.clean = clean.set_index("sample_id").f1
        self.referred = set(records.sample_id) <= set(clean.sample_id)

    def board(self) -> pd.DataFrame:
        """All rows, ranked first."""
        rows = [self._row(key) for key in self.parts]
        pixels = self._pixels(rows)
        for row in rows:
            key = key_of(row["defense"], row["strength"])
            if key[0] in FLOORS:
                row |= {"note": "a floor", "complete": False}
                continue
            reason = self._not_comparable(key, row, pixels)
            row |= {"note": reason or _not_ranked(row), "complete": not reason}
        rows.sort(key=_place)
        _rank(rows)
        self._leads(rows)
        board = pd.DataFrame(rows).drop(columns="static_sha256")
        return board.astype({"rank": "Int64", "complete": bool})

    def _row(self, key: DefenseKey) -> dict[str, Any]:
        part = self.parts[key]
        first, strength = part.iloc[0], math.nan if key[1] is None else key[1]
        row = {"victim": first.victim, "size": first["size"], "weights": first.weights}
        row |= {"rank": None, "defense": key[0], "strength": strength}
        row |= self._worst(key)
        row |= self._scores(key)
        row |= _authentic(part)
        images = _images(part)
        found = gates_of(part) if key[0] not in FLOORS else []
        return row | {
            "gates": " ".join(
                dict.fromkeys(
                    [str(worst(found)), *(g.name for g in found if g.verdict == worst(found))]
                    if found and worst(found) != Verdict.PASS
                    else [str(Verdict.PASS)] * bool(found)
                )
            ),
            "protocol": first.protocol,
            "weights_sha256": first.weights_sha256,
            "defense_spec": " ".join(sorted(set(part.defense_spec))),
            "content_sha256": _sha256(images),
            "static_sha256": _sha256(_images(part[part.threat == STATIC])),
            "version": " ".join(sorted(set(part.version))),
        }

    def _worst(self, key: DefenseKey) -> dict[str, Any]:
        """The worst case of a row, and what is lost to it."""
        names = ("worst_mcc", "worst_mcc_low", "worst_mcc_high", "lead", "lead_low", "lead_high")
        row: dict[str, Any] = dict.fromkeys(names, math.nan)
        row |= {
            "worst_variant": "",
            "worst_over": "",
            "lost_f1": math.nan,
            "lost_f1_bound": math.nan,
        }
        if key not in self.lowest:
            return row
        part = self.lowest[key]
        drawn = self.cells.bootstrap.means(self._spread(part.set_index("sample_id").mcc))
        low, high = self.cells.bootstrap.interval(drawn)
        lost = (part.sample_id.map(self.clean) - part.f1).clip(lower=0)
        kept = lost.notna()
        means = within(self.parts[key]).groupby("variant").mcc.mean().dropna()
        return row | {
            "worst_over": " ".join(sorted(means.index)),
            "worst_mcc": float(part.mcc.mean()),
            "worst_mcc_low": low,
            "worst_mcc_high": high,
            "worst_variant": str(means.idxmin()),
            "lost_f1": float(lost.mean()),
            "lost_f1_bound": loss_bound(lost[kept].to_numpy(), part.source_group[kept].tolist()),
        }

    def _scores(self, key: DefenseKey) -> dict[str, Any]:
        """MCC and RP on originals, RP under each attack, static and adaptive, and the mean."""
        table = self.cells.select(key)
        original, forged = table[table.attack == "original"], table[table.n > 0]
        row: dict[str, Any] = {"original_mcc": original.mcc.mean()}
        row |= {"kept_psnr": original.kept_psnr.mean(), "removed": forged.removed.mean()}
        row |= self._rp("original", [original.index.tolist()])
        groups = {
            threat: {
                str(attack): part.index.tolist()
                for attack, part in forged[forged.threat == threat].groupby("attack", sort=False)
                if attack != "original"
            }
            for threat in (STATIC, ADAPTIVE)
        }
        every = self.cells.table[self.cells.table.n > 0]
        for threat, suffix in ((STATIC, ""), (ADAPTIVE, "_adaptive")):
            for attack in in_papers_order(every.attack[every.threat == threat]):
                if attack != "original":
                    row |= self._rp(f"{attack}{suffix}", [groups[threat].get(attack, [])])
        row |= self._rp("mean", list(groups[STATIC].values()))
        counts = {"n": forged.n.min(), "photographs": forged.photographs.min()}
        return row | counts | {"n_authentic": int(table.n_authentic.max())}

    def _rp(self, name: str, groups: Sequence[Sequence[int]]) -> dict[str, float]:
        names = (f"{name}_rp", f"{name}_rp_low", f"{name}_rp_high")
        return dict(zip(names, self.cells.mean_rp(groups), strict=True))

    def _pixels(self, rows: Sequence[dict[str, Any]]) -> set[str]:
        """The static images that rows must be on: the undefended victim's, or those of all."""
        whole = [r for r in rows if not self.lacking.get(key_of(r["defense"], r["strength"]), True)]
        undefended = {r["static_sha256"] for r in whole if r["defense"] == "none"}
        return undefended or {r["static_sha256"] for r in whole}

    def _not_comparable(self, key: DefenseKey, row: dict[str, Any], pixels: set[str]) -> str:
        """Say why a row cannot be compared with the others; empty where it can."""
        if self.parts[key].defense_spec.nunique() > 1:
            return "its records come from two networks"
        if self.lacking[key]:
            return str(self.lacking[key])
        if not self.referred:
            return "images without an undefended original"
        if pixels != {row["static_sha256"]}:
            return "other images than the undefended victim's: generate and evaluate again"
        return ""

    def _leads(self, rows: Sequence[dict[str, Any]]) -> None:
        """Measure how far each row lies before the next, image by image; the ranked among
        themselves, and those that could be compared."""
        there = [row for row in rows if row["complete"]]
        scores = [
            self._spread(
                self.lowest[key_of(row["defense"], row["strength"])].set_index("sample_id").mcc
            )
            for row in there
        ]
        pairs = zip(itertools.pairwise(there), itertools.pairwise(scores), strict=True)
        for (row, following), (ours, theirs) in pairs:
            if bool(row["note"]) != bool(following["note"]):
                continue
            difference = ours - theirs
            drawn = self.cells.bootstrap.means(difference)
            row["lead"] = float(np.nanmean(difference))
            row["lead_low"], row["lead_high"] = self.cells.bootstrap.interval(drawn)

    def _spread(self, scores: pd.Series[float]) -> Values:
        return np.asarray(scores.reindex(self.cells.images), float)


def _authentic(part: pd.DataFrame) -> dict[str, float]:
    """Measure what is marked on authentic images: as they are, and at worst under the attacks."""
    authentic = part[part.tp + part.fn == 0]
    original = authentic[authentic.attack == "original"].marked
    attacked = within(authentic[authentic.attack != "original"])
    return {
        "marked_authentic": original.mean(),
        "alarms_authentic": (original > ALARM).mean(),
        "framed_authentic": attacked.groupby("sample_id").marked.max().mean(),
    }


def _images(part: pd.DataFrame) -> list[str]:
    return sorted(part.sample_id + "," + part.variant + "," + part.image_sha256)


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _not_ranked(row: dict[str, Any]) -> str:
    """Say why a row that can be compared has no rank; empty where it has one."""
    if math.isnan(row["worst_mcc_low"]):
        return "no interval: fewer than two source photographs"
    if not round(row["worst_mcc_low"], _DIGITS) > FLOOR:
        return "not told apart from a map that knows nothing"
    if row["gates"].startswith(Verdict.FAIL):
        return "a gate fails"
    return ""


def _place(row: dict[str, Any]) -> tuple[bool, bool, float]:
    """Order rows: ranked first, then comparable ones, then the others."""
    value = row["worst_mcc"]
    return bool(row["note"]), not row["complete"], math.inf if math.isnan(value) else -value


def _rank(rows: Sequence[dict[str, Any]]) -> None:
    """One more than the number of rows whose intervals lie wholly above."""
    ranked = [row for row in rows if not row["note"]]
    for row in ranked:
        high = round(row["worst_mcc_high"], _DIGITS)
        row["rank"] = 1 + sum(round(other["worst_mcc_low"], _DIGITS) > high for other in ranked)
