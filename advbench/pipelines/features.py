"""Describe images as points: by their pixels, and by what a victim makes of them in its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from advbench.defenses.ansm.features import tapped
from advbench.images import Image, to_tensor, to_unit
from advbench.pipelines.cells import Cell
from advbench.rng import numpy_stream
from advbench.victims.base import Depth, Victim

SPACES = ("pixels", *get_args(Depth))
PIXEL_SIDE, FEATURE_SIDE = 64, 8
MOST = 16_384  # coordinates of a space
NATIVE_SIDE = 512  # of what a victim without a working size is shown; some tile larger images

Points = npt.NDArray[np.float32]  # n×d
Description = dict[str, dict[str, npt.NDArray[np.float32]]]  # by space and layer, a vector each


def describe(
    victim: Victim, cell: Cell, image: Image, sample_id: str, *, seed: int = 0
) -> Description:
    """Take an image behind a defense, and the features of it, at evenly spaced positions.

    Nothing is averaged, since a mean over neighbours would take the noise away: of the pixels a
    grid of 64×64 is kept, of each feature map one of 8×8.

    Args:
        image: uint8 H×W×3 at the victim's working size; of one at native size the central 512².

    Returns:
        for each of :data:`SPACES` a vector a layer.
    """
    x = to_unit(to_tensor(image).to(victim.device))
    if victim.working_side is None:
        x = _central(x, NATIVE_SIDE)
    with torch.inference_mode(), ExitStack() as stack:
        taps = {depth: stack.enter_context(tapped(victim, depth)) for depth in get_args(Depth)}
        keys = cell.defense.keys([sample_id], cell.strength, seed)
        defended = cell.defense.checked(x, cell.strength, keys)
        victim.probabilities(defended)
        found = {"pixels": {"image": _sampled(defended, PIXEL_SIDE)}}
        for depth, layers in taps.items():
            found[depth] = {name: _sampled(maps, FEATURE_SIDE) for name, maps in layers.items()}
    return found


def points(
    clouds: Mapping[str, Iterable[Description]], space: str, reference: str
) -> dict[str, Points]:
    """Join the layers of a space to one vector an image.

    Each layer is scaled to a mean squared deviation of 1 over the images of the reference, so that
    no layer decides by its unit alone. Where a space has more than :data:`MOST` coordinates, that
    many are drawn from them, always the same.

    Args:
        clouds: descriptions of the same images by name of the cloud, such as ``fgsm-3``.
        reference: the cloud to take the scale from.
    """
    layered = {name: [one[space] for one in cloud] for name, cloud in clouds.items()}
    joined: dict[str, list[Points]] = {name: [] for name in layered}
    for layer in layered[reference][0]:
        stacked = {name: np.stack([one[layer] for one in each]) for name, each in layered.items()}
        centred = stacked[reference] - stacked[reference].mean(axis=0)
        scale = float(np.sqrt((centred.astype(np.float64) ** 2).sum(axis=1).mean()))
        for name, vectors in stacked.items():
            joined[name].append(vectors / (scale or 1.0))
    whole = {name: np.concatenate(parts, axis=1) for name, parts in joined.items()}
    width = whole[reference].shape[1]
    if width <= MOST:
        return whole
    kept = np.sort(numpy_stream("coordinates", space, width).choice(width, MOST, replace=False))
    return {name: vectors[:, kept] for name, vectors in whole.items()}


def _central(x: Tensor, side: int) -> Tensor:
    top, left = (max(0, (length - side) // 2) for length in x.shape[2:])
    return x[..., top : top + side, left : left + side]


def _sampled(maps: Tensor, side: int) -> npt.NDArray[np.float32]:
    """A map 1×C×h×w at side×side evenly spaced positions, repeated where it is smaller, flat."""
    rows, columns = (
        ((torch.arange(side) + 0.5) * length / side).long() for length in maps.shape[2:]
    )
    chosen = maps[0][:, rows.to(maps.device)][:, :, columns.to(maps.device)]
    return chosen.float().flatten().cpu().numpy()
