"""Define which F1: a named, versioned rule from a probability map to TP, FP, FN, TN and a score.

Records keep the four counts, so that any other rule of this family can be computed later.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from advbench.errors import AdvbenchError
from advbench.images import Mask
from advbench.scores.counts import Counts, f1

ProbabilityMap = npt.NDArray[np.float32]  # H×W in [0, 1]


@dataclass(frozen=True)
class Protocol:
    """Score a localization by one rule.

    ``f1/v1``: forged images only; the float map is resized bilinearly to the ground truth's size;
    a pixel is predicted forged where its probability is above the victim's threshold;
    F1 = 2TP / (2TP + FP + FN), undefined (excluded and counted) where nothing is forged; the
    dataset's F1 is the mean over its images. RP is 100 × F1 over the same victim's undefended F1
    on the originals of the same images, a ratio of dataset means.
    """

    id: str
    description: str

    def at_truth_size(self, probability: ProbabilityMap, truth: Mask) -> ProbabilityMap:
        """The map at the ground truth's size."""
        if probability.shape == truth.shape:
            return probability
        size = (truth.shape[1], truth.shape[0])
        resized = cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, dtype=np.float32)

    def counts(self, probability: ProbabilityMap, truth: Mask, threshold: float) -> Counts:
        """TP, FP, FN, TN of a map at the ground truth's size."""
        forged = probability > threshold
        tp = int(np.count_nonzero(forged & truth))
        fp = int(np.count_nonzero(forged)) - tp
        fn = int(np.count_nonzero(truth)) - tp
        return Counts(tp, fp, fn, truth.size - tp - fp - fn)

    def f1(self, counts: Counts) -> float:
        """Compute the F1 of one image; NaN where nothing is forged."""
        return float(f1(counts))

    def f1_of_map(self, probability: ProbabilityMap, truth: Mask, threshold: float) -> float:
        """Compute the F1 of a map of any size; NaN where nothing is forged."""
        at_truth = self.at_truth_size(probability, truth)
        return self.f1(self.counts(at_truth, truth, threshold))


PROTOCOLS = {
    "f1/v1": Protocol(
        "f1/v1", "per-image mean, victim's threshold, native size, forged images only"
    )
}


def protocol(name: str) -> Protocol:
    """A protocol by id.

    Raises:
        AdvbenchError: there is none of that id.
    """
    if name not in PROTOCOLS:
        raise AdvbenchError(f"unknown protocol {name!r}; there is {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
