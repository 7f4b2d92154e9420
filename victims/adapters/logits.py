"""Find the logits behind a probability map: a saturated probability hides the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SIGMOIDS = (torch.sigmoid, Tensor.sigmoid, torch.special.expit, F.sigmoid)
_SOFTMAXES = (torch.softmax, Tensor.softmax, F.softmax)
_SAME = 1e-6
_LOWEST, _HIGHEST = 1e-30, 1 - 2**-24  # what a float32 logarithm of p, and of 1 - p, still takes


class LogitTracker(TorchFunctionMode):
    """Keep what sigmoids of one channel and softmaxes of two are given, while a module runs.

    Only calls of the current thread are seen; calls inside scripted modules are not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _SIGMOIDS and isinstance(result, Tensor):
            if result.ndim == 3 or (result.ndim == 4 and result.shape[1] == 1):
                self._seen.append((result, _first(args, kwargs)))
        elif func in _SOFTMAXES and result.ndim == 4 and result.shape[1] == 2:
            # Over another dimension than the classes, the difference is not the logit, and
            # ``behind`` finds that its sigmoid is another map.
            given = _first(args, kwargs)
            difference = given[:, 1:] - given[:, :1]
            self._seen.append((torch.sigmoid(difference), difference))
        return result

    def behind(self, probability: Tensor) -> Tensor | None:
        """The logits N×1×h×w whose sigmoid is this map N×1×h×w, None where none was seen."""
        for found, logits in reversed(self._seen):
            if found.numel() == probability.numel():
                difference = found.detach().reshape(probability.shape) - probability.detach()
                if difference.abs().amax() <= _SAME:
                    return logits.reshape(probability.shape)
        return None


def logit_of(probability: Tensor) -> Tensor:
    """The logit of probabilities in [0, 1]; its gradient is zero where they are exactly 0 or 1."""
    p = probability.to(torch.promote_types(probability.dtype, torch.float32))
    p = p.clamp(_LOWEST, _HIGHEST)
    return p.log() - (-p).log1p()


def logit_of_mixture(logits: Tensor, mix: Callable[[Tensor], Tensor]) -> Tensor:
    """The logit of ``mix(sigmoid(logits))``, for a linear ``mix`` whose weights sum to one, such
    as bilinear resizing: exact far beyond where the probability itself saturates."""
    forged, pristine = mix(torch.sigmoid(logits)), mix(torch.sigmoid(-logits))
    return forged.clamp_min(_LOWEST).log() - pristine.clamp_min(_LOWEST).log()


def _first(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Tensor:
    return args[0] if args else (kwargs or {})["input"]
