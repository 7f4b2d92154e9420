"""Score one image behind each defense: what is stored, what the victim makes of it, a record."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

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
    Metric,
    auc,
    kept_psnr,
    noise_metrics,
    removed_share,
)
from advbench.scores.protocols import Protocol
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
    return defend_and_predict(victim, cell, x, sample_id, seed=seed)[1]


def defend_and_predict(
    victim: Victim, cell: Cell, x: Tensor, sample_id: str, *, seed: int
) -> tuple[Tensor, npt.NDArray[np.float32]]:
    """Return the defended image beside the map of :func:`predict`."""
    keys = cell.defense.keys([sample_id], cell.strength, seed)
    what = f"victim {victim.name}: map"
    try:
        with torch.inference_mode():
            defended = cell.defense.checked(x, cell.strength, keys)
            with unchanged(f"victim {victim.name}", x):
                found = victim.probabilities(defended)
            check_shape(what, found, (1, 1, *x.shape[2:]), "floats N×1×H×W")
            check_finite(what, found)
        return defended, found[0, 0].float().cpu().numpy()
    except AdvbenchError as error:
        raise AdvbenchError(f"{error} (image {sample_id}, defense {cell.name})") from error


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
        """The records of each sample, in order; on the CPU as many samples at a time as there are
        threads."""
        reentrant = self.victim.reentrant and all(cell.defense.reentrant for cell in cells)
        waiting = iter(samples)
        with BatchRunner(self.victim.device, reentrant=reentrant) as runner:
            at_once, alone = runner.images_at_once, runner.sized("scores", 1)
            for number in itertools.count():
                if number * at_once % TRIM_EVERY < at_once:
                    release_freed()
                some = list(itertools.islice(waiting, at_once))
                if not some:
                    return
                yield from alone.map(some, lambda one: [list(self.records(one[0], cells))])

    def records(self, sample: Sample, cells: Sequence[Cell]) -> Iterable[tuple[Cell, Record]]:
        """One record a cell."""
        victim, truth = self.victim, sample.truth
        noise = noise_metrics(sample.image, sample.original, with_ssim="ssim" in self.metrics)
        sha256 = pixels_sha256(sample.image)
        x = to_unit(to_tensor(sample.image).to(victim.device))
        added = _array(x - to_unit(to_tensor(sample.original).to(victim.device)))
        for cell in cells:
            defended, probability = defend_and_predict(
                victim, cell, x, sample.sample_id, seed=self.seed
            )
            change = _array(defended - x)
            at_truth = self.protocol.at_truth_size(probability, truth)
            counts = self.protocol.counts(at_truth, truth, victim.threshold)
            yield (
                cell,
                Record(
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
                    psnr=noise.psnr,
                    ssim=noise.ssim,
                    linf=noise.linf,
                    l2=noise.l2,
                    kept_psnr=kept_psnr(change),
                    removed=removed_share(change, added),
                    zero_gradients=(
                        math.nan if sample.zero_gradients is None else float(sample.zero_gradients)
                    ),
                    image_sha256=sha256,
                    defense_spec=json.dumps(cell.specification, sort_keys=True),
                    version=advbench.__version__,
                ),
            )


def _array(values: Tensor) -> npt.NDArray[np.float32]:
    return values.float().cpu().numpy()
