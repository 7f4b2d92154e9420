"""The gate before numerics that are not exact: attacks must be as strong as exact ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from advbench.attacks.base import Attack
from advbench.attacks.bim import BIM
from advbench.attacks.cw import CW
from advbench.attacks.gradient import InputGradient
from advbench.attacks.pgd import PGD
from advbench.datasets.dataset import Dataset
from advbench.datasets.manifest import Row
from advbench.errors import AdvbenchError
from advbench.files import write_atomically
from advbench.images import fit_mask, to_tensor, to_unit
from advbench.inference.numerics import deterministic_mode
from advbench.inference.runner import BatchRunner
from advbench.pipelines.load import cache_folder
from advbench.pipelines.making import GenerationJob
from advbench.pipelines.provenance import device_name, versions, victim_identity
from advbench.scores.intervals import Bootstrap
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim

# Images N×3×H×W, truth N×H×W, their names → one result an image.
Run = Callable[[Tensor, Tensor, list[str], BatchRunner], Tensor]

IMAGES = 32
MOST_RP = 0.5
ATTACKS: tuple[Attack, ...] = (
    BIM.create(eps=(3.0,)),
    PGD.create(eps=(1.0,)),
    CW.create(steps=(50,)),
)


@dataclass(frozen=True)
class Difference:
    """Measure how far the mean F1 under one attack is from that under the exact one, in RP points.

    Attributes:
        rp: below 0 where the attack is stronger than the exact one.
        low, high: the paired 95 % interval over source photographs.
    """

    attack: str
    rp: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.attack} {self.rp:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


@dataclass(frozen=True)
class Agreement:
    """With exact numerics.

    Attributes:
        numerics: what was compared.
        images: how many it was measured on.
        signs: share of the gradient's absolute sum whose sign agrees, in the mean over images.
        differences: one an attack.
    """

    numerics: str
    images: int
    signs: float
    differences: tuple[Difference, ...]

    @property
    def enough(self) -> bool:
        """Tell whether images may be made so."""
        return all(abs(difference.rp) <= MOST_RP for difference in self.differences)

    def __str__(self) -> str:
        return (
            f"on {self.images} images {100 * self.signs:.2f} % of the gradient has its exact sign, "
            f"and F1 differs in RP points by {', '.join(map(str, self.differences))}"
        )


@dataclass(frozen=True)
class Sample:
    """An image that both are run on.

    Attributes:
        image: uint8 1×3×H×W at the working size.
        truth: bool 1×H×W.
    """

    photograph: str
    image: Tensor
    truth: Tensor

    @classmethod
    def of(cls, victim: Victim, dataset: Dataset, row: Row) -> Self:
        """An image of a dataset as the victim sees it."""
        image = victim.fit(dataset.image(row))
        truth = torch.from_numpy(fit_mask(dataset.mask(row), image).copy())
        return cls(row.source_group, to_tensor(image), truth[None])


def check_agreement(job: GenerationJob) -> Agreement:
    """Measure a job's numerics on its first images, once for a victim, a setting and a machine:
    what was found is kept in the cache.

    Raises:
        AdvbenchError: attacks are not as strong, or not as weak, as exact ones.
    """
    victim, rows = job.victim, job.rows[:IMAGES]
    kept = _path(job)
    found = _read(kept)
    if found is None:
        samples = [Sample.of(victim, job.dataset, row) for row in rows]
        found = measured(victim, samples, ATTACKS)
        write_atomically(kept, json.dumps(asdict(found)).encode())
    if not found.enough:
        raise AdvbenchError(
            f"--numerics {victim.numerics}: {found}; {MOST_RP} are allowed, take --numerics exact"
        )
    return found


def measured(victim: Victim, samples: Sequence[Sample], attacks: Sequence[Attack]) -> Agreement:
    """Compare a victim's numerics with those of the exact one.

    Images are made with either, and scored by the exact victim.
    """
    exact = victim.exact or victim
    clean = float(_scores(exact, samples).mean())
    resampled = Bootstrap([sample.photograph for sample in samples])
    differences = []
    for attack in attacks:
        other, own = (_scores(exact, _attacked(each, attack, samples)) for each in (victim, exact))
        rp = 100 * (other - own) / max(clean, 1e-9)
        low, high = resampled.interval(resampled.means(rp))
        name = attack.variant_name(attack.intensities[0])
        differences.append(Difference(name, float(rp.mean()), low, high))
    pairs = zip(_gradients(victim, samples), _gradients(exact, samples), strict=True)
    signs = float(np.mean([_same_signs(*pair) for pair in pairs]))
    return Agreement(victim.numerics, len(samples), signs, tuple(differences))


def _attacked(victim: Victim, attack: Attack, samples: Sequence[Sample]) -> list[Sample]:
    """The samples under the attack's first intensity."""

    def run(images: Tensor, truth: Tensor, names: list[str], runner: BatchRunner) -> Tensor:
        return next(iter(attack.run(victim, images, truth, names, runner=runner).values())).images

    made = _stacked(victim, samples, run)
    return [replace(one, image=image[None]) for one, image in zip(samples, made, strict=True)]


