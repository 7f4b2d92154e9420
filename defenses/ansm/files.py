"""Read files of ANSM weights."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import get_args

import torch

from advbench.defenses.ansm.network import SIZES, AnsmNetwork
from advbench.defenses.ansm.recipe import Upsampling
from advbench.errors import AdvbenchError
from advbench.victims.checkpoints import read_checkpoint, refuse_diverged


def read_network(path: Path) -> tuple[str, AnsmNetwork]:
    """The sha256 of a file, and the network whose keys and shapes it holds, frozen.

    Raises:
        AdvbenchError: no such file, or not one of ANSM.
    """
    sha256, state = read_checkpoint(path)
    shapes = {key: value.shape for key, value in state.items()}
    for size, upsampling in itertools.product(SIZES, get_args(Upsampling)):
        with torch.device("meta"):
            own = AnsmNetwork(size, upsampling=upsampling).state_dict()
        if {key: value.shape for key, value in own.items()} == shapes:
            refuse_diverged(path, state, own)
            with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
                network = AnsmNetwork(size, upsampling=upsampling)
                network.load_state_dict(dict(state))
            return sha256, network.eval().requires_grad_(False)
    raise AdvbenchError(f"{path}: no weights of ANSM; give a file that advbench train ansm wrote")
