"""Define victims: a frozen forgery localizer with its weights."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from advbench.contracts import check_finite, check_given, check_logits, check_named, unchanged
from advbench.errors import AdvbenchError
from advbench.files import user_path
from advbench.images import Image, to_unit
from advbench.victims.weights import Weights, card_of, load_network_weights

Depth = Literal["shallow", "middle", "topmost"]
Size = Literal["small", "full"]
Numerics = Literal["exact", "fast", "bf16"]

PLAIN_OBJECTIVE = "advbench.victims.objective:Localization"


class Victim(ABC):
    """A localizer: float RGB in [0, 1], N×3×H×W → logits N×1×H×W.

    Colour order, normalisation and tiling live inside :meth:`logits`. The network is in eval mode,
    its parameters need no gradient, and each sample is independent of its batch-mates.

    Attributes:
        name: registry name.
        threshold: a pixel is forged where its probability is above it.
        working_sides: per size, the side of the square it sees; a size that is not named works at
            native size.
        resampling: how images are brought there: ``bilinear`` samples four pixels as OpenCV does,
            ``antialias`` widens the filter when shrinking as PIL does.
        objectives: what it can be trained by, ``module:Class`` by name, its own one first.
        recipes: per size, the fields of the training recipe that differ from the defaults.
        reentrant: whether several threads may be in :meth:`logits` at once, as on the CPU; False
            where the network keeps something of a pass in itself.
        differentiable: whether gradients of the logits reach the image; without them only attacks
            that ask for maps alone can be made.
        draws: how many random draws a gradient averages over; more than 1 only behind a random
            defense, see :meth:`logits_for`.
        numerics: how its passes are computed; see :func:`advbench.inference.fast.with_numerics`.
        exact: the victim whose twin at other numerics this one is; None for one that is exact.
        output_bias: name of the parameter that shifts all logits alike, by which training can
            calibrate it; empty where there is none.
        dead_keys: prefixes of keys in the authors' file that the network does without.
        network: the ``nn.Module``; the full size has exactly the authors' state_dict keys.
        weights: where the weights came from, with their sha256 and a label.
    """

    name: ClassVar[str]
    threshold: ClassVar[float] = 0.5
    working_sides: ClassVar[dict[Size, int]] = {}
    resampling: ClassVar[Literal["bilinear", "antialias"]] = "bilinear"
    objectives: ClassVar[dict[str, str]] = {"plain": PLAIN_OBJECTIVE}
    recipes: ClassVar[dict[Size, dict[str, Any]]] = {}
    reentrant: bool = True
    differentiable: bool = True
    draws: int = 1
    output_bias: ClassVar[str] = ""
    dead_keys: ClassVar[tuple[str, ...]] = ()

    numerics: Numerics = "exact"
    exact: Victim | None = None

    # What makes it again where it is unpickled, and with which arguments.
    _remake: tuple[Callable[..., Victim], tuple[Any, ...]] | None = None

    def __init__(self, network: nn.Module, weights: Weights, size: Size = "full") -> None:
        self.network = network.eval().requires_grad_(False)
        self.weights = weights
        self.size: Size = size

    @classmethod
    def load(
        cls,
        size: Size | None = None,
        weights: str | None = "builtin",
        device: str = "cpu",
        seed: int = 0,
    ) -> Self:
        """Build the network and load its weights.

        Args:
            size: ``small`` or ``full``; by default what the card beside the weights says, small
                for ``builtin`` weights, else full.
            weights: ``builtin`` (small, trained by this project on the built-in data), the path
                of a checkpoint, or None for random weights drawn from ``seed``.
            device: a torch device name.
            seed: of random weights.

        Raises:
            AdvbenchError: the file is missing, or its keys or shapes do not fit.
        """
        check_named("victim", cls)
        chosen: Size = size or ("small" if _is_small(weights) else "full")
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = cls.build_network(chosen)
        described = load_network_weights(
            network, cls.name, chosen, weights, seed=seed, dead_keys=cls.dead_keys
        )
        # Channels last: the same numbers up to the order of float sums, passes 1.5 times faster.
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        victim = cls(network, described, chosen)
        named = weights
        if weights not in (None, "builtin"):
            named = str(user_path(weights).resolve())
        victim._remake = (_load_again, (cls, (chosen, named, seed), described.sha256))
        return victim

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Loaded victims are pickled as what they were loaded from: the files must be where they
        are unpickled, and their sums agree. There they take a GPU if they see one."""
        return super().__reduce_ex__(protocol) if self._remake is None else self._remake

    def __copy__(self) -> Self:
        return self._with(dict(vars(self)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._with(copy.deepcopy(vars(self), memo))

    def _with(self, attributes: dict[str, Any]) -> Self:
        """A twin that may be changed, and so is nothing that can be loaded."""
        twin = object.__new__(type(self))
        vars(twin).update(attributes, _remake=None)
        return twin

    @classmethod
    @abstractmethod
    def build_network(cls, size: Size) -> nn.Module:
        """The network with fresh random weights; downloads nothing."""

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """float [0, 1] N×3×H×W → logits N×1×H×W, differentiable."""

    def logits_for(self, images: Tensor, keys: Sequence[tuple[object, ...]]) -> Tensor:
        """Logits as :meth:`logits`; what is random in front of the victim is drawn by ``keys``, a
        stream key an image (none, where the images have none)."""
        return self.logits(images)

    @abstractmethod
    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        """Modules whose outputs are the features of a third of the network, by name."""

    def adapted(self) -> Collection[type]:
        """Name the classes of installed packages that stand in place of a network of its own; their
        source and the packages' versions are part of its identity."""
        return ()

    def __call__(self, images: Tensor) -> Tensor:
        """Map images to probabilities of forgery.

        Args:
            images: N×3×H×W at the working size, uint8, or float in [0, 1].

        Returns:
            float N×1×H×W in [0, 1].
        """
        levels = isinstance(images, Tensor) and images.dtype == torch.uint8
        return self.probabilities(to_unit(images) if levels else images)

    def probabilities(self, images: Tensor) -> Tensor:
        """float [0, 1] N×3×H×W → probability of forgery N×1×H×W.

        Raises:
            AdvbenchError: the images are no floats N×3×H×W; the logits have another shape, or are
                NaN or infinite.
        """
        check_given(f"victim {self.name}", images)
        logits = self.logits(images)
        check_logits(self.name, images, logits)
        check_finite(f"victim {self.name}: logits", logits)
        return torch.sigmoid(logits)

    def guarded(self) -> Self:
        """A twin whose logits are checked for their shape and type at each pass, and which leaves
        its images as they are. Whether they are finite is for the caller, who knows the image."""

        def logits(images: Tensor) -> Tensor:
            with unchanged(f"victim {self.name}", images):
                found = self.logits(images)
            check_logits(self.name, images, found)
            return found

        twin = copy.copy(self)
        vars(twin)["logits"] = logits
        return twin

    @property
    def working_side(self) -> int | None:
        """The side of the square it sees, None where it works at native size."""
        return self.working_sides.get(self.size)

    @property
    def tile_side(self) -> int | None:
        """The side of the tiles that a larger image is cut into, None where it is seen whole."""
        return None

    def fit(self, image: Image) -> Image:
        """Bring a native uint8 image to the working size; what is attacked and stored is this."""
        side = self.working_side
        if side is None or image.shape[:2] == (side, side):
            return image
        if self.resampling == "antialias":
            from PIL import Image as Pillow

            resized = Pillow.fromarray(image).resize((side, side), Pillow.Resampling.BILINEAR)
            return np.array(resized)
        import cv2

        resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, dtype=np.uint8)

    @property
    def space(self) -> str:
        """Name of the working-size rule: part of every provenance key."""
        return "native" if self.working_side is None else f"{self.resampling}-{self.working_side}"

    @property
    def device(self) -> torch.device:
        """Name the device of the network's parameters."""
        parameter = next(self.network.parameters(), None)
        return parameter.device if parameter is not None else torch.device("cpu")


def _is_small(weights: str | None) -> bool:
    return weights == "builtin" or (
        weights is not None and card_of(user_path(weights)).get("size") == "small"
    )


def _load_again(cls: type[Victim], source: tuple[Size, str | None, int], sha256: str) -> Victim:
    size, weights, seed = source
    device = "cuda" if torch.cuda.is_available() else "cpu"
    victim = cls.load(size, weights, device, seed)
    if victim.weights.sha256 != sha256:
        raise AdvbenchError(f"{weights}: another file than where the run was started")
    return victim
