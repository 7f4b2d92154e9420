"""Conclude what the records of a victim allow, each with what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from advbench.scores.gates import GATES, gates

State = Literal["PASS", "WARN", "FAIL", "absent"]


@dataclass(frozen=True)
class Verdict:
    """One conclusion about a victim's figures."""

    state: State
    subject: str
    text: str

    @property
    def sentence(self) -> str:
        """The text as a sentence; a variant that it begins with keeps its name."""
        first = self.text.partition(" ")[0]
        start = self.text[:1] if "-" in first else self.text[:1].upper()
        return f"{start}{self.text[1:]}."


# What each gate asks, as a heading.
_GATES = {
    "budget": "Budget held in stored bytes",
    "images-changed": "Attacks change images",
    "zero-gradients": "Gradients that say something",
    "grows-with-intensity": "More intensity, more damage",
    "iterated-beats-one-step": "Iterated at least as strong as one step",
    "beats-random-noise": "Stronger than random noise",
    "nothing-survives-32": "Nothing survives φ = 32",
    "white-box-beats-black-box": "White box beats black box",
    "adaptive-beats-static": "Adaptive at least as strong as static",
}
_WORST_FIRST = ("FAIL", "WARN", "PASS")


def verdicts(records: pd.DataFrame, cells: pd.DataFrame, floor: float) -> list[Verdict]:
    """Judge one victim on one dataset, from its records and their cells.

    Args:
        floor: mean F1 of the map that marks everything, on the same originals.
    """
    found = [
        _above_floor(cells, floor),
        _photographs(cells),
        _adaptive(cells),
        _false_alarms(cells),
    ]
    return found + _gates(records)


def _gates(records: pd.DataFrame) -> list[Verdict]:
    """Every gate at its worst over the defenses."""
    table = gates(records)
    found = []
    for name in GATES:
        rows = table[table.gate == name]
        subject = _GATES.get(name, name)
        if rows.empty:
            found.append(Verdict("absent", subject, "no records that this gate could judge"))
            continue
        worst = min(rows.to_dict("records"), key=lambda row: _WORST_FIRST.index(row["verdict"]))
        behind = "undefended" if worst["defense"] == "none" else f"behind {worst['defense']}"
        others = int((rows.verdict != "PASS").sum()) - 1
        more = f"; so do {others} other defenses or strengths" if others > 0 else ""
        text = str(worst["told"]) + ("" if worst["verdict"] == "PASS" else f" ({behind}{more})")
        found.append(Verdict(worst["verdict"], subject, text))
    return found


def _above_floor(cells: pd.DataFrame, floor: float) -> Verdict:
    subject = "Undefended F1 above the floor"
    clean = cells[(cells.attack == "original") & (cells.defense == "none")]
    if clean.empty:
        return Verdict("absent", subject, "no records of the undefended victim on originals")
    row = clean.iloc[0]
    text = f"F1 {row.f1:.3f} on originals; marking everything scores {floor:.3f}"
    if row.f1 <= floor:
        return Verdict("FAIL", subject, f"{text}: RP says nothing here")
    if row.f1_low == row.f1_low and row.f1_low <= floor:
        return Verdict("WARN", subject, f"{text}, which lies within the 95 % interval")
    return Verdict("PASS", subject, text)


def _photographs(cells: pd.DataFrame) -> Verdict:
    n, photographs = int(cells.n.min()), int(cells.photographs.min())
    text = f"at least {n} images of {photographs} source photographs behind every figure"
    few = photographs < 30
    return Verdict(
        "WARN" if few else "PASS",
        "Enough photographs",
        f"{text}{': intervals are wide, ranks may not separate' if few else ''}",
    )


def _adaptive(cells: pd.DataFrame) -> Verdict:
    subject = "Adaptive attacks"
    defended = cells[cells.defense != "none"]
    names = set(defended.defense)
    if not names:
        return Verdict("absent", subject, "no defense was evaluated")
    met = set(defended[defended.threat == "adaptive"].defense)
    missing = sorted(names - met)
    if missing:
        text = (
            f"no records of attacks through {', '.join(missing)}: the figures hold against an "
            "attacker who does not know the defense, and against no other"
        )
        return Verdict("WARN" if met else "absent", subject, text)
    return Verdict("PASS", subject, "every defense was attacked through itself")


def _false_alarms(cells: pd.DataFrame) -> Verdict:
    subject = "False alarms"
    clean = cells[(cells.attack == "original") & (cells.authentic > 0)]
    if clean.empty:
        return Verdict("absent", subject, "no authentic images were scored")
    alarms = clean.groupby("defense").false_alarms.max()
    text = f"of {int(clean.authentic.max())} authentic images the victim marks "
    text += f"{100 * alarms.get('none', float('nan')):.1f} % of the pixels"
    behind = alarms.drop("none", errors="ignore")
    if len(behind):
        text += f", behind {behind.idxmax()} {100 * behind.max():.1f} %"
    return Verdict("WARN" if alarms.max() > 0.1 else "PASS", subject, text)
