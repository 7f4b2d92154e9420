"""The charts of a report, drawn from its cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from advbench.report.charts import Chart, Line, legend
from advbench.scores.cells import ATTACKS, defense_label

X_LABELS = {"cw": "steps m"}
GREY_LEVELS = "φ, grey levels (1/255)"
_VICTIM = ["dataset", "victim", "size", "weights", "weights_sha256", "protocol"]


@dataclass(frozen=True)
class Group:
    """Charts that share a heading and a legend."""

    title: str
    charts: list[Chart]

    @property
    def legend(self) -> Markup:
        """The lines of all charts, each once."""
        lines = {line.name: line for chart in self.charts for line in chart.lines}
        return legend(sorted(lines.values(), key=lambda line: (line.style, line.dashed)))


def in_order(attacks: pd.Series[str]) -> list[str]:
    """Names of attacks as the paper has them, the others after them; the original left out."""
    present = set(attacks) - {"original"}
    return [a for a in ATTACKS if a in present] + sorted(present - set(ATTACKS))


def best_strengths(cells: pd.DataFrame) -> pd.DataFrame:
    """Keep of one victim's static cells those of each defense at the strength of highest mean
    RP."""
    static = cells[cells.threat == "static"]
    attacked = static[static.attack != "original"]
    means = attacked.groupby(["defense", "strength"], dropna=False).rp.mean().reset_index()
    best = means.sort_values("rp", ascending=False).drop_duplicates("defense")
    return best[["defense", "strength"]]


def against_intensity(cells: pd.DataFrame, measure: str) -> list[Group]:
    """For each victim a chart an attack: ``rp`` or ``mcc`` against intensity, a line a defense,
    the adaptive ones dashed."""
    groups = []
    for key, part in cells.groupby(_VICTIM, dropna=False):
        kept = part.merge(best_strengths(part), on=["defense", "strength"])
        names = sorted(set(kept.defense), key=lambda name: (name != "none", name))
        charts = []
        for attack in in_order(kept.attack):
            lines = []
            for (defense, strength, threat), line in kept[kept.attack == attack].groupby(
                ["defense", "strength", "threat"], dropna=False
            ):
                name = "undefended" if defense == "none" else defense_label(defense, strength)
                columns = ["intensity", measure, f"{measure}_low", f"{measure}_high"]
                lines.append(
                    Line(
                        name if threat == "static" else f"{name}, {threat}",
                        names.index(defense),
                        list(line[columns].itertuples(index=False, name=None)),
                        dashed=threat != "static",
                    )
                )
            if measure == "rp":
                guides, label, limits = {"as on originals": 100.0}, "RP, %", (0.0, 100.0)
            else:
                guides, label, limits = {}, "MCC", (0.0, 0.5)
            charts.append(
                Chart(
                    f"{attack}: {label} against intensity, {key[1]} on {key[0]}",
                    attack,
                    X_LABELS.get(attack, GREY_LEVELS),
                    label,
                    lines,
                    guides,
                    y_range=limits,
                )
            )
        if charts:
            groups.append(Group(f"{key[1]} ({key[3]}) on {key[0]}", charts))
    return groups


def against_strength(cells: pd.DataFrame) -> list[Group]:
    """The paper's Figure 4: for each victim a chart a defense: F1 against its strength, a line an
    attack (mean over its intensities), and what the undefended victim has on originals."""
    groups = []
    static = cells[cells.threat == "static"]
    for key, part in static.groupby(_VICTIM, dropna=False):
        attacks = ["original", *in_order(part.attack)]
        clean = part[(part.attack == "original") & (part.defense == "none")].f1
        guides = {"undefended, originals": float(clean.iloc[0])} if len(clean) else {}
        charts = []
        for defense, defended in part[part.strength.notna()].groupby("defense"):
            if defended.strength.nunique() < 2:
                continue
            means = defended.groupby(["attack", "strength"]).f1.mean()
            lines = [
                Line(
                    attack,
                    number,
                    [(s, f1, math.nan, math.nan) for s, f1 in means[attack].items()],
                )
                for number, attack in enumerate(attacks)
                if attack in means.index.get_level_values("attack")
            ]
            title = f"{defense}: F1 against strength, {key[1]} on {key[0]}"
            charts.append(Chart(title, str(defense), "strength", "F1", lines, guides))
        if charts:
            groups.append(Group(f"{key[1]} ({key[3]}) on {key[0]}", charts))
    return groups


def undefended(cells: pd.DataFrame) -> list[Group]:
    """The paper's Figure 3: for each dataset and attack F1 and PSNR against intensity, a line a
    victim."""
    groups = []
    kept = cells[(cells.defense == "none") & (cells.threat == "static")]
    for dataset, part in kept.groupby("dataset"):
        victims = sorted({(v, w) for v, w in zip(part.victim, part.weights, strict=True)})
        charts = []
        for attack in in_order(part.attack):
            attacked = part[part.attack == attack]
            for measure, label, limits in (
                ("f1", "F1", (0.0, 0.8)),
                ("psnr", "PSNR, dB", (30, 60)),
            ):
                lines = [
                    Line(
                        f"{victim} ({weights})",
                        victims.index((victim, weights)),
                        _points(rows, measure),
                    )
                    for (victim, weights), rows in attacked.groupby(["victim", "weights"])
                ]
                charts.append(
                    Chart(
                        f"{attack}: {label} against intensity on {dataset}",
                        f"{attack}: {label}",
                        X_LABELS.get(attack, GREY_LEVELS),
                        label,
                        lines,
                        y_range=limits,
                    )
                )
        if charts:
            groups.append(Group(str(dataset), charts))
    return groups


def _points(rows: pd.DataFrame, measure: str) -> list[tuple[float, float, float, float]]:
    banded = measure != "psnr"
    return [
        (
            row["intensity"],
            row[measure],
            row[f"{measure}_low"] if banded else math.nan,
            row[f"{measure}_high"] if banded else math.nan,
        )
        for row in rows.to_dict("records")
    ]
