"""A victim made of somebody's module: sizes, colours, output to logits, and what it must hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.errors import AdvbenchError
from advbench.victims.adapters.fitting import Fitting
from advbench.victims.adapters.logits import LogitTracker, logit_of
from advbench.victims.adapters.taps import DEPTHS, find_taps
from advbench.victims.base import Depth, Size, Victim
from advbench.victims.weights import Weights

Output = Literal["logits", "probability", "two-class"]
OUTPUTS = ("logits", "probability", "two-class")
CHANNELS: dict[str, int] = {"logits": 1, "probability": 1, "two-class": 2}

_KNOWN = {"torch", "advbench"}
_PROBE_SIDE = 256
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Reading:
    """Say how a module is fed and read.

    Attributes:
        fitting: the sizes that it takes.
        mean, std: per channel, subtracted and divided by, of RGB in [0, 1].
        bgr: whether it takes blue first; ``mean`` and ``std`` are then in that order too.
        output: ``logits`` N×1×h×w, whose sigmoid is the probability of forgery; ``probability``
            N×1×h×w; or ``two-class`` logits N×2×h×w, pristine and forged.
        key: of the map in what the module returns, where that is a mapping or has attributes.
        threshold: a pixel is forged where its probability is above it.
        one_at_a_time: whether the module takes a single image a pass.
    """

    fitting: Fitting = field(default_factory=Fitting)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False
    output: Output = "logits"
    key: str | None = None
    threshold: float = 0.5
    one_at_a_time: bool = False


class ModuleVictim(Victim):
    """A localizer that advbench did not write, behind a :class:`Reading`.

    Each pass checks the map's shape, type and values. The first pass is made a second time, to see
    that the same image gives the same map, and so is the first of several images, to see that each
    is independent of the others.
    """

    reentrant = False  # unknown of a stranger's code
    reading: Reading = Reading()

    def __init__(
        self,
        network: nn.Module,
        weights: Weights,
        size: Size = "full",
        *,
        reading: Reading | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(network, weights, size)
        self.reading = reading or type(self).reading
        if name is not None:
            self.name = name  # type: ignore[misc]
        self.threshold = self.reading.threshold  # type: ignore[misc]
        self._inspected: set[bool] = set()

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        raise AdvbenchError(
            f"victim {cls.name}: made of a module that was given; it cannot be built from its name"
        )

    @property
    def plugin_class(self) -> type[Victim]:
        """Make the class that ``--plugin module:victim`` registers: loading it gives this victim.

        It refuses another size and other weights (AdvbenchError).
        """
        victim = self

        class Wrapped(ModuleVictim):
            name = victim.name
            __doc__ = f"A wrapped {type(victim.network).__name__}."

            @classmethod
            def load(
                cls,
                size: Size | None = None,
                weights: str | None = "builtin",
                device: str = "cpu",
                seed: int = 0,
            ) -> Any:
                if size not in (None, "full") or weights != "builtin":
                    raise AdvbenchError(
                        f"victim {cls.name}: is a wrapped module as it is; leave out --size and "
                        "--weights"
                    )
                victim.network.to(device)
                return victim

        return Wrapped

    @property
    def working_side(self) -> int | None:
        return self.reading.fitting.working_side

    @property
    def tile_side(self) -> int | None:
        return self.reading.fitting.tile_side

    def logits(self, images: Tensor) -> Tensor:
        """float [0, 1] N×3×H×W of any sides → logits N×1×H×W.

        Raises:
            AdvbenchError: the module breaks a rule of victims; the error names both.
        """
        logits = self._pass(images)
        several = len(images) > 1
        if several not in self._inspected and not torch.is_autocast_enabled(images.device.type):
            self._inspect(images.detach(), logits.detach())
            self._inspected.add(several)
        return logits

    def adapted(self) -> Collection[type]:
        kinds = {type(module) for module in self.network.modules()}
        return [kind for kind in kinds if kind.__module__.partition(".")[0] not in _KNOWN]

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        """Convolutions by thirds of their order of execution, see
        :func:`advbench.victims.adapters.taps.find_taps`.

        Raises:
            AdvbenchError: it has fewer than three of them.
        """
        found = self._taps.get(depth, {})
        if not found:
            raise AdvbenchError(
                f"victim {self.name}: no layers are known as its {', '.join(DEPTHS)} features, so "
                "ansm cannot be trained for it"
            )
        return found

    @cached_property
    def _taps(self) -> dict[Depth, dict[str, nn.Module]]:
        side = self.reading.fitting.side or _PROBE_SIDE
        probe = torch.full((1, 3, side, side), 0.5, device=self.device)
        return find_taps(self.network, self._run, probe)

    def _pass(self, images: Tensor) -> Tensor:
        parts = images[:, None] if self.reading.one_at_a_time else [images]
        logits = torch.cat([self.reading.fitting.run(self._run, part) for part in parts])
        if self.differentiable and images.requires_grad and not logits.requires_grad:
            self._refuse(
                "no gradient reaches the image (a detach, no_grad, rounding or NumPy inside); "
                "wrap it with differentiable=False, for attacks that ask for maps alone"
            )
        return logits

    def _prepared(self, images: Tensor) -> Tensor:
        reading = self.reading
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (reading.mean, reading.std))
        return ((images.flip(1) if reading.bgr else images) - mean) / std

    def call(self, prepared: Tensor) -> Any:
        """Return the module's output for prepared images N×3×h×w."""
        return self.network(prepared)

    def _run(self, images: Tensor) -> Tensor:
        """One pass, of images that fit."""
        output = self.reading.output
        if output == "probability":
            with LogitTracker() as tracker:
                found = self._map(self.call(self._prepared(images)), images)
            visible = tracker.behind(found)
            logits = self._from_probability(found) if visible is None else visible
        else:
            found = self._map(self.call(self._prepared(images)), images)
            logits = found[:, 1:] - found[:, :1] if output == "two-class" else found
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if not logits.isfinite().all():
            self._refuse("its map holds NaN or infinity")
        if logits.shape[2:] == images.shape[2:]:
            return logits
        return F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)

    def _map(self, returned: Any, images: Tensor) -> Tensor:
        """The map N×C×h×w in what the module returned."""
        found = self._selected(returned)
        if not isinstance(found, Tensor) or not found.is_floating_point():
            kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
            self._refuse(f"its map is of type {kind}, not a tensor of floats")
        if found.ndim == 3:
            found = found[:, None]
        channels = CHANNELS[self.reading.output]
        if found.ndim != 4 or found.shape[:2] != (len(images), channels):
            self._refuse(
                f"its map is {tuple(found.shape)} for images {tuple(images.shape)}; output "
                f"{self.reading.output!r} must be N×{channels}×h×w"
            )
        return found

    def _selected(self, returned: Any) -> Any:
        key = self.reading.key
        if key is None:
            if isinstance(returned, Mapping):
                self._refuse(f"it returns a mapping; give key=, one of {', '.join(returned)}")
            if isinstance(returned, tuple | list):
                self._refuse(f"it returns {len(returned)} things; give a module that returns one")
            return returned
        there = returned if isinstance(returned, Mapping) else vars(returned)
        if key not in there:
            self._refuse(f"what it returns has no {key!r}; there are {', '.join(map(str, there))}")
        return there[key]

    def _from_probability(self, probability: Tensor) -> Tensor:
        low, high = probability.detach().aminmax()
        if low < 0 or high > 1:
            self._refuse(
                f"its map reaches from {low:.3g} to {high:.3g}, which are no probabilities; give "
                "output='logits'"
            )
        return logit_of(probability)

    def _inspect(self, images: Tensor, logits: Tensor) -> None:
        """Make the first image's pass again, alone."""
        with torch.no_grad():
            again = self._pass(images[:1])
            if self._differ(again, logits[:1]):
                if len(images) == 1 or self._differ(again, self._pass(images[:1])):
                    self._refuse(
                        "the same image gives another map the second time (something random "
                        "inside), so that no score could be repeated"
                    )
                self._refuse(
                    "the map of an image changes with the others of its batch; make it independent "
                    "of them, or wrap it with one_at_a_time=True"
                )

    @staticmethod
    def _differ(one: Tensor, other: Tensor) -> bool:
        return bool((one - other).abs().amax() > _TOLERANCE * (1 + other.abs().amax()))

    def _refuse(self, rule: str) -> None:
        raise AdvbenchError(f"victim {self.name}: {rule}")
