"""Figures of the ANSM paper (Tables III to VI), and ours beside them."""

from __future__ import annotations

from importlib import resources

import pandas as pd

from advbench.scores.cells import ATTACKS, Cells, measure


def published(table: str) -> pd.DataFrame:
    """Table III, IV, V or VI in long form: F1, and RP recomputed from F1.

    Args:
        table: ``table3`` to ``table6``.

    Returns:
        Columns ``victim``, ``attack``, ``f1``, ``rp``, and ``dataset`` and ``defense`` (Table III)
        or ``strategy`` (the others, which name no dataset).
    """
    path = resources.files("advbench.manifests") / "published" / f"{table}.csv"
    with path.open() as file:
        printed = pd.read_csv(file)
    if table == "table3":
        long = printed.drop(columns="rp_percent")
        clean = long[(long.attack == "original") & (long.defense == "none")]
        reference = clean.set_index(["dataset", "victim"]).f1
        keys = pd.MultiIndex.from_frame(long[["dataset", "victim"]])
        return long.assign(rp=100 * long.f1 / reference.reindex(keys).to_numpy())
    # The ablations print no undefended F1; the printed RP says what it was.
    if table == "table6":
        return printed.rename(columns={"rp_percent": "rp"})
    strategy = "depth" if table == "table4" else "strategy"
    parts = [
        printed.assign(attack=a, f1=printed[f"{a}_f1"], rp=printed[f"{a}_rp_percent"])
        for a in ("original", "fgsm")
    ]
    long = pd.concat(parts).rename(columns={strategy: "strategy"})
    return long[["victim", "strategy", "attack", "f1", "rp"]]


def beside_published(records: pd.DataFrame, table: str) -> pd.DataFrame:
    """Ours, each attack the mean over its intensities, with the paper's columns beside them.

    Args:
        records: for the ablations, ``defense`` is the strategy's name, or ``none``.

    Returns:
        One row per dataset, victim, defense or strategy, and attack: ``f1``, ``rp`` with its
        interval, ``n`` images of so many ``photographs`` (the fewest), ``weights``, ``protocol``,
        ``published_f1``, ``published_rp``. Where the paper has not the dataset, Table III's
        ``published_rp`` is the mean over its four.
    """
    keys = ["dataset", "victim", "weights", "protocol", "defense", "attack"]
    found = pd.DataFrame(
        [
            cells.victim | {"defense": defense, "attack": attack} | _figures(cells, part)
            for cells in measure(records)
            for (defense, attack), part in cells.table.groupby(["defense", "attack"], sort=False)
        ]
    )
    theirs = published(table).rename(
        columns={"strategy": "defense", "f1": "published_f1", "rp": "published_rp"}
    )
    if table == "table3":
        elsewhere = [d for d in found.dataset.unique() if d not in set(theirs.dataset)]
        means = theirs.groupby(["victim", "defense", "attack"]).published_rp.mean().reset_index()
        theirs = pd.concat([theirs, *(means.assign(dataset=name) for name in elsewhere)])
    shared = [key for key in keys if key in theirs.columns]
    found = found.merge(theirs, on=shared, how="left", validate="many_to_one")
    order = {
        "attack": (*ATTACKS, *sorted(found.attack)),
        "defense": ("none", *dict.fromkeys(theirs.defense)),
    }
    for column, names in order.items():
        found[column] = pd.Categorical(found[column], list(dict.fromkeys(names)), ordered=True)
    found = found.sort_values(["dataset", "victim", "defense", "attack"], ignore_index=True)
    found = found.astype({"attack": str, "defense": str})
    return found if table == "table3" else found.rename(columns={"defense": "strategy"})


def _figures(cells: Cells, part: pd.DataFrame) -> dict[str, float]:
    """Means over the intensities of an attack, and the fewest images."""
    rp, low, high = cells.mean_rp([part.index.tolist()])
    means = {"f1": part.f1.mean(), "rp": rp, "rp_low": low, "rp_high": high}
    return means | {name: part[name].min() for name in ("n", "photographs")}
