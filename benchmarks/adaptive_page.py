"""Write docs/adaptive.md from the committed records: what defenses are worth before an attacker
who knows them.

    python benchmarks/adaptive_page.py [--check]

A cell is RP under PGD in percent, MCC below it in the next table; each with the central 95 % of a
bootstrap over source photographs. The worst case takes of each image the lowest score over every
static and adaptive variant up to φ.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd

from advbench.scores.cells import defense_label
from advbench.scores.floors import FLOORS
from advbench.scores.intervals import Bootstrap
from advbench.scores.threats import ADAPTIVE, STATIC
from advbench.scores.worst_case import worst_case

RECORDS = Path("manifests/leaderboards/builtin2.parquet")
PAGE = Path("docs/adaptive.md")
VICTIMS, BUDGETS = ("mvssnet", "ifosn", "hdfnet", "code"), (1, 2, 3)
HEAD = """# Defenses before an attacker who knows them

Written by `python benchmarks/adaptive_page.py` from the records behind the committed
[leaderboard](leaderboard.md): {images} forged images of {photographs} photographs of the built-in
test split, and {authentic} authentic ones. PGD takes 10 steps of φ/4. *static* knows the victim
alone, *adaptive* goes through the defense ([threat models](threat-models.md)), *worst* takes of
each image the lowest score over all static and adaptive attacks up to φ. Brackets: 95 % intervals
over photographs; an RP has a wide one where a victim finds little on the originals that are drawn,
and may be above 100 where a defense brings more. *none* has no defense to know.

Behind ANSM, PGD with φ = 3 leaves RP of {static} % ({victims})
where it does not know the defense, and {adaptive} % where it does. At φ = 3 the interval of the
worst MCC lies above 0, the MCC of a map that knows nothing, for {ranked} of {rows} rows.
"""
AUTHENTIC = """
## Authentic images

Percent of the pixels that are marked where nothing is forged: as the images are / after PGD with
φ = 3 that makes the victim mark them, static / the same through the defense.
"""


@click.command()
@click.option("--check", is_flag=True, help="Fail where the page is not what the records give.")
def main(check: bool) -> None:
    """Write the page."""
    text = page(pd.read_parquet(RECORDS))
    if not check:
        PAGE.write_text(text)
    elif PAGE.read_text() != text:
        raise click.ClickException(f"{PAGE} is not what the records give; run without --check")


def page(records: pd.DataFrame) -> str:
    """Write the page as Markdown."""
    forged = records[records.tp + records.fn > 0]
    authentic = records[records.tp + records.fn == 0]
    left = {threat: ansm_left(forged, threat) for threat in (STATIC, ADAPTIVE)}
    board = pd.read_csv(RECORDS.with_suffix(".csv"))
    defended = board[~board.defense.isin([*FLOORS, "none"])]
    head = HEAD.format(
        victims=", ".join(VICTIMS),
        static=left[STATIC],
        adaptive=left[ADAPTIVE],
        ranked=int((defended.worst_mcc_low > 0).sum()),
        rows=len(defended),
        images=forged.sample_id.nunique(),
        photographs=forged.source_group.nunique(),
        authentic=authentic.sample_id.nunique(),
    )
    parts = [head]
    for title, column in (("RP, percent", "f1"), ("MCC × 100", "mcc")):
        parts.append(f"\n## {title}\n")
        parts += [table(forged[forged.victim == victim], victim, column) for victim in VICTIMS]
    parts += [AUTHENTIC, marked_table(authentic)]
    return "\n".join(parts)


def ansm_left(forged: pd.DataFrame, threat: str) -> str:
    """Compute RP under PGD with φ = 3 behind ANSM, victim by victim."""
    attacked = forged[(forged.attack == "pgd") & (forged.intensity == 3)]
    own = attacked[(attacked.defense == "ansm") & (attacked.threat == threat)]
    clean = forged[(forged.attack == "original") & (forged.defense == "none")]
    shares = own.groupby("victim").f1.mean() / clean.groupby("victim").f1.mean()
    return ", ".join(f"{100 * shares[victim]:.0f}" for victim in VICTIMS)


def table(records: pd.DataFrame, victim: str, column: str) -> str:
    """Write one victim: defenses down; φ × static, adaptive, worst case across."""
    titles = [f"{what} {phi}" for phi in BUDGETS for what in ("static", "adaptive", "worst")]
    lines = [f"| {victim} | original | {' | '.join(titles)} |", "|---" * (2 + len(titles)) + "|"]
    images = records.drop_duplicates("sample_id").sort_values("sample_id")
    score = Score(images, undefended(records) if column == "f1" else None, column)
    for name, own in of_each_defense(records):
        cells = [score(own[own.attack == "original"])]
        for phi in BUDGETS:
            pgd = own[(own.attack == "pgd") & (own.intensity == phi)]
            cells += [score(pgd[pgd.threat == threat]) for threat in (STATIC, ADAPTIVE)]
            cells.append(score(worst_case(own, phi)))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def marked_table(records: pd.DataFrame) -> str:
    """Write what is marked on authentic images: as they are, static and adaptive."""
    lines = [f"| | {' | '.join(VICTIMS)} |", "|---" * (1 + len(VICTIMS)) + "|"]
    for name, own in of_each_defense(records):
        cells = []
        for victim in VICTIMS:
            rows = own[own.victim == victim]
            attacked = rows[(rows.attack == "pgd") & (rows.intensity == 3)]
            groups = [rows[rows.attack == "original"]]
            groups += [attacked[attacked.threat == threat] for threat in (STATIC, ADAPTIVE)]
            cells.append(" / ".join(f"{100 * g.marked.mean():.0f}" for g in groups if len(g)))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def of_each_defense(records: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Split the records by defense, the undefended first."""
    groups = records.groupby(["defense", "strength"], dropna=False, sort=True)
    found = [(defense_label(*key), part) for key, part in groups]
    return sorted(found, key=lambda one: (one[0] != "none", one[0] == "ansm"))


def undefended(records: pd.DataFrame) -> pd.Series[float]:
    """Select F1 on the originals without a defense, by image."""
    clean = records[(records.attack == "original") & (records.defense == "none")]
    return clean.set_index("sample_id").f1


class Score:
    """A mean with its interval: of ``mcc`` in hundredths, of ``f1`` as RP."""

    def __init__(self, images: pd.DataFrame, clean: pd.Series[float] | None, column: str) -> None:
        self._ids, self._column = pd.Index(images.sample_id), column
        self._bootstrap = Bootstrap(images.source_group.tolist())
        self._clean = None if clean is None else clean.reindex(self._ids).to_numpy()

    def __call__(self, rows: pd.DataFrame) -> str:
        if rows.empty:
            return ""
        values = rows.set_index("sample_id")[self._column].reindex(self._ids).to_numpy()
        drawn, mean = self._bootstrap.means(values), np.nanmean(values)
        if self._clean is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                drawn = drawn / self._bootstrap.means(self._clean)
            mean = mean / self._clean.mean()
        low, high = self._bootstrap.interval(drawn)
        # Adding 0 turns a rounded -0 into 0.
        middle, low, high = (round(100 * float(value)) + 0 for value in (mean, low, high))
        return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
