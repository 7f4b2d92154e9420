"""Gates: what must hold before a score is believed, checked on records alone.

Each gate looks at one victim behind one defense on one dataset. What the gates mean and what to do
when one fails: docs/gates.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pandas as pd

from advbench.scores.intervals import Bootstrap
from advbench.scores.threats import ADAPTIVE, QUERY, STATIC, TRANSFER

ROW = ["dataset", "victim", "size", "weights_sha256", "protocol", "defense", "strength"]
ONE_STEP, CONTROL = "fgsm", "noise"
# MCC that one attack may leave above a weaker one; what an attack without a bound may leave.
MARGIN, LARGE, SURVIVES = 0.01, 32, (0.05, 0.2)
MANY = 0.5  # share of a variant's images


class Verdict(StrEnum):
    """How a gate ended; a FAIL takes a row's rank, a WARN is told beside it."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Gate:
    """One gate's result.

    Attributes:
        name: such as ``grows-with-intensity``, a heading of docs/gates.md.
        told: one line with the figures that decided.
        figures: the same figures by name.
    """

    name: str
    verdict: Verdict
    told: str
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """Where the gate is explained."""
        return f"docs/gates.md#{self.name}"


def worst(gates: Iterable[Gate]) -> Verdict:
    """Sum up several verdicts; PASS where there are none."""
    found = {gate.verdict for gate in gates}
    return next((v for v in (Verdict.FAIL, Verdict.WARN) if v in found), Verdict.PASS)


def gates(records: pd.DataFrame) -> pd.DataFrame:
    """Run every gate on every victim and defense.

    Returns:
        one row a gate that the records allow: the columns of :data:`ROW`, ``gate``, ``verdict``,
        ``told`` and ``page``.
    """
    found = [
        dict(zip(ROW, key, strict=True))
        | {"gate": one.name, "verdict": str(one.verdict), "told": one.told, "page": one.page}
        for key, part in records.groupby(ROW, dropna=False, sort=True)
        for one in gates_of(part)
    ]
    return pd.DataFrame(found, columns=[*ROW, "gate", "verdict", "told", "page"])


def gates_of(records: pd.DataFrame) -> list[Gate]:
    """Run every gate on the records of one victim behind one defense (or none).

    A gate that the records do not allow, such as one about adaptive attacks where there are none,
    is left out.
    """
    measured = _Measured(records)
    return [gate for name in GATES for gate in [GATES[name](name, measured)] if gate]


class _Measured:
    """The MCC of every variant, image by image, and what the variants are."""

    def __init__(self, records: pd.DataFrame) -> None:
        self.records = records[records.attack != "original"]
        self.defended = bool((records.defense != "none").any())
        scored = self.records[self.records.mcc.notna()]
        columns = ["attack", "region", "target", "intensity", "threat", "budget"]
        about = scored.drop_duplicates("variant").set_index("variant")[columns]
        # A part of the image, or another truth, is another attack: compared with its like alone.
        about["method"] = about.attack + "," + about.region + "," + about.target
        self.variants = about.sort_values(["method", "intensity"], kind="stable")
        if len(scored):
            self._mcc = scored.pivot(index="sample_id", columns="variant", values="mcc")
            groups = scored.drop_duplicates("sample_id").set_index("sample_id").source_group
            self._bootstrap = Bootstrap(groups.reindex(self._mcc.index).tolist())

    def mean(self, variant: str) -> float:
        return float(self._mcc[variant].mean())

    def strongest(self, variants: pd.DataFrame) -> str | None:
        """The variant that leaves the lowest mean MCC."""
        return min(variants.index, key=self.mean, default=None)

    def against(self, stronger: str, weaker: str) -> tuple[float, float]:
        """How much more MCC the stronger one leaves than the weaker, on the images of both, and
        the lower end of that difference's interval."""
        difference = (self._mcc[stronger] - self._mcc[weaker]).to_numpy()
        if np.isnan(difference).all():
            return math.nan, math.nan
        low = self._bootstrap.interval(self._bootstrap.means(difference)).low
        return float(np.nanmean(difference)), low

    def of(self, *threats: str, whole: bool = True) -> pd.DataFrame:
        """Variants of some threat models, without the control; of the whole image by default."""
        v = self.variants
        chosen = v.threat.isin(threats) & (v.attack != CONTROL)
        return v[chosen & (v.region == "whole")] if whole else v[chosen]


def _ordered(
    name: str, measured: _Measured, pairs: Iterable[tuple[str, str]], what: str
) -> Gate | None:
    """Check pairs of a variant that should be the stronger and one that should be the weaker; the
    worst pair decides, and FAIL needs a difference that the images prove."""
    compared = [
        (*measured.against(stronger, weaker), stronger, weaker) for stronger, weaker in pairs
    ]
    compared = [one for one in compared if not math.isnan(one[0])]
    if not compared:
        return None

    def badness(one: tuple[float, float, str, str]) -> tuple[bool, bool, float]:
        return one[0] > MARGIN and one[1] > 0, one[0] > MARGIN, one[0]

    difference, low, stronger, weaker = max(compared, key=badness)
    proved, above, _ = badness((difference, low, stronger, weaker))
    verdict = Verdict.FAIL if proved else Verdict.WARN if above else Verdict.PASS
    left = {one: measured.mean(one) for one in (stronger, weaker)}
    told = f"{stronger} leaves MCC {left[stronger]:.3f}, {weaker} {left[weaker]:.3f}"
    suffix = "" if verdict == Verdict.PASS else f": {what}"
    return Gate(name, verdict, told + suffix, left | {"difference": difference, "low": low})


