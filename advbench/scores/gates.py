"""Gates: what must hold before a score is believed, checked on records alone.

Each gate looks at one victim behind one defense on one dataset. What the gates mean and what to do
when one fails: docs/gates.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
import pandas as pd

from advbench.scores.intervals import Bootstrap, Values
from advbench.scores.threats import ADAPTIVE, QUERY, STATIC, TRANSFER

ROW = ["dataset", "victim", "size", "weights_sha256", "protocol", "defense", "strength"]
ONE_STEP, CONTROL = "fgsm", "noise"
# MCC that one attack may leave above a weaker one; what an attack without a bound may leave.
MARGIN, LARGE, SURVIVES = 0.01, 32, (0.05, 0.2)
MANY = 0.5  # share of a variant's images


class Verdict(StrEnum):
    """Say how a gate ended; a FAIL takes a row's rank, a WARN is told beside it."""

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
        """Name the page that explains the gate."""
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


@dataclass(frozen=True)
class _Variant:
    """One variant behind the defense: what it is, and the MCC that it leaves, an image each; an
    inverted map counts as one that knows nothing, 0."""

    name: str
    method: tuple[str, str, str]
    intensity: float
    threat: str
    budget: float
    mcc: Values

    @property
    def attack(self) -> str:
        return self.method[0]

    @cached_property
    def mean(self) -> float:
        return float(np.nanmean(self.mcc))


class _Measured:
    """The attacked records of one victim behind one defense, and its variants."""

    def __init__(self, records: pd.DataFrame) -> None:
        self.records = records[records.attack != "original"]
        # Who knows all that there is to know; a static attack never saw the defense.
        self.white = ADAPTIVE if (records.defense != "none").any() else STATIC
        columns = ["sample_id", "source_group", "variant", "attack", "region", "target"]
        columns += ["intensity", "threat", "budget", "mcc"]
        scored = self.records.loc[self.records.mcc.notna(), columns]
        images = scored.drop_duplicates("sample_id").sort_values("sample_id")
        place = pd.Index(images.sample_id)
        self._photographs = images.source_group.tolist()
        self.variants = []
        for name, part in scored.groupby("variant", sort=True):
            mcc = np.full(len(place), math.nan)
            mcc[place.get_indexer(pd.Index(part.sample_id))] = part.mcc.clip(lower=0)
            one = part.iloc[0]
            # A part of the image, or another truth, is another attack: compared with its like.
            method = one.attack, one.region, one.target
            self.variants.append(
                _Variant(str(name), method, one.intensity, one.threat, one.budget, mcc)
            )

    def of(self, *threats: str, whole: bool = True) -> list[_Variant]:
        """Variants of some threat models, without the control; of the whole image by default."""
        return [
            v
            for v in self.variants
            if v.threat in threats and v.attack != CONTROL and (v.method[1] == "whole" or not whole)
        ]

    def above(self, stronger: _Variant, weaker: _Variant) -> tuple[float, float]:
        """Measure how much more MCC the stronger one leaves than the weaker, on the images of both;
        and the lower end of that difference's interval, where it matters."""
        difference = stronger.mcc - weaker.mcc
        there = ~np.isnan(difference)
        mean = float(difference[there].mean()) if there.any() else math.nan
        return mean, self._bootstrap.interval(
            self._bootstrap.means(difference)
        ).low if mean > MARGIN else math.nan

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap(self._photographs)


def _strongest(variants: Iterable[_Variant], budget: float) -> list[_Variant]:
    """Find among those with a budget the one that leaves the lowest mean MCC, if there is any."""
    same = [v for v in variants if v.budget == budget]
    return sorted(same, key=lambda v: (v.mean, v.name))[:1]


Pairs = Iterable[tuple[_Variant, _Variant]]


