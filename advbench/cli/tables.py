"""Tables in the terminal: derived from all records below an output folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench.cli.grid import Column, extremes, show, terminal
from advbench.escaping import rich_text

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

MARKS = {
    "floor": "floor: no RP, the undefended F1 does not lie above that of marking everything",
    "unchanged": "unchanged: the attack left half of the images or more as they were",
    "no gradient": "no gradient: zero everywhere on half of the images or more",
}
CONTROLS = "PSNR of defended originals; share of the noise that is removed along its own direction"


@dataclass(frozen=True)
class Tables:
    """The long table, the wide one and the floors of each dataset, and the gates."""

    long: pd.DataFrame
    wide: dict[str, pd.DataFrame]
    floors: pd.DataFrame
    gates: pd.DataFrame

    def as_json(self) -> dict[str, Any]:
        """Give plain data; NaN as null."""
        return {
            "table": json.loads(self.long.to_json(orient="records")),
            "floors": json.loads(self.floors.to_json(orient="records")),
            "gates": json.loads(self.gates.to_json(orient="records")),
        }

    def text(self) -> str:
        """Give what :meth:`show` prints."""
        console = terminal()
        with console.capture() as printed:
            self.show(console)
        return printed.get()

    def show(self, console: Console | None = None) -> None:
        """Print F1 and RP of each victim under each threat model, and of authentic images."""
        console = console or terminal()
        keys = ["victim", "weights", "protocol", "threat"]
        for dataset, wide in self.wide.items():
            for key, part in wide.groupby(keys, sort=False):
                names = dict(zip(keys, map(str, key), strict=True))
                _forged(console, dataset, names, part)
            authentic = self.long[(self.long.dataset == dataset) & (self.long.n_authentic > 0)]
            for key, part in authentic.groupby(keys, sort=False):
                names = dict(zip(keys, map(str, key), strict=True))
                _authentic(console, dataset, names, part)
            _gates(console, self.gates[self.gates.dataset == dataset])
            if wide.weights.str.startswith("builtin").any():
                console.print(
                    "weights 'builtin' know the built-in data only: their scores say nothing "
                    "about published ones",
                    highlight=False,
                )


def write_tables(out: Path) -> Tables:
    """Derive all tables from the records below ``out`` and write them as CSV."""
    from advbench.scores import tables
    from advbench.scores.floors import floors
    from advbench.scores.records import read_records

    records = read_records(out / "records")
    long, wide, gates = tables.write_tables(records, out / "tables")
    return Tables(long, wide, floors(records), gates)


def tables_of(records: pd.DataFrame) -> Tables:
    """Derive all tables from records, and write none."""
    from advbench.scores import tables
    from advbench.scores.floors import floors

    long, wide, gates = tables.all_tables(records)
    return Tables(long, wide, floors(records), gates)


def _forged(console: Console, dataset: str, names: dict[str, str], rows: pd.DataFrame) -> None:
    from advbench.scores.cells import defense_label
    from advbench.scores.floors import FLOORS

    ranked = [defense not in FLOORS for defense in rows.defense]
    figures, used = [], set()
    for attack in (c.removesuffix("_f1") for c in rows.columns if c.endswith("_f1")):
        if rows[f"{attack}_f1"].isna().all():
            continue
        cells = []
        for row in rows.to_dict("records"):
            mark = row[f"{attack}_mark"]
            used.add(mark)
            cells.append(_score(row, attack, mark if isinstance(mark, str) else ""))
        marks = extremes(rows[f"{attack}_f1"].round(3).tolist(), ranked)
        figures.append(Column(attack, cells, marks))
    controls = _controls(rows)
    figures += controls
    labels = [defense_label(d, s) for d, s in zip(rows.defense, rows.strength, strict=True)]
    constant = []
    for name, what in (("n", "forged images"), ("photographs", "photographs")):
        if rows[name].nunique() == 1:
            constant.append(f"{rows[name].iloc[0]:.0f} {what}")
        else:
            figures.append(Column(name, [f"{value:.0f}" for value in rows[name]]))
    said = [
        f"F1, below it RP % ± half of its 95 % interval; attacks are means over intensities; "
        f"{' of '.join(constant) or 'n forged images'}; weights {names['weights']}, "
        f"{names['protocol']}; * best and ! worst F1 of a column",
        *([CONTROLS] if controls else []),
        *(text for mark, text in MARKS.items() if mark in used),
    ]
    title = f"{dataset}: {names['victim']}, {names['threat']} attacks: F1 (RP %)"
    show(console, title, [Column("defense", labels)], figures, caption="; ".join(said))


def _controls(rows: pd.DataFrame) -> list[Column]:
    """Make the columns that say what a defense does to images; none where nothing is known."""
    found = []
    for name, factor, title in (("kept_psnr", 1, "PSNR dB"), ("removed", 100, "removed %")):
        if rows[name].notna().any():
            values = factor * rows[name]
            found.append(Column(title, ["-" if math.isnan(v) else f"{v:.0f}" for v in values]))
    return found


def _score(row: Mapping[Any, Any], attack: str, mark: str) -> str:
    f1, rp = row[f"{attack}_f1"], row[f"{attack}_rp"]
    low, high = row[f"{attack}_rp_low"], row[f"{attack}_rp_high"]
    if math.isnan(f1):
        return "-"
    if mark or math.isnan(rp):
        return f"{f1:.3f}\n{mark}" if mark else f"{f1:.3f}"
    spread = "" if math.isnan(low) or high - low < 1 else f" ±{(high - low) / 2:.0f}"
    return f"{f1:.3f}\n{rp:.0f}{spread}"


def _authentic(console: Console, dataset: str, names: dict[str, str], rows: pd.DataFrame) -> None:
    """Print what is marked on authentic images."""
    from advbench.scores.cells import ATTACKS, defense_label
    from advbench.scores.floors import FLOORS

    labels = [defense_label(d, s) for d, s in zip(rows.defense, rows.strength, strict=True)]
    rows = rows.assign(label=labels, marked=100 * rows.marked_authentic)
    rows = rows.assign(alarms=100 * rows.alarms_authentic)
    shown = list(dict.fromkeys(labels))
    figures = []
    attacks = sorted(set(rows.attack), key=lambda a: (a not in ATTACKS, a != "original", a))
    for attack in attacks:
        means = rows[rows.attack == attack].groupby("label")[["marked", "alarms"]].mean()
        means = means.reindex(shown)
        cells = [
            "-" if math.isnan(m) else f"{m:.1f} %\n{a:.0f} %"
            for m, a in zip(means.marked, means.alarms, strict=True)
        ]
        better = [-value for value in means.marked.round(1)]
        figures.append(Column(attack, cells, extremes(better, [n not in FLOORS for n in shown])))
    show(
        console,
        f"{dataset}: {names['victim']}, {names['threat']} attacks: marked on authentic images",
        [Column("defense", shown)],
        figures,
        caption=f"marked area, below it the share of images with more than 1 % marked; "
        f"{rows.n_authentic.min():.0f} authentic images; * least and ! most of a column",
    )


def _gates(console: Console, gates: pd.DataFrame) -> None:
    """Print what fails, and how much passes or warns."""
    from advbench.scores.cells import defense_label
    from advbench.scores.gates import Verdict

    for row in gates[gates.verdict == Verdict.FAIL].itertuples():
        where = f"{defense_label(row.defense, row.strength)} before {row.victim}"
        line = f"gate {row.gate} FAIL: {where}: {row.told} ({row.page})"
        console.print(rich_text(line), style="bold red", highlight=False)
    counts = gates.verdict.value_counts()
    told = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in Verdict)
    console.print(f"gates: {told}; tables/gates.csv, docs/gates.md", highlight=False)
    console.print()
