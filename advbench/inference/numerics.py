"""The mode that attacks run in: exact by default, deterministic kernels, nothing left changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from advbench.victims.base import Numerics


@contextmanager
def deterministic_mode(network: nn.Module, numerics: Numerics = "exact") -> Iterator[None]:
    """Eval mode, frozen parameters, TF32 off where ``numerics`` are exact, no autocast of the
    caller's, gradients on; all of it restored, also on an error.

    Within another of the same numerics it changes nothing: several threads may be in it then.
    """
    # Only what is changed is restored, so that a thread that ends late undoes nothing.
    training = [module for module in network.modules() if module.training]
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    some = next(network.parameters(), None)
    device = "cpu" if some is None else some.device.type
    try:
        network.eval().requires_grad_(False)
        with (
            _kernels(tf32=numerics != "exact"),
            torch.autocast(device, enabled=False),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def _kernels(tf32: bool) -> Iterator[None]:
    """TF32 changes 2 % of gradient signs, and cuDNN's benchmark mode picks kernels by their
    speed."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    wanted = _precisions(tf32)
    flags = (cudnn.benchmark, cudnn.deterministic)
    already = all(switch.fp32_precision == value for switch, value in wanted)
    if wanted and already and flags == (False, True):
        yield
        return
    kept: list[tuple[Any, str]] = []
    for switch, value in _precisions(tf32=False):
        kept.append((switch, switch.fp32_precision))
        switch.fp32_precision = value
    # Older settings stand beside these; PyTorch refuses to read one that contradicts them.
    matmul_precision = torch.get_float32_matmul_precision()
    try:
        allow_tf32 = cudnn.allow_tf32
    except RuntimeError:
        allow_tf32 = True
    try:
        cudnn.benchmark, cudnn.deterministic = False, True
        cudnn.allow_tf32 = matmul.allow_tf32 = tf32
        for switch, value in wanted:
            switch.fp32_precision = value
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = flags
        cudnn.allow_tf32 = allow_tf32
        torch.set_float32_matmul_precision(matmul_precision)
        for switch, value in kept:
            switch.fp32_precision = value


def _precisions(tf32: bool) -> list[tuple[Any, str]]:
    """List what has an ``fp32_precision`` (nothing before torch 2.9), and which it shall have. The
    wholes come first: a part that is not set reads as its whole."""
    backends: Any = torch.backends
    if not hasattr(backends, "fp32_precision"):
        return []
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    gpu, cpu = "tf32" if tf32 else "ieee", "ieee"
    return [
        *((whole, "none") for whole in (backends, cudnn)),
        *((part, gpu) for part in (backends.cuda.matmul, cudnn.conv, cudnn.rnn)),
        *((part, cpu) for part in (mkldnn.matmul, mkldnn.conv, mkldnn.rnn)),
    ]
