"""Pick the device that networks run on."""

from __future__ import annotations

import torch

from advbench.errors import AdvbenchError, first_line


def torch_device(name: str) -> str:
    """Return a torch device name; ``auto`` takes a GPU where there is one.

    Raises:
        AdvbenchError: torch knows no such device, or it is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise AdvbenchError(f"--device {name}: {first_line(error)}; use cpu or auto") from error
    return name
