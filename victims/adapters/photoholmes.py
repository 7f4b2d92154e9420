"""Methods of photoholmes 0.0.1 (github.com/photoholmes/photoholmes): ``photoholmes:trufor``."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Collection
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.errors import AdvbenchError
from advbench.victims.adapters.fitting import Fitting
from advbench.victims.adapters.logits import LogitTracker, logit_of_mixture
from advbench.victims.adapters.module import Reading
from advbench.victims.adapters.package import PackageVictim, load_again
from advbench.victims.base import Size
from advbench.victims.weights import Weights

_JPEG = "reads the coefficients of a JPEG file, which attacked pixels lack"
_CLUSTERS = "clusters features without gradients and needs several files of weights"
REFUSALS = {
    **{"dq": _JPEG, "catnet": _JPEG, "focal": _CLUSTERS, "exif_as_language": _CLUSTERS},
    "naive": "its module is missing in photoholmes 0.0.1",
}


class PhotoholmesVictim(PackageVictim):
    """A method of photoholmes, at native size, on RGB in [0, 1]."""

    package: ClassVar[str] = "photoholmes"
    installation: ClassVar[str] = "install photoholmes as its own pages say"
    method: ClassVar[str]
    settings: ClassVar[dict[str, Any] | None] = None

    @classmethod
    def build(cls) -> nn.Module:
        method, _ = cls.made()
        return method

    @classmethod
    def made(cls) -> tuple[Any, Any]:
        """The method with random weights, and what prepares an image for it."""
        factory = cls.imported("photoholmes.methods.factory").MethodFactory
        return factory.load(cls.method, cls.settings)


class TruFor(PhotoholmesVictim):
    """TruFor (Guillaro et al. 2023): two-class logits, without its confidence map."""

    name: ClassVar[str] = "photoholmes:trufor"
    method: ClassVar[str] = "trufor"
    settings: ClassVar[dict[str, Any] | None] = {"weights": None}
    reading = Reading(Fitting(smallest=64), output="two-class")
    reentrant = True

    def call(self, prepared: Tensor) -> Any:
        return self.network(prepared)[0]


class PSCCNet(PhotoholmesVictim):
    """PSCC-Net (Liu et al. 2022): a map of 256², resized as a probability.

    The logit of the resized map is computed from those of the small one, so that it does not
    saturate. A checkpoint is one file with the keys ``FENet.``, ``SegNet.`` and ``ClsNet.``.
    """

    name: ClassVar[str] = "photoholmes:psccnet"
    method: ClassVar[str] = "psccnet"
    settings: ClassVar[dict[str, Any] | None] = {"weights": {}}
    reading = Reading(Fitting(smallest=64))
    reentrant = True

    def call(self, prepared: Tensor) -> Tensor:
        network: Any = self.network
        size = prepared.shape[2:]
        with LogitTracker() as tracker:
            small = network.SegNet(network.FENet(prepared))[0]
        logits = tracker.behind(small)
        if logits is None:
            raise AdvbenchError(f"victim {self.name}: photoholmes hides its logits in this version")
        return logit_of_mixture(
            logits, lambda p: F.interpolate(p, size, mode="bilinear", align_corners=True)
        )


class AdaptiveCFA(PhotoholmesVictim):
    """Adaptive CFA (Bammey et al. 2020): blocks of 32² that vote for another phase of the colour
    filter array than the image does as a whole.

    photoholmes marks a block where another phase than the image's has the most votes, which has no
    gradient. The logit here is the logarithm of that phase's votes over those of the image's, whose
    sign is the same decision. Blocks become pixels bilinearly; the border takes the nearest block.
    """

    name: ClassVar[str] = "photoholmes:adaptive_cfa_net"
    method: ClassVar[str] = "adaptive_cfa_net"
    settings: ClassVar[dict[str, Any] | None] = {"weights": None}
    reading = Reading(Fitting(multiple=2, smallest=40), one_at_a_time=True)
    reentrant = True

    def call(self, prepared: Tensor) -> Tensor:
        blocks = self.block_logits(self.network(prepared))
        sides = [32 * side for side in blocks.shape[2:]]
        pixels = F.interpolate(blocks, sides, mode="bilinear", align_corners=False)
        height, width = prepared.shape[2:]
        around = (0, max(0, width - sides[1]), 0, max(0, height - sides[0]))
        return F.pad(pixels, around, mode="replicate")[..., :height, :width]

    @staticmethod
    def block_logits(scores: Tensor) -> Tensor:
        """Logits 1×1×h×w of log-probabilities 4×4×h×w: permutation of the grid × its phase."""
        phases = [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]]
        votes = torch.stack([scores[order, phase] for phase, order in enumerate(phases)], 1)
        log_votes = votes.logsumexp(1)
        image = int(log_votes.detach().exp().mean((1, 2)).argmax())
        others = torch.cat([log_votes[:image], log_votes[image + 1 :]])
        return (others.amax(0) - log_votes[image])[None, None]


class Votes(nn.Module):
    """A method without gradients as a module: image 1×3×H×W in [0, 1] → map 1×1×H×W in [0, 1]."""

    def __init__(self, method: Any, preprocess: Any) -> None:
        super().__init__()
        self.method, self.preprocess = method, preprocess

    def forward(self, image: Tensor) -> Tensor:
        pixels = (255 * image[0]).round().byte().cpu()
        found = self.method.benchmark(**self.preprocess(image=pixels))
        shown = found["mask"] if found["heatmap"] is None else found["heatmap"]
        return torch.as_tensor(shown).to(image)[None, None].clamp(0, 1)


class VotingVictim(PhotoholmesVictim):
    """ZERO, Noisesniffer or Splicebuster: maps without gradients, for attacks that ask for maps."""

    differentiable = False
    reading = Reading(output="probability", one_at_a_time=True)

    def adapted(self) -> Collection[type]:
        network: Any = self.network
        return [*super().adapted(), type(network.method)]

    @classmethod
    def build(cls) -> nn.Module:
        return Votes(*cls.made())

    @classmethod
    def load(
        cls,
        size: Size | None = None,
        weights: str | None = "builtin",
        device: str = "cpu",
        seed: int = 0,
    ) -> Self:
        """Build the method, which has no weights; its source stands for them.

        Raises:
            AdvbenchError: weights or another size are asked for, or photoholmes is missing.
        """
        if weights not in (None, "builtin"):
            raise AdvbenchError(f"victim {cls.name}: has no weights; leave out --weights")
        network: Any = cls.build_network(size or "full")
        source = inspect.getsource(inspect.getmodule(type(network.method)))  # type: ignore[arg-type]
        sha256 = hashlib.sha256(source.encode()).hexdigest()
        victim = cls(network, Weights(sha256, "none"))
        victim._remake = (load_again, (cls.name, ("full", None, seed), sha256))
        return victim


_METHODS: dict[str, type[PhotoholmesVictim]] = {
    cls.method: cls for cls in (TruFor, PSCCNet, AdaptiveCFA)
}
_VOTING = ("zero", "noisesniffer", "splicebuster")


def photoholmes(method: str) -> type[PhotoholmesVictim]:
    """The victim class of ``photoholmes:NAME``.

    Raises:
        AdvbenchError: there is none, or it can be no victim.
    """
    name = f"photoholmes:{method}"
    if method in REFUSALS:
        raise AdvbenchError(f"victim {name}: {REFUSALS[method]}")
    if method in _VOTING:
        return type("Voting", (VotingVictim,), {"name": name, "method": method})
    if method not in _METHODS:
        known = ", ".join([*_METHODS, *_VOTING])
        raise AdvbenchError(f"victim {name}: no method of photoholmes; there are {known}")
    return _METHODS[method]
