"""Score one image behind each defense: what is stored, what the victim makes of it, a record."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import advbench
from advbench.contracts import check_finite, check_shape, unchanged
from advbench.errors import AdvbenchError
from advbench.images import Image, Mask, pixels_sha256, to_tensor, to_unit
from advbench.inference.runner import BatchRunner
from advbench.memory import release_freed
from advbench.pipelines.cells import Cell
from advbench.scores.counts import iou, marked, mcc
from advbench.scores.metrics import (
    OPTIONAL,
    Change,
    Metric,
    Noise,
    auc,
    kept_psnr,
    noise_metrics,
    removed_share,
)
from advbench.scores.protocols import ProbabilityMap, Protocol
from advbench.scores.records import Record
from advbench.scores.threats import ORIGINAL, Attacked
from advbench.victims.base import Victim

TRIM_EVERY = 64  # images


def predict(
    victim: Victim, cell: Cell, x: Tensor, sample_id: str, *, seed: int
) -> npt.NDArray[np.float32]:
    """The victim's map H×W behind a defense, of an image 1×3×H×W in [0, 1] on its device.

    Raises:
        AdvbenchError: the defense or the victim returns something else than its rules say, or NaN.
    """
    return defend_and_predict(victim, cell, x, [sample_id], seed=seed)[1][0]


def defend_and_predict(
    victim: Victim, cell: Cell, x: Tensor, sample_ids: Sequence[str], *, seed: int
) -> tuple[Tensor, npt.NDArray[np.float32]]:
    """Return N defended images beside their maps N×H×W; see :func:`predict`."""
    keys = cell.defense.keys(sample_ids, cell.strength, seed)
    what = f"victim {victim.name}: map"
    try:
        with torch.inference_mode():
            defended = cell.defense.checked(x, cell.strength, keys)
            with unchanged(f"victim {victim.name}", x):
                found = victim.probabilities(defended)
            check_shape(what, found, (len(x), 1, *x.shape[2:]), "floats N×1×H×W")
            check_finite(what, found)
        return defended, _array(found[:, 0])
    except AdvbenchError as error:
        images = f"image {sample_ids[0]}" if len(x) == 1 else f"images {', '.join(sample_ids)}"
        raise AdvbenchError(f"{error} ({images}, defense {cell.name})") from error


@dataclass(frozen=True)
class Sample:
    """An image to score, with what a record says of it.

    Attributes:
        image, original: uint8 H×W×3 at the working size.
        truth: bool, at the ground truth's own size.
        attacked: how it was made; an original by default.
        zero_gradients: how many of the attack's gradients were zero everywhere; None if unknown.
    """

    sample_id: str
    kind: str
    source_group: str
    image: Image
    original: Image
    truth: Mask
    attacked: Attacked = ORIGINAL
    zero_gradients: int | None = None


@dataclass(frozen=True)
class Scorer:
    """Hold what is the same for all images of a dataset before one victim.

    Attributes:
        metrics: of those that may be left out, the wanted ones; records hold NaN for the others.
    """

    dataset: str
    victim: Victim
    protocol: Protocol
    seed: int = 0
    metrics: Collection[Metric] = OPTIONAL

    def all_records(
        self, samples: Iterable[Sample], cells: Sequence[Cell]
    ) -> Iterator[list[tuple[Cell, Record]]]:
        """The records of each sample, in order; samples to come are read while others are
        scored."""
        victim = self.victim
        reentrant = victim.reentrant and all(cell.defense.reentrant for cell in cells)
        with BatchRunner(victim.device, reentrant=reentrant) as runner:
            sized = runner.sized(("scores", victim.name, victim.size, victim.working_side))
            scored = sized.stream(samples, partial(self.records, cells=cells))
            for number, records in enumerate(scored):
                if number % TRIM_EVERY == 0:
                    release_freed()
                yield records

    def records(
        self, samples: Sequence[Sample], cells: Sequence[Cell]
    ) -> list[list[tuple[Cell, Record]]]:
        """One record a cell of each sample. Images of one size meet the victim together."""
        found: list[list[tuple[Cell, Record]]] = [[] for _ in samples]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, sample in enumerate(samples):
            by_size.setdefault(sample.image.shape, []).append(number)
        for numbers in by_size.values():
            some = [samples[number] for number in numbers]
            for records in self._of_one_size(some, cells):
                for number, record in zip(numbers, records, strict=True):
                    found[number].append(record)
        return found

    def _of_one_size(
        self, samples: Sequence[Sample], cells: Sequence[Cell]
    ) -> Iterator[list[tuple[Cell, Record]]]:
        """The records of all samples, cell by cell."""
        given = [_Given.of(sample, with_ssim="ssim" in self.metrics) for sample in samples]
        x = torch.cat([to_unit(to_tensor(one.image).to(self.victim.device)) for one in samples])
        names = [sample.sample_id for sample in samples]
        for cell in cells:
            defended, maps = defend_and_predict(self.victim, cell, x, names, seed=self.seed)
            scored = zip(given, _array(defended - x), maps, strict=True)
            yield [(cell, self._record(cell, one, change, seen)) for one, change, seen in scored]

    def _record(
        self, cell: Cell, given: _Given, change: Change, probability: ProbabilityMap
    ) -> Record:
        """Score one map, of an image that the defense changed by ``change``, 3×H×W."""
        sample, victim, truth = given.sample, self.victim, given.sample.truth
        at_truth = self.protocol.at_truth_size(probability, truth)
        counts = self.protocol.counts(at_truth, truth, victim.threshold)
        return Record(
            dataset=self.dataset,
            sample_id=sample.sample_id,
            kind=sample.kind,
            source_group=sample.source_group,
            victim=victim.name,
            size=victim.size,
            weights=victim.weights.label,
            weights_sha256=victim.weights.sha256,
            **vars(sample.attacked),
            defense=cell.defense.name,
            strength=math.nan if cell.strength is None else float(cell.strength),
            protocol=self.protocol.id,
            threshold=victim.threshold,
            tp=counts.tp,
            fp=counts.fp,
            fn=counts.fn,
            tn=counts.tn,
            f1=self.protocol.f1(counts),
            mcc=float(mcc(counts)),
            marked=float(marked(counts)),
            iou=float(iou(counts)),
            auc=auc(at_truth, truth) if "auc" in self.metrics else math.nan,
            psnr=given.noise.psnr,
            ssim=given.noise.ssim,
            linf=given.noise.linf,
            l2=given.noise.l2,
            kept_psnr=kept_psnr(change),
            removed=removed_share(change, given.added),
            zero_gradients=(
                math.nan if sample.zero_gradients is None else float(sample.zero_gradients)
            ),
            image_sha256=given.sha256,
            defense_spec=json.dumps(cell.specification, sort_keys=True),
            version=advbench.__version__,
        )


@dataclass(frozen=True)
class _Given:
    """Hold what is the same of a sample behind every defense.

    Attributes:
        added: the attack's noise, 3×H×W in [0, 1] units.
        sha256: of the image's pixels.
    """

    sample: Sample
    noise: Noise
    added: Change
    sha256: str

    @classmethod
    def of(cls, sample: Sample, *, with_ssim: bool) -> Self:
        """Compare the sample with its original."""
        image, original = (to_unit(to_tensor(one)) for one in (sample.image, sample.original))
        return cls(
            sample,
            noise_metrics(sample.image, sample.original, with_ssim=with_ssim),
            _array((image - original)[0]),
            pixels_sha256(sample.image),
        )


def _array(values: Tensor) -> npt.NDArray[np.float32]:
    return values.float().cpu().numpy()
