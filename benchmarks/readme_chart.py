"""Draw README's picture from the committed leaderboard: RP of four defenses under each attack.

The last attack is PGD made through each defense; nothing stands before the undefended victim, so
that PGD is its own.

python benchmarks/readme_chart.py [--to docs/results.svg]
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

BOARD = Path("manifests/leaderboards/builtin2.csv")
VICTIM = "mvssnet"
ATTACKS = {
    "original": "original",
    "fgsm": "FGSM",
    "cw": "C&W",
    "bim": "BIM",
    "pgd": "PGD",
    "mifgsm": "MI-FGSM",
    "pgn": "PGN",
    "pgd_adaptive": "PGD through it",
}
# Distinct in grey and to the colour-blind (Okabe and Ito).
DEFENSES = {
    ("none", None): ("none", "#999999"),
    ("jpeg", 50.0): ("JPEG 50", "#56b4e9"),
    ("median", 5.0): ("median 5", "#e69f00"),
    ("ansm", None): ("ANSM", "#0072b2"),
}


@click.command()
@click.option("--to", type=click.Path(path_type=Path), default=Path("docs/results.svg"))
def main(to: Path) -> None:
    """Write the picture."""
    board = pd.read_csv(BOARD)
    board = board[board.victim == VICTIM]
    # The same bytes every time.
    mpl.rcParams["svg.hashsalt"] = "advbench"
    mpl.rcParams["font.family"] = "DejaVu Sans"
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(DEFENSES)
    for number, ((defense, strength), (label, colour)) in enumerate(DEFENSES.items()):
        rows = board[board.defense == defense]
        rows = rows if strength is None else rows[rows.strength == strength]
        (row,) = rows.to_dict("records")
        met = ["pgd" if (defense, a) == ("none", "pgd_adaptive") else a for a in ATTACKS]
        heights = [row[f"{attack}_rp"] for attack in met]
        ends = [
            [h - row[f"{a}_rp_low"] for h, a in zip(heights, met, strict=True)],
            [row[f"{a}_rp_high"] - h for h, a in zip(heights, met, strict=True)],
        ]
        places = [place + (number - 1.5) * width for place in range(len(ATTACKS))]
        style = {"ecolor": "#444444", "elinewidth": 0.8}
        axes.bar(places, heights, width, yerr=ends, color=colour, label=label, error_kw=style)
    axes.set_xticks(range(len(ATTACKS)), list(ATTACKS.values()))
    axes.set_ylabel("RP, % (95 % interval)")
    axes.set_ylim(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=len(DEFENSES), frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.2))
    source = f"{BOARD} sha256 {hashlib.sha256(BOARD.read_bytes()).hexdigest()}"
    figure.savefig(to, metadata={"Date": None, "Source": source})


if __name__ == "__main__":
    main()
