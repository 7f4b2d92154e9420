"""Gates that need the network: what must hold of a victim, alone or behind a defense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from advbench.attacks.gradient import InputGradient
from advbench.attacks.losses import localization_loss
from advbench.attacks.pgd import PGD
from advbench.attacks.strength import damage
from advbench.errors import AdvbenchError
from advbench.inference.numerics import deterministic_mode
from advbench.pipelines.adaptive import Through, behind_defense
from advbench.pipelines.cells import Cell
from advbench.scores.gates import Gate, Verdict
from advbench.victims.base import Victim

PHI, LARGE, STEPS = 3.0, 32.0, 10
# The part of a predicted rise of the loss that a step of one grey level must bring.
FOLLOWED = (0.1, 10.0)
MARGIN = 0.02  # of F1 + MCC
# What the defended map may agree with a decoy mask more after an attack on the decoy.
LEAKS = (0.1, 0.3)
MUCH = 0.2  # of F1 + MCC: a difference that a few images prove
SURVIVES = 0.2  # F1 + MCC that may be left at φ = 32


@dataclass(frozen=True)
class Sample:
    """A forged image at the victim's working size: uint8 1×3×H×W, and bool 1×H×W."""

    sample_id: str
    image: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Checked:
    """A victim behind a defense, on some images."""

    victim: Victim
    cell: Cell
    samples: Sequence[Sample]

    @property
    def seen(self) -> Victim:
        """The victim behind the defense, with the plainest gradient through it."""
        defense = self.cell.defense
        draws = 4 if defense.random else 1
        return behind_defense(
            self.victim, defense, self.cell.strength, draws, surrogate=defense.surrogates[0]
        )

    def left(self, images: Sequence[Tensor], seed: int = 0) -> float:
        """Measure what is left of the localization behind the defense: the mean F1 + MCC; an
        inverted map counts as one that knows nothing, 0."""
        found = []
        for sample, image in zip(self.samples, images, strict=True):
            keys = self.cell.defense.keys([sample.sample_id], self.cell.strength, seed)
            with torch.inference_mode():
                x = image.to(self.victim.device).float() / 255
                logits = self.victim.logits(self.cell.defense.checked(x, self.cell.strength, keys))
            y = sample.mask[:, None].to(logits)
            found.append(max(0.0, -float(damage(logits, y, self.victim.threshold))))
        return float(np.mean(found))

    def attacked(self, phi: float, adaptive: bool) -> list[Tensor]:
        """Images under PGD, on the victim alone or through the defense."""
        plain = PGD(eps=phi, iterations=STEPS)
        attack = (
            Through(attack=plain, defense=self.cell.defense, strength=self.cell.strength, draws=4)
            if adaptive
            else plain
        )
        return [
            next(iter(attack(self.victim, s.image, s.mask, [s.sample_id]).values()))
            for s in self.samples
        ]


def check(victim: Victim, cell: Cell, samples: Sequence[Sample]) -> list[Gate]:
    """Run every gate; those that rest on a gradient end where there is none.

    Returns:
        the gates of ``docs/gates.md`` that need the network.
    """
    checked = Checked(victim, cell, samples)
    gates = [_same_draw(checked)]
    with deterministic_mode(victim.network):
        gradients = _gradients(checked)
        gates += gradients
    if cell.defense.name == "none" or any(gate.verdict == Verdict.FAIL for gate in gradients):
        return gates
    return [*gates, *_adaptive(checked), _reads_no_label(checked)]


def no_more(stronger: float, weaker: float) -> Verdict:
    """Judge whether what should be the stronger attack leaves no more than the weaker."""
    more = stronger - weaker
    return Verdict.PASS if more <= MARGIN else Verdict.WARN if more <= MUCH else Verdict.FAIL