def _ordered(name: str, measured: _Measured, pairs: Pairs, what: str) -> Gate | None:
    """Check pairs of a variant that should be the stronger and one that should be the weaker; the
    worst pair decides, and FAIL needs a difference that the images prove."""
    compared = [(*measured.above(*pair), *pair) for pair in pairs]
    compared = [one for one in compared if not math.isnan(one[0])]
    if not compared:
        return None
    difference, low, stronger, weaker = max(compared, key=lambda one: (one[1] > 0, one[0]))
    verdict = Verdict.FAIL if low > 0 else Verdict.WARN if difference > MARGIN else Verdict.PASS
    told = f"{stronger.name} leaves MCC {stronger.mean:.3f}, {weaker.name} {weaker.mean:.3f}"
    figures = {v.name: v.mean for v in (stronger, weaker)} | {"difference": difference, "low": low}
    return Gate(name, verdict, told if verdict == Verdict.PASS else f"{told}: {what}", figures)


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
    if broken.empty:
        return None
    shares = broken.groupby(measured.records.variant.reindex(broken.index)).mean()
    return worst_share(name, what, {str(variant): float(one) for variant, one in shares.items()})


def worst_share(name: str, what: str, shares: Mapping[str, float]) -> Gate:
    """Check that hardly an image of a variant has a fault; the worst variant decides.

    Args:
        shares: per variant, of the images that have it.
    """
    variant = max(shares, key=lambda one: shares[one])
    share = shares[variant]
    verdict = Verdict.FAIL if share >= MANY else Verdict.WARN if share > 0 else Verdict.PASS
    told = f"{100 * share:.0f} % of the images of {variant} {what}"
    return Gate(name, verdict, told if share else f"no image {what}", {"share": share})


def _changed(name: str, measured: _Measured) -> Gate | None:
    return _share(name, measured, measured.records.linf == 0, "unchanged")


def _zero_gradients(name: str, measured: _Measured) -> Gate | None:
    known = measured.records.zero_gradients.dropna()
    return _share(name, measured, known > 0, "with a gradient of zeros")


def _grows(name: str, measured: _Measured) -> Gate | None:
    attacks = sorted(measured.of(measured.white), key=lambda v: (v.method, v.intensity))
    bounded = {v.budget for v in attacks if not math.isnan(v.budget)}
    strongest = [one for budget in sorted(bounded) for one in _strongest(attacks, budget)]
    unbounded = [v for v in attacks if math.isnan(v.budget)]
    pairs = [(larger, smaller) for smaller, larger in itertools.pairwise(strongest)]
    pairs += [
        (larger, smaller)
        for smaller, larger in itertools.pairwise(unbounded)
        if larger.method == smaller.method
    ]
    return _ordered(name, measured, pairs, "a larger budget weakens it")


def _iterated(name: str, measured: _Measured) -> Gate | None:
    attacks = measured.of(measured.white)
    several = [v for v in attacks if v.attack != ONE_STEP]
    pairs = [
        (best, single)
        for single in attacks
        if single.attack == ONE_STEP
        for best in _strongest(several, single.budget)
    ]
    return _ordered(name, measured, pairs, "more steps weaken the attack")


def _noise(name: str, measured: _Measured) -> Gate | None:
    pairs = [
        (attack, control)
        for control in measured.variants
        if control.attack == CONTROL
        for attack in measured.of(measured.white)
        if attack.budget == control.budget
    ]
    return _ordered(name, measured, pairs, "random noise of the same budget does more")


def _large(name: str, measured: _Measured) -> Gate | None:
    large = [v for v in measured.of(measured.white) if v.budget >= LARGE]
    if not large:
        return None
    best = min(large, key=lambda v: v.mean)
    left, (passes, warns) = best.mean, SURVIVES
    verdict = Verdict.PASS if left <= passes else Verdict.WARN if left <= warns else Verdict.FAIL
    return Gate(name, verdict, f"{best.name} leaves MCC {left:.3f}", {"mcc": left})


def _white_box(name: str, measured: _Measured) -> Gate | None:
    pairs = [
        (best, other)
        for other in measured.of(TRANSFER, QUERY)
        for best in _strongest(measured.of(measured.white), other.budget)
    ]
    return _ordered(name, measured, pairs, "an attack that knows less does more")


def _adaptive(name: str, measured: _Measured) -> Gate | None:
    pairs = [
        (adaptive, static)
        for adaptive in measured.of(ADAPTIVE, whole=False)
        for static in measured.of(STATIC, whole=False)
        if (adaptive.method, adaptive.intensity) == (static.method, static.intensity)
    ]
    return _ordered(name, measured, pairs, "the attack through the defense is the weaker one")


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