def _gradients(victim: Victim, samples: Sequence[Sample]) -> list[Tensor]:
    """The loss's gradient at each sample."""

    def run(images: Tensor, truth: Tensor, names: list[str], runner: BatchRunner) -> Tensor:
        y = truth.to(victim.device)[:, None].float()
        return InputGradient(victim, y, runner)(to_unit(images.to(victim.device))).cpu()

    return _stacked(victim, samples, run)


def _scores(victim: Victim, samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
    """F1 under f1/v1 of each undefended sample."""
    rule = protocol("f1/v1")

    def run(images: Tensor, truth: Tensor, names: list[str], runner: BatchRunner) -> Tensor:
        with torch.inference_mode():
            maps = victim.probabilities(to_unit(images.to(victim.device)))
        pairs = zip(maps[:, 0].float().cpu().numpy(), truth.numpy(), strict=True)
        f1 = [rule.f1_of_map(*pair, victim.threshold) for pair in pairs]
        return torch.tensor(f1, dtype=torch.float64)

    return np.array(_stacked(victim, samples, run), dtype=np.float64)


def _stacked(victim: Victim, samples: Sequence[Sample], run: Run) -> list[Tensor]:
    """Run samples of one size together on a GPU, and side by side on a CPU; one result each."""
    runner = BatchRunner(victim.device, reentrant=victim.reentrant)
    most = 1 if victim.device.type == "cpu" else runner.images_at_once
    stacks: list[list[int]] = [[]]
    for number, sample in enumerate(samples):
        last = stacks[-1]
        if last and (len(last) == most or samples[last[0]].image.shape != sample.image.shape):
            stacks.append([])
        stacks[-1].append(number)

    def one(chunk: Sequence[list[int]]) -> list[Tensor]:
        (numbers,) = chunk
        images = torch.cat([samples[number].image for number in numbers])
        truth = torch.cat([samples[number].truth for number in numbers])
        return [run(images, truth, [f"gate-{number}" for number in numbers], runner)]

    with deterministic_mode(victim.network, victim.numerics), runner:
        found = runner.sized("gate", 1).map(stacks, one)
    return [row for stack in found for row in stack]


def _same_signs(one: Tensor, other: Tensor) -> float:
    """Share of the absolute sum of ``other`` where the signs agree; 1 where there is none."""
    weight = other.abs()
    if not weight.any():
        return 1.0
    return float((weight * (one.sign() == other.sign())).sum() / weight.sum())


def _path(job: GenerationJob) -> Path:
    """Name the file of the gate's result: named after all that decides it."""
    victim = job.victim
    parts = {
        "victim": victim_identity(victim),
        "numerics": victim.numerics,
        "device": device_name(victim.device),
        "versions": versions(),
        "attacks": [attack.variant_spec(attack.intensities[0]) for attack in ATTACKS],
        "images": [(row.pixels_sha256, row.maskbits_sha256) for row in job.rows[:IMAGES]],
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "numerics" / f"{victim.name}-{victim.numerics}-{digest[:16]}.json"


def _read(path: Path) -> Agreement | None:
    """Read what was kept; None where there is nothing that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        differences = tuple(Difference(**each) for each in found.pop("differences"))
        return Agreement(**found, differences=differences)
    except (OSError, ValueError, KeyError, TypeError):
        return None
