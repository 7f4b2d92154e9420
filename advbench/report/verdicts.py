"""What the records of a victim allow to be concluded, each with what it rests on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from advbench.report.curves import in_order

State = Literal["PASS", "WARN", "FAIL", "absent"]


@dataclass(frozen=True)
class Verdict:
    """One conclusion about a victim's figures."""

    state: State
    subject: str
    text: str


def verdicts(cells: pd.DataFrame, floor: float) -> list[Verdict]:
    """The verdicts on one victim's cells on one dataset.

    Args:
        floor: mean F1 of the map that marks everything, on the same originals.
    """
    found = [_above_floor(cells, floor), _photographs(cells)]
    undefended = cells[(cells.defense == "none") & (cells.threat == "static")]
    attacked = undefended[undefended.attack != "original"]
    if len(attacked):
        found += [_unchanged(attacked), _gradients(cells), _monotone(attacked), _iterated(attacked)]
    found += [_adaptive(cells), _false_alarms(cells)]
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


def _unchanged(attacked: pd.DataFrame) -> Verdict:
    worst = attacked.sort_values("unchanged").iloc[-1]
    if worst.unchanged > 0:
        text = f"{worst.variant} left {100 * worst.unchanged:.0f} % of the images unchanged"
        return Verdict("FAIL" if worst.unchanged > 0.5 else "WARN", "Attacks change images", text)
    return Verdict("PASS", "Attacks change images", "every stored image differs from its original")


def _gradients(cells: pd.DataFrame) -> Verdict:
    subject = "Gradients that say something"
    counted = cells[(cells.attack != "original") & cells.zero_gradients.notna()]
    if counted.empty:
        return Verdict("absent", subject, "zero gradients were not counted")
    zero = sorted(set(counted[counted.zero_gradients > 0].variant))
    if zero:
        return Verdict(
            "WARN", subject, f"some gradients were zero everywhere under {', '.join(zero)}"
        )
    return Verdict("PASS", subject, "no gradient was zero everywhere")


def _monotone(attacked: pd.DataFrame) -> Verdict:
    subject = "More intensity, more damage"
    rises = []
    for attack, rows in attacked.groupby("attack"):
        f1 = rows.sort_values("intensity").f1.to_list()
        rises += [
            f"{attack} (F1 {before:.3f} → {after:.3f})"
            for before, after in itertools.pairwise(f1)
            if after > before + 0.02
        ]
    if rises:
        return Verdict("WARN", subject, f"F1 rises with intensity under {', '.join(rises)}")
    if attacked.groupby("attack").size().max() < 2:
        return Verdict("absent", subject, "no attack was made at more than one intensity")
    return Verdict("PASS", subject, "F1 falls, or stays within 0.02, as each attack intensifies")


def _iterated(attacked: pd.DataFrame) -> Verdict:
    subject = "Iterated at least as strong as one step"
    f1 = attacked.set_index(["attack", "intensity"]).f1
    if "fgsm" not in in_order(attacked.attack):
        return Verdict("absent", subject, "no records of fgsm to compare with")
    single = f1["fgsm"]
    weaker, compared = [], 0
    for attack in {"bim", "pgd", "mifgsm", "pgn"} & set(attacked.attack):
        for intensity, value in f1[attack].items():
            if intensity in single.index:
                compared += 1
                if value > single[intensity] + 0.02:
                    weaker.append(f"{attack}-{intensity:g}")
    if weaker:
        text = (
            f"{', '.join(sorted(weaker))} leave a higher F1 than FGSM: masked gradients are likely"
        )
        return Verdict("WARN", subject, text)
    if not compared:
        return Verdict("absent", subject, "no iterated attack shares an intensity with fgsm")
    return Verdict("PASS", subject, f"{compared} comparisons with FGSM at the same φ")


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
