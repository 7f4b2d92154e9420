"""The processes that train one network together, started by torchrun or accelerate launch."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from advbench.errors import AdvbenchError


class Processes:
    """This process, alone or one of several that each have a GPU.

    Args:
        device: ``cpu`` keeps every process on the CPU; else each takes the GPU of its local rank.

    Attributes:
        rank: this process' number; 0 writes files and reports.
        count: how many there are.
        device: this process' own, or None where it is alone and may choose.

    Raises:
        AdvbenchError: there are several, and accelerate is not there or one GPU is named for all.
    """

    def __init__(self, device: str = "auto") -> None:
        self.rank, self.count = 0, 1
        self.device: str | None = None
        if int(os.environ.get("WORLD_SIZE") or 1) == 1:
            return
        if ":" in device:
            raise AdvbenchError(f"--device {device}: each process takes its own GPU; leave it out")
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise AdvbenchError(
                "several processes need accelerate: pip install 'advbench[distributed]'"
            ) from error
        self._state = PartialState(cpu=device == "cpu")
        self.rank, self.count = self._state.process_index, self._state.num_processes
        self.device = str(self._state.device)

    def prepare(self, network: nn.Module) -> nn.Module:
        """Let batch normalisation on GPUs take its statistics over all processes (torch has no such
        layer for the CPU)."""
        if self.count > 1 and next(network.parameters()).is_cuda:
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
            return converted
        return network

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over all processes, one message for all of them."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients]).div_(self.count)
        torch.distributed.all_reduce(flat)
        means = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            self._state.wait_for_everyone()
