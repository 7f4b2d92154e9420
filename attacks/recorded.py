"""A victim's forward pass as a recorded graph, so that threads side by side do not queue for
Python's lock.

Between any two kernels of a forward pass a thread takes that lock, and to be put to sleep over it
costs more than most kernels. A graph goes from kernel to kernel without it: the same kernels in the
same order, so the same numbers to the bit.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from advbench.attacks.batching import beside_others
from advbench.victims.base import Victim

# Recording takes as long as three or four passes, and saves a tenth of each to come.
PAYS_FROM = 32
KEPT = 16

Pass = Callable[[Tensor], Tensor]


@dataclass
class _Graphs:
    """Of one network as it was, by the shape of images; None where a pass cannot be recorded."""

    state: object
    passes: Counter[torch.Size] = field(default_factory=Counter)
    made: dict[torch.Size, Pass | None] = field(default_factory=dict)


_graphs: WeakKeyDictionary[nn.Module, _Graphs] = WeakKeyDictionary()
_one_at_a_time = threading.Lock()


def recorded(victim: Victim, sample: Tensor, passes: int) -> Victim:
    """The victim, or a twin that computes the logits of images such as ``sample`` by a graph.

    Recorded where threads would wait for each other (see
    :func:`advbench.attacks.batching.side_by_side`), once so many passes were announced for a shape
    that it pays, and only if the victim says that it can be
    (:meth:`advbench.victims.base.Victim.recordable`).

    Args:
        sample: float R×3×H×W in [0, 1], rows as they will meet the victim.
        passes: how many are to come.
    """
    if (
        not beside_others()
        or sample.device.type != "cpu"
        or "logits" in vars(victim)  # another pass than the class's
        or not victim.recordable(*sample.shape[2:])
    ):
        return victim
    state = _state(victim.network)
    if state is None:
        return victim
    with _one_at_a_time:
        graphs = _graphs.get(victim.network)
        if graphs is None or graphs.state != state:
            graphs = _graphs[victim.network] = _Graphs(state)
        graphs.passes[sample.shape] += passes
        if graphs.passes[sample.shape] < PAYS_FROM:
            return victim
        if sample.shape not in graphs.made:
            if len(graphs.made) == KEPT:
                oldest = next(iter(graphs.made))
                del graphs.made[oldest], graphs.passes[oldest]
            graphs.made[sample.shape] = _record(victim, sample)
        graph = graphs.made[sample.shape]
    return victim if graph is None else _twin(victim, graph, sample.shape)


def _state(network: nn.Module) -> object:
    """What a graph of the network is a graph of; None where a pass does more than compute."""
    if any(m._forward_hooks or m._forward_pre_hooks or m.training for m in network.modules()):
        return None
    held = [*network.parameters(), *network.buffers()]
    if any(tensor.is_inference() or tensor.requires_grad for tensor in held):
        return None
    return [(tensor.data_ptr(), tensor._version) for tensor in held]


def _record(victim: Victim, sample: Tensor) -> Pass | None:
    sample = sample.detach()
    with warnings.catch_warnings(), torch.no_grad():
        # Of its shapes becoming constants, which they may, and of torch.compile, which fuses.
        warnings.simplefilter("ignore")
        try:
            graph = torch.jit.trace(victim.logits, sample, check_trace=False)  # type: ignore[no-untyped-call]
            same = torch.equal(_unfused(graph)(sample), victim.logits(sample))
        except RuntimeError:
            return None
    return _unfused(graph) if same else None


def _unfused(graph: Pass) -> Pass:
    """Kernel by kernel, and PyTorch's own gradients; the setting is one of the calling thread."""

    def logits(images: Tensor) -> Tensor:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return graph(images)

    return logits


def _twin(victim: Victim, graph: Pass, shape: torch.Size) -> Victim:
    plain = victim.logits

    def logits(images: Tensor) -> Tensor:
        return graph(images) if images.shape == shape else plain(images)

    return victim.seen_through(logits)
