"""The mode that attacks run in: fp32 by default, deterministic kernels, nothing left changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from advbench.attacks.precision import Precision


@contextmanager
def reference_mode(network: nn.Module, precision: Precision = "fp32") -> Iterator[None]:
    """Eval mode, frozen parameters, TF32 off unless ``precision`` is ``tf32``, gradients on; all of
    it restored, also on an error.

    TF32 changes 2 % of gradient signs, and cuDNN's benchmark mode picks kernels by their speed.
    """
    modes = [(module, module.training) for module in network.modules()]
    frozen = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    cudnn = torch.backends.cudnn
    flags = (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    matmul_tf32 = torch.backends.cuda.matmul.allow_tf32
    tf32 = precision == "tf32"
    try:
        network.eval().requires_grad_(False)
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = tf32, False, True
        torch.backends.cuda.matmul.allow_tf32 = tf32
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, required in frozen:
            parameter.requires_grad_(required)
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = flags
        torch.backends.cuda.matmul.allow_tf32 = matmul_tf32
