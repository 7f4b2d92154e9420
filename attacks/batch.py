"""Hold a batch to attack, and what comes of it: adversarial images, put on the uint8 grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advbench.images import quantise
from advbench.inference.runner import BatchRunner


@dataclass(frozen=True)
class Batch:
    """Hold images to attack, with the keys of their random streams and what runs them.

    Attributes:
        x: float N×3×H×W in [0, 1].
        y: float N×1×H×W, 1 = forged.
        ids: N names; with ``seed`` the keys of the images' random streams.
        runner: runs the rows; ``runner.batch`` may meet the victim at once.
    """

    x: Tensor
    y: Tensor
    ids: Sequence[str]
    seed: int
    runner: BatchRunner

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Adversarial:
    """One image under one variant.

    Attributes:
        float_image: 3×H×W in [0, 1], before it is put on the uint8 grid.
        loss_first, loss_last: the attack's objective at its first and last gradient.
        zero_gradients: how many of its gradients were zero everywhere.
        broken_at: the first pass, from 1, whose logits, loss or gradient were NaN or infinite; 0
            where none was.
        gradients: how many gradients it took; 0 if unknown.
    """

    float_image: Tensor
    loss_first: float
    loss_last: float
    zero_gradients: int
    broken_at: int = 0
    gradients: int = 0


@dataclass(frozen=True)
class Result:
    """A batch under one variant.

    Attributes:
        images: uint8 N×3×H×W on the grid and within the budget.
        details: one :class:`Adversarial` an image.
    """

    images: Tensor
    details: Sequence[Adversarial]


def put_on_grid(
    adversarial: Sequence[Adversarial],
    originals: Tensor,
    *,
    budget: int | None,
    region: Tensor | None,
    runner: BatchRunner,
) -> Result:
    """Round to grey levels within the budget, and keep the original outside the region.

    Args:
        originals: uint8 N×3×H×W.
        budget: in grey levels; None where there is none.
        region: bool N×1×H×W, what may change; None where all may.
        runner: spreads the images over its threads, one by one: what fits the processor's cache is
            done several times as fast.
    """

    def store(index: Sequence[int]) -> list[Tensor]:
        found = []
        for i in index:
            stored = quantise(adversarial[i].float_image, originals[i], budget)
            if region is not None:
                stored = torch.where(region[i], stored, originals[i])
            found.append(stored.cpu())
        return found

    return Result(torch.stack(runner.map(range(len(originals)), store)), adversarial)


def check_inputs(images: Tensor, masks: Tensor, ids: Sequence[str] | None) -> None:
    """Refuse images, masks and ids that do not fit together.

    Raises:
        ValueError: with the rule that is broken.
    """
    for what, given in (("images", images), ("masks", masks)):
        if not isinstance(given, Tensor):
            raise ValueError(
                f"{what} must be a torch tensor, not {type(given).__name__}; "
                "images are uint8 N×3×H×W, masks bool N×H×W"
            )
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be uint8 N×3×H×W, not {images.dtype} {tuple(images.shape)}")
    flat, channel = (len(images), *images.shape[2:]), (len(images), 1, *images.shape[2:])
    if masks.dtype != torch.bool or tuple(masks.shape) not in (flat, channel):
        raise ValueError(f"masks must be bool N×H×W, not {masks.dtype} {tuple(masks.shape)}")
    if ids is not None and (len(ids) != len(images) or len(set(ids)) != len(ids)):
        raise ValueError("ids must be as many as images, each once")
