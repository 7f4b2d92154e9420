"""A victim's forward pass as a recorded graph, so that threads side by side do not queue for
Python's lock.

Between any two kernels of a forward pass a thread takes that lock, and to be put to sleep over it
costs more than most kernels. A graph goes from kernel to kernel without it: the same kernels in the
same order, so the same numbers to the bit.
"""

from __future__ import annotations

import operator
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.jit._trace import TracerWarning
from torch.nn.modules.module import _has_any_global_hook

from advbench.inference.batching import beside_others
from advbench.victims.base import Victim

# Recording takes as long as three or four gradients, and saves a tenth of each to come.
PAYS_FROM = 32
KEPT = 16

Pass = Callable[[Tensor], Tensor]
Which = Literal["logits", "probabilities"]


def recorded(victim: Victim, sample: Tensor, passes: int, which: Which = "logits") -> Victim:
    """The victim, or a twin that takes images such as ``sample`` through a graph.

    Recorded where threads would wait for each other (see
    :func:`advbench.inference.batching.side_by_side`), once so many passes were announced for a
    shape that it pays, and only if the victim's own class says that it can be
    (:meth:`advbench.victims.base.Victim.recordable`); used while no hook listens.

    Args:
        sample: float R×3×H×W in [0, 1], rows as they will meet the victim.
        passes: how many are to come.
        which: what they compute: ``logits`` with their gradient, or ``probabilities`` without.
    """
    if (
        not beside_others()
        or sample.device.type != "cpu"
        or "recordable" not in vars(type(victim))  # a subclass may have changed what it is said of
        or not victim.recordable(*sample.shape[2:])
        or vars(victim).keys() & {"logits", "probabilities"}
    ):
        return victim
    with _one_at_a_time:
        graphs = _graphs.get(victim)
        if graphs is None or graphs.outdated():
            graphs = _graphs[victim] = _Graphs(victim)
        graph = graphs.get(victim, sample, passes, which)
    if graph is None:
        return victim
    plain = getattr(victim, which)
    seen = _Recorded(plain, graph, sample.shape, which == "logits", graphs.heard)
    return victim.seen_through(**{which: seen})


class _Graphs:
    """Of one victim as it was, by what they compute and the shape of images."""

    def __init__(self, victim: Victim) -> None:
        modules = list(victim.network.modules())
        self._hooks = [
            hooks
            for m in modules
            for hooks in (
                m._forward_hooks,
                m._forward_pre_hooks,
                m._backward_hooks,
                m._backward_pre_hooks,
            )
        ]
        # A graph is of all that they hold: of settings such as a norm's ε, of a patched forward.
        self._holders: list[dict[str, Any]] = [vars(victim)]
        for m in modules:
            self._holders += [vars(m), m._modules, m._parameters, m._buffers]
        self._held = self._contents()
        self._tensors = [value for value in self._held if isinstance(value, Tensor)]
        self._usable = not any(m.training for m in modules) and not any(
            tensor.is_inference() for tensor in self._tensors
        )
        self._versions = self._contents_versions() if self._usable else []
        self._passes: Counter[object] = Counter()
        self._made: dict[object, Pass | None] = {}

    def outdated(self) -> bool:
        """Whether the victim is no longer what it was."""
        now = self._contents()
        return (
            len(now) != len(self._held)
            or not all(map(operator.is_, now, self._held))
            or (self._usable and self._versions != self._contents_versions())
        )

    def get(self, victim: Victim, sample: Tensor, passes: int, which: Which) -> Pass | None:
        """None where it does not pay yet, or cannot be."""
        if not self._usable or self.heard() or any(t.requires_grad for t in self._tensors):
            return None
        key = getattr(type(victim), which), sample.shape
        self._passes[key] += passes
        if self._passes[key] < PAYS_FROM:
            return None
        if key not in self._made:
            if len(self._made) == KEPT:
                oldest = next(iter(self._made))
                del self._made[oldest], self._passes[oldest]
            self._made[key] = _record(getattr(victim, which), sample, which == "logits")
        return self._made[key]

    def heard(self) -> bool:
        """Whether a hook listens, which a graph would pass by."""
        return any(self._hooks) or _has_any_global_hook()  # type: ignore[no-untyped-call]

    def _contents(self) -> list[Any]:
        return [value for holder in self._holders for value in holder.values()]

    def _contents_versions(self) -> list[tuple[int, int]]:
        return [(tensor.data_ptr(), tensor._version) for tensor in self._tensors]


_graphs: WeakKeyDictionary[Victim, _Graphs] = WeakKeyDictionary()
_one_at_a_time = threading.Lock()


class _Recorded:
    """A pass by its graph where it is as it was recorded, else by the victim's own code; a copy or
    a pickle of it is the victim's own."""

    def __init__(
        self, plain: Pass, graph: Pass, shape: torch.Size, gradient: bool, heard: Callable[[], bool]
    ) -> None:
        self._plain, self._graph, self._heard = plain, graph, heard
        self._shape, self._gradient = shape, gradient

    def __call__(self, images: Tensor) -> Tensor:
        as_recorded = (
            images.shape == self._shape
            and images.dtype == torch.float32
            and torch.is_grad_enabled() == self._gradient
            and not self._heard()
        )
        return _unfused(self._graph, images) if as_recorded else self._plain(images)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._plain,)


def _itself(plain: Pass) -> Pass:
    return plain


def _record(plain: Pass, sample: Tensor, gradient: bool) -> Pass | None:
    """The graph of a pass, unless it fails or gives another number on another image."""
    # Of shapes becoming constants, which they may. For good: no thread can take a filter back
    # without undoing those of others.
    warnings.filterwarnings("ignore", category=TracerWarning)
    try:
        with torch.set_grad_enabled(gradient):
            inputs = (sample.detach().clone().requires_grad_(gradient),)
            # As torch.jit.trace, which keeps whatever it has made until the program ends.
            traced, _ = torch._C._create_graph_by_tracing(
                plain, inputs, lambda value: "", True, False, None, ["images"]
            )
            graph = torch._C._create_function_from_graph("forward", traced)
            found, expected = (
                _numbers(one, 1 - sample, gradient) for one in (partial(_unfused, graph), plain)
            )
    except Exception:  # whatever a victim's code makes of a tracer
        return None
    same = all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    return graph if same else None


def _numbers(one: Pass, images: Tensor, gradient: bool) -> list[Tensor]:
    images = images.detach().requires_grad_(gradient)
    output = one(images)
    return [output, *(torch.autograd.grad(output.sum(), images) if gradient else ())]


def _unfused(graph: Pass, images: Tensor) -> Tensor:
    """Kernel by kernel, and PyTorch's own gradients; the setting is one of the calling thread."""
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        return graph(images)
