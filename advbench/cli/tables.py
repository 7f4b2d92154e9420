"""Tables in the terminal: derived from all records below an output folder."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tables:
    """The long table, the wide one of each dataset, and the floors of each dataset."""

    long: pd.DataFrame
    wide: dict[str, pd.DataFrame]
    floors: pd.DataFrame

    def as_json(self) -> dict[str, Any]:
        """Plain data; NaN as null."""
        return {
            "table": json.loads(self.long.to_json(orient="records")),
            "floors": json.loads(self.floors.to_json(orient="records")),
        }

    def show(self) -> None:
        """Print F1 and RP of each dataset, mean over intensities, and what they stand on."""
        from rich.console import Console
        from rich.table import Table

        console = Console()
        if not console.is_terminal:
            console = Console(width=160)
        for dataset, wide in self.wide.items():
            attacks = [c.removesuffix("_f1") for c in wide.columns if c.endswith("_f1")]
            table = Table(title=f"{dataset}: F1 (RP %), attacks averaged over their intensities")
            table.add_column("victim")
            table.add_column("weights")
            table.add_column("defense")
            for attack in attacks:
                table.add_column(attack, justify="right")
            table.add_column("n", justify="right")
            for row in wide.to_dict("records"):
                strength = row["strength"]
                name = row["defense"] if math.isnan(strength) else f"{row['defense']} {strength:g}"
                cells = [_cell(row[f"{a}_f1"], row[f"{a}_rp"]) for a in attacks]
                table.add_row(row["victim"], row["weights"], name, *cells, f"{row['n']:.0f}")
            console.print(table)
            floor = self.floors[self.floors.dataset == dataset].iloc[0]
            console.print(
                f"floors on {dataset}: all zeros {floor.all_zeros:.3f}, "
                f"all ones {floor.all_ones:.3f}; protocol {', '.join(sorted(set(wide.protocol)))}; "
                f"{self._excluded(dataset)} images excluded (nothing forged, nothing predicted)",
                highlight=False,
            )
            if (wide.weights == "builtin").any():
                console.print(
                    "weights 'builtin' know the built-in data only: their scores say nothing "
                    "about published ones",
                    highlight=False,
                )

    def _excluded(self, dataset: str) -> int:
        return int(self.long[self.long.dataset == dataset].n_excluded.max())


def write_tables(out: Path) -> Tables:
    """Derive all tables from the records below ``out`` and write them as CSV."""
    from advbench.scores import tables
    from advbench.scores.records import read_records

    records = read_records(out / "records")
    long = tables.write_tables(records, out / "tables")
    wide = {str(name): tables.wide_table(part) for name, part in long.groupby("dataset")}
    return Tables(long, wide, tables.floors(records))


def _cell(f1: float, rp: float) -> str:
    if math.isnan(f1):
        return "–"
    return f"{f1:.3f} (–)" if math.isnan(rp) else f"{f1:.3f} ({rp:.1f})"
