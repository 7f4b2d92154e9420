"""Tables derived from records: the long form, and the wide one of the paper's Table III."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from advbench.files import write_atomically

ATTACKS = ("original", "fgsm", "cw", "bim", "pgd", "mifgsm", "pgn")
_CELL = ["dataset", "victim", "weights", "attack", "intensity", "defense", "strength", "protocol"]
_WIDE = ["victim", "weights", "defense", "strength", "protocol"]


def long_table(records: pd.DataFrame) -> pd.DataFrame:
    """One row per dataset, victim, attack, intensity, defense and strength.

    ``f1`` is the mean over images; ``rp`` is 100 × f1 over the victim's undefended f1 on the
    originals **of the same images**, those where both are defined (NaN where there are none, or
    the latter is 0); ``n`` images are scored,
    ``n_excluded`` have no defined F1.
    """
    reference = records[(records.attack == "original") & (records.defense == "none")]
    clean = reference.set_index(["dataset", "victim", "weights", "protocol", "sample_id"]).f1
    keys = records[["dataset", "victim", "weights", "protocol", "sample_id"]]
    joined = records.assign(clean=clean.reindex(pd.MultiIndex.from_frame(keys)).to_numpy())
    both = joined.f1.notna() & joined.clean.notna()
    joined = joined.assign(kept=joined.f1.where(both), clean=joined.clean.where(both))
    grouped = joined.groupby(_CELL, dropna=False, sort=False)
    table = grouped.agg(
        f1=("f1", "mean"),
        kept=("kept", "mean"),
        clean=("clean", "mean"),
        n=("f1", "count"),
        images=("f1", "size"),
        iou=("iou", "mean"),
        auc=("auc", "mean"),
        psnr=("psnr", "mean"),
        ssim=("ssim", "mean"),
        linf=("linf", "max"),
        l2=("l2", "mean"),
    ).reset_index()
    table["rp"] = (100 * table.kept / table.clean).where(table.clean > 0)
    table["n_excluded"] = table.images - table.n
    order = [*_CELL[:7], "f1", "rp", "n", "n_excluded", "protocol", "weights"]
    columns = list(dict.fromkeys([c for c in order if c != "weights"] + ["weights"]))
    extra = ["iou", "auc", "psnr", "ssim", "linf", "l2"]
    return _sorted(table)[columns + extra]


def wide_table(long: pd.DataFrame) -> pd.DataFrame:
    """One dataset's table of the paper's shape: victim × defense down, the original and the
    attacks across, each attack the mean over its intensities."""
    means = long.groupby([*_WIDE, "attack"], dropna=False, sort=False)[["f1", "rp"]].mean()
    counts = long.groupby(_WIDE, dropna=False, sort=False).n.min()
    table = means.unstack("attack")
    attacks = [a for a in ATTACKS if a in table.f1.columns]
    attacks += sorted(set(table.f1.columns) - set(attacks))
    wide = pd.DataFrame(index=table.index)
    for attack in attacks:
        wide[f"{attack}_f1"] = table[("f1", attack)]
        wide[f"{attack}_rp"] = table[("rp", attack)]
    wide["n"] = counts
    return _sorted(wide.reset_index())


def floors(records: pd.DataFrame) -> pd.DataFrame:
    """Per dataset the F1 of the two predictions that know nothing, on the scored originals:
    ``all_zeros`` (nothing forged) and ``all_ones`` (everything forged)."""
    originals = records[(records.attack == "original") & (records.defense == "none")]
    originals = originals.drop_duplicates(["dataset", "sample_id"])
    forged = originals.tp + originals.fn
    everything = forged + originals.fp + originals.tn
    scored = originals.assign(
        all_zeros=(0.0 * forged).where(forged > 0), all_ones=2 * forged / (forged + everything)
    )
    return scored.groupby("dataset")[["all_zeros", "all_ones"]].mean().reset_index()


def write_tables(records: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write ``long.csv`` and ``<dataset>.csv`` for each dataset; returns the long table."""
    long = long_table(records)
    write_atomically(folder / "long.csv", as_csv(long))
    for dataset, part in long.groupby("dataset"):
        write_atomically(folder / f"{dataset}.csv", as_csv(wide_table(part)))
    return long


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """Datasets and victims by name, undefended first, attacks as in the paper."""
    order = {attack: place for place, attack in enumerate(ATTACKS)}
    ranks = {
        "attack": lambda s: s.map(lambda name: (order.get(name, len(order)), name)),
        "defense": lambda s: s.map(lambda name: (name != "none", name)),
    }
    keys = [
        name
        for name in ("dataset", "victim", "weights", "defense", "strength", "attack", "intensity")
        if name in table.columns
    ]
    return table.sort_values(
        keys, key=lambda s: ranks[s.name](s) if s.name in ranks else s, kind="stable"
    ).reset_index(drop=True)


def as_csv(table: pd.DataFrame) -> bytes:
    """The file of a table: RP to 2 digits, other scores to 4."""
    rounded = table.copy()
    for column in rounded.select_dtypes("float").columns:
        digits = 2 if column.endswith("rp") else 4
        if column not in ("intensity", "strength"):
            rounded[column] = rounded[column].round(digits)
    text: str = rounded.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return text.encode()