def _same_draw(checked: Checked) -> Gate:
    """The same image and key twice: what is random must be keyed."""
    images = [sample.image for sample in checked.samples]
    once, again, other = (checked.left(images, seed) for seed in (0, 0, 1))
    name = "draws-are-keyed"
    if once != again:
        told = f"F1 + MCC {once:.3f} and {again:.3f} of the same images and keys"
        return Gate(name, Verdict.FAIL, told)
    if once != other and not checked.cell.defense.random:
        told = f"F1 + MCC {once:.3f} with one seed, {other:.3f} with another; it says not random"
        return Gate(name, Verdict.FAIL, told)
    far = abs(once - other) > MARGIN
    told = f"F1 + MCC {once:.3f}, with another seed {other:.3f}"
    return Gate(name, Verdict.WARN if far else Verdict.PASS, told)


def _gradients(checked: Checked) -> list[Gate]:
    """The gradient exists, is not zero, and says how the loss rises within a grey level."""
    seen, zeros, followed = checked.seen, [], []
    for sample in checked.samples:
        x = sample.image.to(seen.device).float() / 255
        y = sample.mask[:, None].to(x)
        gradient = InputGradient(seen, y, keys=[(0, sample.sample_id, "check")])
        try:
            found = gradient(x)
        except (RuntimeError, AdvbenchError) as error:
            told = f"no gradient reaches {sample.sample_id}: {str(error).splitlines()[0]}"
            return [Gate("zero-gradient-share", Verdict.FAIL, told)]
        zeros.append(float((found == 0).float().mean()))
        step = found.sign() / 255
        with torch.no_grad():
            keys = [(0, sample.sample_id, "check", 0, 0, 0)]
            up, down = (
                float(localization_loss(seen.logits_for(x + sign * step, keys), y))
                for sign in (0.5, -0.5)
            )
        predicted = float((found * step).sum())
        followed.append((up - down) / predicted if predicted else 0.0)
    share, ratio = float(np.mean(zeros)), float(np.median(followed))
    verdict = Verdict.FAIL if share == 1 else Verdict.WARN if share > 0.5 else Verdict.PASS
    gates = [Gate("zero-gradient-share", verdict, f"{100 * share:.0f} % of it is exactly zero")]
    if checked.cell.defense.differentiable and share < 1:
        low, high = FOLLOWED
        good = low <= ratio <= high
        told = f"a step of a grey level along it raises the loss by {ratio:.2f} of what it predicts"
        gates.append(Gate("gradient-is-true", Verdict.PASS if good else Verdict.FAIL, told))
    return gates


def _adaptive(checked: Checked) -> list[Gate]:
    """Knowing the defense helps, and nothing survives φ = 32."""
    static = checked.left(checked.attacked(PHI, adaptive=False))
    adaptive = checked.left(checked.attacked(PHI, adaptive=True))
    told = f"φ = {PHI:g}: through the defense F1 + MCC {adaptive:.3f}, without {static:.3f}"
    gates = [Gate("adaptive-beats-static", no_more(adaptive, static), told)]
    large = checked.left(checked.attacked(LARGE, adaptive=True))
    told = f"φ = {LARGE:g} leaves F1 + MCC {large:.3f}"
    survives = large > SURVIVES
    gates.append(Gate("nothing-survives-32", Verdict.FAIL if survives else Verdict.PASS, told))
    return gates


def _reads_no_label(checked: Checked) -> Gate:
    """Noise made with a decoy for the truth does not bring the decoy out behind the defense.

    An attack's noise depends on the mask that it was made with. A defense that reads the mask from
    the noise, and draws it, is no purifier: it agrees with any mask.
    """
    decoys = [replace(one, mask=_decoy(one.mask)) for one in checked.samples]
    decoyed = replace(checked, samples=decoys)
    clean = decoyed.left([one.image for one in decoys])
    attacked = decoyed.left(decoyed.attacked(PHI, adaptive=False))
    passes, warns = LEAKS
    more = attacked - clean
    verdict = Verdict.PASS if more <= passes else Verdict.WARN if more <= warns else Verdict.FAIL
    told = (
        f"F1 + MCC against decoy masks {attacked:.3f} after an attack on them, {clean:.3f} before"
    )
    return Gate("reads-no-label", verdict, told)


def _decoy(mask: Tensor) -> Tensor:
    """The mask mirrored to where it overlaps itself least."""
    mirrored = [mask.flip(-1), mask.flip(-2), mask.flip(-1, -2)]
    return min(mirrored, key=lambda one: int((one & mask).sum()))
