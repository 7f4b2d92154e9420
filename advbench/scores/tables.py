"""Tables derived from records: the long form, and the wide one of the paper's Table III."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from advbench.escaping import csv_text
from advbench.files import write_atomically
from advbench.scores.cells import ATTACKS, CELL, VICTIM, Cells, in_papers_order, key_of, measure
from advbench.scores.floors import FLOORS, with_floors
from advbench.scores.gates import gates
from advbench.scores.threats import THREATS

_CONTROLS = ["kept_psnr", "removed"]
_WIDE = ["victim", "weights", "threat", "defense", "strength", "protocol"]


def long_table(records: pd.DataFrame) -> pd.DataFrame:
    """One row per dataset, victim, threat model, attack, intensity, defense and strength.

    ``f1``, ``rp`` and ``mcc`` are means over the forged images with their 95 % intervals,
    bootstrapped over source photographs; RP and ``mark`` as in :mod:`advbench.scores.cells`;
    ``n`` forged images of so many ``photographs``; ``marked_authentic`` and ``alarms_authentic``
    are the marked area of the ``n_authentic`` authentic images and the share of them with more
    than 1 % marked.
    """
    return _long(measure(records))


def wide_table(records: pd.DataFrame) -> pd.DataFrame:
    """One dataset's table of the paper's shape: victim × defense down, the original and the
    attacks across, each attack the mean over its intensities; one row a threat model.

    Each attack has ``_f1``, ``_rp``, ``_rp_low`` and ``_rp_high``, and ``_mark``, the marks of its
    cells; ``kept_psnr`` says how much of the originals a defense keeps, and ``removed`` which share
    of the attacks' noise it takes away; ``n`` and ``photographs`` are the fewest behind a row.
    """
    return _wide(measure(records))


def _long(measured: Sequence[Cells]) -> pd.DataFrame:
    tables = [cells.table.assign(**cells.victim) for cells in measured]
    order = [*("dataset", "victim", *CELL), "f1", "f1_low", "f1_high", "rp", "rp_low", "rp_high"]
    order += ["mcc", "mcc_low", "mcc_high", "mark", "n", "photographs", "protocol", "weights"]
    table = _sorted(pd.concat(tables, ignore_index=True))
    return table[[*order, *(name for name in table.columns if name not in order)]]


def _wide(measured: Sequence[Cells]) -> pd.DataFrame:
    rows, attacks = [], set()
    for cells in measured:
        keys = ["threat", "defense", "strength"]
        for (threat, defense, strength), part in cells.table.groupby(keys, dropna=False):
            row = cells.victim | {"threat": threat, "defense": defense, "strength": strength}
            same = cells.select(key_of(defense, strength))
            same = same[same.attack == "original"]
            # An original is of no threat model: it stands beside the attacks of each.
            shown = pd.concat([part[part.attack != "original"], same])
            for attack, one in shown.groupby("attack", sort=False):
                attacks.add(str(attack))
                rp, low, high = cells.mean_rp([one.index.tolist()])
                row |= {
                    f"{attack}_f1": one.f1.mean(),
                    f"{attack}_rp": rp,
                    f"{attack}_rp_low": low,
                    f"{attack}_rp_high": high,
                    f"{attack}_mark": " ".join(sorted(set(one["mark"]) - {""})),
                }
            forged = shown[shown.n > 0]
            row |= {"kept_psnr": same.kept_psnr.mean(), "removed": part.removed.mean()}
            rows.append(row | {name: forged[name].min() for name in ("n", "photographs")})
    parts = ("f1", "rp", "rp_low", "rp_high", "mark")
    figures = [f"{attack}_{part}" for attack in in_papers_order(attacks) for part in parts]
    return _sorted(pd.DataFrame(rows))[[*_WIDE, *figures, *_CONTROLS, "n", "photographs"]]


def write_tables(
    records: pd.DataFrame, folder: Path
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], pd.DataFrame]:
    """Write ``long.csv``, ``gates.csv``, and ``<dataset>.csv`` for each dataset; returns what
    :func:`all_tables` does."""
    long, wide, found = all_tables(records)
    write_atomically(folder / "long.csv", as_csv(long))
    write_atomically(folder / "gates.csv", as_csv(found))
    for name, table in wide.items():
        write_atomically(folder / f"{name}.csv", as_csv(table))
    return long, wide, found


def all_tables(
    records: pd.DataFrame,
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], pd.DataFrame]:
    """Derive the long table, the wide one of each dataset, floors among their rows, and the
    gates."""
    measured = measure(with_floors(records))
    names = sorted({str(cells.victim["dataset"]) for cells in measured})
    wide = {name: _wide([c for c in measured if c.victim["dataset"] == name]) for name in names}
    return _long(measured), wide, gates(records)


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """Datasets and victims by name, undefended first, floors last, attacks as in the paper."""
    order = {attack: place for place, attack in enumerate(ATTACKS)}
    ranks = {
        "attack": lambda s: s.map(lambda name: (order.get(name, len(order)), name)),
        "defense": lambda s: s.map(lambda name: (name != "none", name in FLOORS, name)),
        "threat": lambda s: s.map(THREATS.index),
    }
    keys = [
        name
        for name in (*VICTIM, "threat", "defense", "strength", "attack", "intensity")
        if name in table.columns
    ]
    return table.sort_values(
        keys, key=lambda s: ranks[s.name](s) if s.name in ranks else s, kind="stable"
    ).reset_index(drop=True)


def as_csv(table: pd.DataFrame) -> bytes:
    """The file of a table: RP to 2 digits, other scores to 4."""
    rounded = table.copy()
    for column in rounded.select_dtypes(["object", "string"]).columns:
        rounded[column] = rounded[column].map(
            lambda value: csv_text(value) if isinstance(value, str) else value
        )
    for column in rounded.select_dtypes("float").columns:
        digits = 2 if column.endswith(("rp", "rp_low", "rp_high")) else 4
        if column not in ("intensity", "strength"):
            rounded[column] = rounded[column].round(digits)
    text: str = rounded.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return text.encode()