def _budget(name: str, measured: _Measured) -> Gate | None:
    bounded = measured.records.dropna(subset="budget")
    if bounded.empty:
        return None
    over = bounded[bounded.linf > bounded.budget]
    if over.empty:
        told = f"{len(bounded)} stored images, none beyond its budget"
        return Gate(name, Verdict.PASS, told, {"images": len(bounded), "over": 0})
    first = over.iloc[0]
    told = (
        f"{len(over)} of {len(bounded)} stored images beyond it; {first.sample_id} under "
        f"{first.variant} moved by {first.linf:g} of {first.budget:g} grey levels"
    )
    return Gate(name, Verdict.FAIL, told, {"images": len(bounded), "over": len(over)})


def _share(name: str, measured: _Measured, broken: pd.Series[bool], what: str) -> Gate | None:
    """Check that hardly an image of a variant has a fault; the worst variant decides."""
    if broken.empty:
        return None
    shares = broken.groupby(measured.records.variant.reindex(broken.index)).mean()
    variant, share = str(shares.idxmax()), float(shares.max())
    verdict = Verdict.FAIL if share >= MANY else Verdict.WARN if share > 0 else Verdict.PASS
    told = f"{100 * share:.0f} % of the images of {variant} {what}"
    return Gate(name, verdict, told if share else f"no image {what}", {"share": share})


def _changed(name: str, measured: _Measured) -> Gate | None:
    return _share(name, measured, measured.records.linf == 0, "unchanged")


def _zero_gradients(name: str, measured: _Measured) -> Gate | None:
    known = measured.records.zero_gradients.dropna()
    return _share(name, measured, known > 0, "with a gradient of zeros")


def _grows(name: str, measured: _Measured) -> Gate | None:
    def pairs() -> Iterator[tuple[str, str]]:
        attacks = measured.of(STATIC, ADAPTIVE, TRANSFER, QUERY, whole=False)
        for _, one in attacks.groupby(["method", "threat"]):
            names = one.sort_values("intensity").index
            yield from zip(names[1:], names[:-1], strict=True)

    return _ordered(name, measured, pairs(), "a larger budget weakens it")


def _iterated(name: str, measured: _Measured) -> Gate | None:
    def pairs() -> Iterator[tuple[str, str]]:
        attacks = measured.of(STATIC, ADAPTIVE).dropna(subset="budget")
        for _, same in attacks.groupby(["threat", "intensity"]):
            steps = measured.strongest(same[same.attack != ONE_STEP])
            single = measured.strongest(same[same.attack == ONE_STEP])
            if steps and single:
                yield steps, single

    return _ordered(name, measured, pairs(), "more steps weaken the attack")


def _noise(name: str, measured: _Measured) -> Gate | None:
    def pairs() -> Iterator[tuple[str, str]]:
        control = measured.variants[measured.variants.attack == CONTROL]
        for variant, row in control.iterrows():
            attacks = measured.of(STATIC, ADAPTIVE)
            for attack in attacks[attacks.budget == row.budget].index:
                yield str(attack), str(variant)

    return _ordered(name, measured, pairs(), "random noise of the same budget does more")


def _large(name: str, measured: _Measured) -> Gate | None:
    attacks = measured.of(ADAPTIVE if measured.defended else STATIC)
    variant = measured.strongest(attacks[attacks.budget >= LARGE])
    if variant is None:
        return None
    left, (passes, warns) = measured.mean(variant), SURVIVES
    verdict = Verdict.PASS if left <= passes else Verdict.WARN if left <= warns else Verdict.FAIL
    return Gate(name, verdict, f"{variant} leaves MCC {left:.3f}", {"mcc": left})


def _white_box(name: str, measured: _Measured) -> Gate | None:
    def pairs() -> Iterator[tuple[str, str]]:
        others = measured.of(TRANSFER, QUERY).dropna(subset="budget")
        white = measured.of(STATIC, ADAPTIVE)
        for budget, same in others.groupby("budget"):
            best = measured.strongest(white[white.budget == budget])
            if best:
                yield from ((best, str(other)) for other in same.index)

    return _ordered(name, measured, pairs(), "an attack that knows less does more")


def _adaptive(name: str, measured: _Measured) -> Gate | None:
    def pairs() -> Iterator[tuple[str, str]]:
        both = measured.of(STATIC, ADAPTIVE, whole=False)
        for _, same in both.groupby(["method", "intensity"]):
            adaptive, static = (
                same.index[same.threat == ADAPTIVE],
                same.index[same.threat == STATIC],
            )
            yield from ((str(a), str(s)) for a in adaptive for s in static)

    return _ordered(name, measured, pairs(), "the attack through the defense is the weaker one")


GATES: dict[str, Callable[[str, _Measured], Gate | None]] = {
    "budget": _budget,
    "images-changed": _changed,
    "zero-gradients": _zero_gradients,
    "grows-with-intensity": _grows,
    "iterated-beats-one-step": _iterated,
    "beats-random-noise": _noise,
    "nothing-survives-32": _large,
    "white-box-beats-black-box": _white_box,
    "adaptive-beats-static": _adaptive,
}
