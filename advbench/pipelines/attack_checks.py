"""Gates of an attack that need the network: what must hold of the images that it makes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from advbench.attacks.base import Attack
from advbench.attacks.batch import Result
from advbench.attacks.noise import Noise
from advbench.defenses.none import NoDefense
from advbench.pipelines.cells import Cell
from advbench.pipelines.checks import Checked, Sample, no_more
from advbench.scores.gates import Gate, Verdict, worst_share
from advbench.victims.base import Victim

# Grey levels that an image may lie beyond its budget before it is rounded.
ROUNDING = 0.5


def check_attack(victim: Victim, attack: Attack, samples: Sequence[Sample]) -> list[Gate]:
    """Run the gates of ``docs/gates.md`` that look at one attack before one victim."""
    made = AttackedSamples(victim, samples, attack, _run(victim, attack, samples))
    gates = [_budget(made), _changed(made), _zero_gradients(made), _keyed(made), _grows(made)]
    return [gate for gate in [*gates, _beats_noise(made), _survives_rounding(made)] if gate]


@dataclass(frozen=True)
class AttackedSamples:
    """Hold what an attack made: of each intensity a result for each sample, attacked alone."""

    victim: Victim
    samples: Sequence[Sample]
    attack: Attack
    results: Mapping[float, Sequence[Result]]

    def stored(self, intensity: float) -> list[Tensor]:
        """Return the images of an intensity, uint8 1×3×H×W each."""
        return [result.images for result in self.results[intensity]]

    def left(self, images: Sequence[Tensor]) -> float:
        """Measure what is left of the localization: the mean F1 + MCC."""
        return Checked(self.victim, Cell(NoDefense(), None), self.samples).left(images)


def _run(
    victim: Victim, attack: Attack, samples: Sequence[Sample]
) -> dict[float, Sequence[Result]]:
    runs = [attack.run(victim, one.image, one.mask, [one.sample_id]) for one in samples]
    names = {intensity: attack.variant_name(intensity) for intensity in attack.intensities}
    return {intensity: [run[name] for run in runs] for intensity, name in names.items()}


def _budget(made: AttackedSamples) -> Gate | None:
    """Check that what the attack returns lies within its budget, before it is cut back."""
    beyond = {}
    for intensity, results in made.results.items():
        if (budget := made.attack.budget(intensity)) is None:
            continue
        for sample, result in zip(made.samples, results, strict=True):
            original = sample.image.float()
            moved = (255 * result.details[0].float_image.cpu() - original[0]).abs().max()
            beyond[made.attack.variant_name(intensity)] = float(moved) - budget
    if not beyond:
        return None
    name = max(beyond, key=lambda variant: beyond[variant])
    good = beyond[name] <= ROUNDING
    told = f"{name} moves pixels by {max(beyond[name], 0):.2f} grey levels beyond its budget"
    return Gate("budget", Verdict.PASS if good else Verdict.FAIL, told)


def _changed(made: AttackedSamples) -> Gate:
    return worst_share(
        "images-changed",
        "unchanged",
        {
            made.attack.variant_name(intensity): fmean(
                torch.equal(result.images, sample.image)
                for sample, result in zip(made.samples, results, strict=True)
            )
            for intensity, results in made.results.items()
        },
    )


def _zero_gradients(made: AttackedSamples) -> Gate | None:
    if not made.attack.needs_gradients:
        return None
    return worst_share(
        "zero-gradients",
        "with a gradient of zeros",
        {
            made.attack.variant_name(intensity): fmean(
                result.details[0].zero_gradients > 0 for result in results
            )
            for intensity, results in made.results.items()
        },
    )


def _keyed(made: AttackedSamples) -> Gate:
    """The same image, name and seed give the same bytes, whatever torch drew in between."""
    first = made.attack.only(made.attack.intensities[:1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        (again,) = _run(made.victim, first, made.samples[:1]).values()
    same = torch.equal(again[0].images, made.stored(made.attack.intensities[0])[0])
    told = f"{made.samples[0].sample_id} attacked twice: {'the same' if same else 'other'} bytes"
    return Gate("draws-are-keyed", Verdict.PASS if same else Verdict.FAIL, told)


def _grows(made: AttackedSamples) -> Gate | None:
    """A larger intensity leaves no more."""
    left = {value: made.left(made.stored(value)) for value in sorted(made.results)}
    pairs = list(itertools.pairwise(left))
    if not pairs:
        return None
    smaller, larger = max(pairs, key=lambda pair: left[pair[1]] - left[pair[0]])
    return _ordered(
        "grows-with-intensity",
        (made.attack.variant_name(larger), left[larger]),
        (made.attack.variant_name(smaller), left[smaller]),
    )


def _beats_noise(made: AttackedSamples) -> Gate | None:
    """At its largest budget the attack leaves no more than random signs of that size."""
    budgets = {value: made.attack.budget(value) for value in made.results}
    bounded = [value for value, budget in budgets.items() if budget]
    if not bounded:
        return None
    largest = max(bounded)
    noise = Noise(eps=(float(budgets[largest] or 0),))
    (controls,) = _run(made.victim, noise, made.samples).values()
    return _ordered(
        "beats-random-noise",
        (made.attack.variant_name(largest), made.left(made.stored(largest))),
        ("random signs", made.left([result.images for result in controls])),
    )


def _survives_rounding(made: AttackedSamples) -> Gate:
    """Check that the stored images do as much as the unrounded ones that the attack returned."""
    found = []
    for intensity, results in made.results.items():
        floats = [255 * result.details[0].float_image[None] for result in results]
        before, after = made.left(floats), made.left(made.stored(intensity))
        found.append((after - before, made.attack.variant_name(intensity), after, before))
    _, name, after, before = max(found)
    return _ordered("survives-rounding", (f"{name} as stored", after), ("unrounded", before))


def _ordered(name: str, stronger: tuple[str, float], weaker: tuple[str, float]) -> Gate:
    """Check that the first leaves no more than the second."""
    told = f"{stronger[0]} leaves F1 + MCC {stronger[1]:.3f}, {weaker[0]} {weaker[1]:.3f}"
    return Gate(name, no_more(stronger[1], weaker[1]), told)
