"""Define defenses: a frozen specification and a function of images."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, get_origin

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import Tensor

from advbench.contracts import check_given, check_images, check_named, check_pixels, unchanged
from advbench.errors import AdvbenchError, first_fault
from advbench.images import Image, to_unit

Surrogate = Literal["own", "identity", "smooth"]


class Defense(BaseModel, ABC):
    """A defense with all its strengths; it knows neither attacks nor victims.

    Attributes:
        name: registry name.
        strength_field: the field that holds the strengths, a tuple, which takes a single one too;
            None where there is nothing to set.
        random: its result depends on a random stream, keyed by seed, image id and strength.
        differentiable: gradients flow through :meth:`defend`; otherwise an attack that goes
            through it uses a surrogate (:meth:`through`).
        surrogates: gradients that an attack through it can take, the plainest first: ``own`` where
            it is differentiable, else the ``identity`` and what else it names here.
        reentrant: several threads may be in :meth:`defend` at once, as on the CPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    strength_field: ClassVar[str | None] = None
    random: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    reentrant: ClassVar[bool] = True

    @property
    def surrogates(self) -> tuple[Surrogate, ...]:
        if self.differentiable:
            return ("own",)
        smooth = type(self).smooth is not Defense.smooth
        return ("identity", "smooth") if smooth else ("identity",)

    @classmethod
    def create(cls, **settings: Any) -> Self:
        """A specification; one strength or several.

        Raises:
            AdvbenchError: an unknown setting, or a value out of range.
        """
        try:
            return cls(**settings)
        except ValidationError as error:
            fault = first_fault(error, cls.model_fields)
            raise AdvbenchError(f"defense {cls.name}: {fault}") from error

    @model_validator(mode="before")
    @classmethod
    def _one_or_many(cls, settings: Any) -> Any:
        check_named("defense", cls)
        field = cls.strength_field
        if field is None:
            return settings
        declared = cls.model_fields.get(field)
        if declared is None:
            raise AdvbenchError(
                f"defense {cls.name}: strength_field names {field}, which is no field"
            )
        kind = get_origin(declared.annotation) or declared.annotation
        if not (isinstance(kind, type) and issubclass(kind, Sequence)):
            raise AdvbenchError(
                f"defense {cls.name}: {field} must be a tuple of strengths, as in "
                f"{field}: tuple[float, ...] = (5.0,)"
            )
        if isinstance(settings, dict) and not isinstance(settings.get(field, ()), list | tuple):
            return settings | {field: (settings[field],)}
        return settings

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [self.variant_name(strength) for strength in self.strengths]
        if len(set(names)) != len(names):
            raise ValueError("each strength may stand once")
        return self

    @property
    def strengths(self) -> tuple[float | None, ...]:
        """The values to apply, each on its own; ``(None,)`` where there is nothing to set."""
        return getattr(self, self.strength_field) if self.strength_field else (None,)

    def variant_name(self, strength: float | None) -> str:
        """Defense and strength, as in ``jpeg-75``."""
        return self.name if strength is None else f"{self.name}-{strength:g}"

    def variant_spec(self, strength: float | None) -> dict[str, Any]:
        """The JSON object that says what is done to an image; 3 and 3.0 are one strength, told as
        the defense holds it."""
        excluded = {self.strength_field} if self.strength_field else set()
        fields = json.loads(self.model_dump_json(exclude=excluded))
        own = next((each for each in self.strengths if each == strength), strength)
        chosen = {self.strength_field: own} if self.strength_field else {}
        return {"defense": self.name, **chosen, **fields}

    def for_victim(self, victim: Mapping[str, str]) -> Self:
        """The defense as it stands before a victim of this ``name``, ``size`` and
        ``weights_sha256``; itself, unless it is made for one victim.

        Raises:
            NoNetworkError: it has nothing for this victim.
        """
        return self

    @abstractmethod
    def defend(
        self, images: Tensor, strength: float | None, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        """The defense at one strength.

        Args:
            images: float N×3×H×W in [0, 1].
            keys: parts of each image's stream key.

        Returns:
            float N×3×H×W in [0, 1], of the same shape.
        """

    def smooth(self, images: Tensor, strength: float | None) -> Tensor:
        """Approximate :meth:`defend` by a function that has a useful gradient.

        A defense that is not differentiable may define it; its values are never used, only its
        gradient.

        Raises:
            NotImplementedError: the defense has none.
        """
        raise NotImplementedError(f"defense {self.name} has no smooth surrogate")

    def through(
        self,
        images: Tensor,
        strength: float | None,
        keys: Sequence[tuple[object, ...]],
        surrogate: Surrogate | None = None,
    ) -> Tensor:
        """Defend as :meth:`defend` does, with a gradient.

        Args:
            surrogate: one of :attr:`surrogates`, the first by default. ``identity`` passes
                gradients on unchanged (BPDA, Athalye, Carlini, Wagner, ICML 2018); ``smooth``
                passes on those of :meth:`smooth`.

        Raises:
            AdvbenchError: as :meth:`checked`.
        """
        chosen = surrogate or self.surrogates[0]
        if chosen == "own":
            return self.checked(images, strength, keys)
        defended = self.checked(images.detach(), strength, keys)
        if chosen == "identity":
            return images + (defended - images).detach()
        approximate = self.smooth(images, strength)
        return approximate + (defended - approximate).detach()

    def __call__(self, images: Tensor, ids: Sequence[str], seed: int = 0) -> dict[str, Tensor]:
        """All strengths: uint8 N×3×H×W in → ``{"jpeg-75": float N×3×H×W in [0, 1], ...}``."""
        levels = isinstance(images, Tensor) and images.dtype == torch.uint8
        x = to_unit(images) if levels else images
        check_given(f"defense {self.name}", x)
        return {
            self.variant_name(strength): self.checked(x, strength, self.keys(ids, strength, seed))
            for strength in self.strengths
        }

    def checked(
        self, images: Tensor, strength: float | None, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        """Defend as :meth:`defend` does, and check what it did.

        Raises:
            AdvbenchError: what comes out are no images in [0, 1] of the same shape, or ``images``
                were changed in place.
        """
        what = f"defense {self.variant_name(strength)}"
        with unchanged(what, images):
            defended = self.defend(images, strength, keys)
        check_images(f"{what}: images", defended, images)
        return defended

    def keys(
        self, ids: Sequence[str], strength: float | None, seed: int
    ) -> list[tuple[object, ...]]:
        """Stream keys of the images."""
        return [(seed, image_id, self.variant_name(strength)) for image_id in ids]


class PixelDefense(Defense):
    """A defense that works on uint8 images, as a codec or an image editor does."""

    @abstractmethod
    def filter(self, image: Image, strength: float | None, key: tuple[object, ...]) -> Image:
        """One uint8 H×W×3 image in, one of the same shape out; ``strength`` is None where there is
        nothing to set."""

    def defend(
        self, images: Tensor, strength: float | None, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        levels = images.detach().mul(255).round().clamp(0, 255).byte().cpu()
        filtered = []
        for level, key in zip(levels, keys, strict=True):
            image = np.ascontiguousarray(level.permute(1, 2, 0).numpy())
            found = self.filter(image, strength, key)
            check_pixels(f"defense {self.variant_name(strength)}: filter", found, level)
            filtered.append(found)
        stacked = torch.from_numpy(np.stack(filtered)).permute(0, 3, 1, 2)
        return to_unit(stacked).contiguous().to(images.device)
