"""Define attacks: a frozen specification and a pure function of images, masks and keys."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import Tensor

from advbench.attacks.batch import Adversarial, Batch, Result, check_inputs, put_on_grid
from advbench.attacks.regions import Region, region_mask
from advbench.contracts import check_images, check_named
from advbench.errors import AdvbenchError, first_fault
from advbench.images import pixels_sha256, to_unit
from advbench.inference.numerics import deterministic_mode
from advbench.inference.runner import BatchRunner
from advbench.sources import Adapted
from advbench.victims.base import Victim


class Attack(BaseModel, ABC):
    """An attack with all its settings; its JSON is the provenance key.

    Attributes:
        region: what it may change: the ``whole`` image, the ``forged`` part, the ``authentic``
            part, or a band around the ``seam``, see :mod:`advbench.attacks.regions`.

    What comes out for an image depends on the image, its mask, its id, the specification, the seed
    and the victim; never on batch size, order, or which other intensities are asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: ClassVar[str]
    intensity_field: ClassVar[str] = "eps"
    profiles: ClassVar[dict[str, dict[str, Any]]] = {}
    needs_gradients: ClassVar[bool] = True
    attacks_authentic: ClassVar[bool] = True  # it can make a victim mark an authentic image
    # Settings that came later than the first shards, at what changes nothing: there they are left
    # out of a variant's specification, so that those shards keep their keys.
    added: ClassVar[dict[str, Any]] = {"region": "whole"}

    region: Region = "whole"

    @model_validator(mode="before")
    @classmethod
    def _named(cls, settings: Any) -> Any:
        check_named("attack", cls)
        return settings

    @model_validator(mode="before")
    @classmethod
    def _one_or_many(cls, settings: Any) -> Any:
        field = cls.intensity_field
        if isinstance(settings, dict) and not isinstance(settings.get(field, ()), list | tuple):
            return settings | {field: (settings[field],)}
        return settings

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        """Refuse intensities that share a name, such as 1 and 1.0000001."""
        if len({f"{value:g}" for value in self.intensities}) != len(self.intensities):
            raise ValueError(f"{self.intensity_field}: each intensity may stand once")
        return self

    @classmethod
    def create(cls, profile: str = "default", **settings: Any) -> Self:
        """A specification from a named profile with ``settings`` on top.

        Raises:
            AdvbenchError: an unknown profile or setting, a value out of range, or an intensity so
                low that no pixel can change.
        """
        if profile != "default" and profile not in KNOWN_PROFILES:
            raise AdvbenchError(
                f"unknown profile {profile!r}; there are default, {', '.join(KNOWN_PROFILES)}"
            )
        try:
            made = cls(**(cls.profiles.get(profile, {}) | settings))
        except ValidationError as error:
            fault = first_fault(error, cls.model_fields)
            raise AdvbenchError(f"attack {cls.name}: {fault}") from error
        for reason in filter(None, map(made.without_effect, made.intensities)):
            raise AdvbenchError(f"attack {cls.name}: {reason}")
        return made

    @property
    @abstractmethod
    def intensities(self) -> tuple[float, ...]:
        """φ in grey levels (1/255), or for C&W the numbers of steps."""

    @abstractmethod
    def budget(self, intensity: float) -> int | None:
        """Largest change of a stored pixel in grey levels; None where there is no L∞ bound."""

    def without_effect(self, intensity: float) -> str | None:
        """Say why no pixel can change at an intensity, with the unit to give it in; None where one
        can, as far as the settings tell."""
        return None

    @abstractmethod
    def passes(self) -> int:
        """Forward and backward passes per image for all intensities; what steers them, such as the
        one forward of ``target="pred"``, is left out."""

    @abstractmethod
    def perturb(self, victim: Victim, batch: Batch) -> dict[float, list[Adversarial]]:
        """Attack a batch at all intensities.

        Returns:
            per intensity one :class:`Adversarial` an image.
        """

    def adapted(self) -> Collection[Adapted]:
        """Name the classes and functions of an installed package that make the noise; their source
        and the package's version are part of a variant's identity.

        Raises:
            AdvbenchError: the package is missing.
        """
        return ()

    @property
    def label(self) -> str:
        """Name it in variants and tables: the registry name, or a part of a family."""
        return self.name

    def variant_name(self, intensity: float) -> str:
        """Attack and intensity, as in ``pgd-3``, and the region where it is a part of the image,
        as in ``pgd-3-forged``."""
        part = "" if self.region == "whole" else f"-{self.region}"
        return f"{self.label}-{intensity:g}{part}"

    def only(self, intensities: Sequence[float]) -> Self:
        """The same attack at some of its intensities."""
        return self.model_validate(self.model_dump() | {self.intensity_field: tuple(intensities)})

    def brief(self, steps: int = 1) -> Self:
        """Little of the same attack: one intensity, and so many steps where it has several."""
        return self.only(self.intensities[:1])

    def variant_spec(self, intensity: float) -> dict[str, Any]:
        """The JSON object that says how one variant is made."""
        plain = {key for key, value in self.added.items() if getattr(self, key) == value}
        fields = json.loads(self.model_dump_json(exclude={self.intensity_field, *plain}))
        return {"attack": self.label, self.intensity_field: intensity, **fields}

    def run(
        self,
        victim: Victim,
        images: Tensor,
        masks: Tensor,
        ids: Sequence[str] | None = None,
        *,
        seed: int = 0,
        batch: int | None = None,
        runner: BatchRunner | None = None,
    ) -> dict[str, Result]:
        """Attack uint8 images.

        Args:
            images: uint8 N×3×H×W at the victim's working size; left as they are.
            masks: bool N×H×W or N×1×H×W, True = forged.
            ids: N names, each once; the keys of the per-image random streams. By default the
                SHA-256 of the pixels.
            batch: most rows that meet the victim at once; by default 1 on the CPU, where each
                torch thread takes a row of its own, and on a GPU as many as fit.
            runner: whose threads are used; by default one of its own.

        Returns:
            per variant a :class:`Result` on the CPU.

        Raises:
            ValueError: dtypes or shapes that do not fit together.
            AdvbenchError: the attack follows gradients, and the victim has none; what the victim or
                the attack returns breaks a rule, or is NaN or infinite.
        """
        check_inputs(images, masks, ids)
        ids = ids or [pixels_sha256(image.permute(1, 2, 0).cpu().numpy()) for image in images]
        if self.needs_gradients and not victim.differentiable:
            raise AdvbenchError(
                f"attack {self.name}: follows gradients, and victim {victim.name} has none; take "
                "an attack that asks for maps alone"
            )
        if not len(images):
            return {self.variant_name(i): Result(images.cpu(), []) for i in self.intensities}
        images = images.to(victim.device)
        own = runner or BatchRunner(victim.device, reentrant=self.is_reentrant(victim))
        with deterministic_mode(victim.network, victim.numerics), nullcontext() if runner else own:
            sized = own.sized(self.work_on(victim, images.shape[2:]), batch)
            # Made within, so that images of a caller's inference_mode can be used.
            x = to_unit(images).contiguous()
            y = masks.to(victim.device).reshape(len(images), 1, *images.shape[2:]).float()
            found = self.perturb(victim.guarded(), Batch(x, y, ids, seed, sized))
            self._check_found(found, victim, x, ids)
            region = region_mask(self.region, y)
            return {
                self.variant_name(intensity): put_on_grid(
                    adversarial,
                    images,
                    budget=self.budget(intensity),
                    region=region,
                    runner=own.sized("storing", 1),
                )
                for intensity, adversarial in found.items()
            }

    def _check_found(
        self,
        found: dict[float, list[Adversarial]],
        victim: Victim,
        x: Tensor,
        ids: Sequence[str],
    ) -> None:
        what = f"attack {self.label}: perturb"
        if not isinstance(found, dict) or set(found) != set(self.intensities):
            raise AdvbenchError(f"{what}: must return a dict with a key for each intensity")
        for intensity, rows in found.items():
            if not isinstance(rows, list) or len(rows) != len(x):
                raise AdvbenchError(f"{what}: must return a list of one result an image")
            for row, image, name in zip(rows, x, ids, strict=True):
                if not isinstance(row, Adversarial):
                    raise AdvbenchError(
                        f"{what}: must return Adversarial, not {type(row).__name__}"
                    )
                where = f"{self.variant_name(intensity)} on {name}"
                if row.broken_at:
                    raise AdvbenchError(
                        f"victim {victim.name} ({victim.weights.label}): its logits, loss or "
                        f"gradient are NaN or infinite at step {row.broken_at} of {where}; give "
                        "weights that work on this image"
                    )
                check_images(f"attack {self.label}: {where}", row.float_image, image)
                if not math.isfinite(row.loss_first) or not math.isfinite(row.loss_last):
                    raise AdvbenchError(f"attack {self.label}: {where}: its loss is not finite")

    def is_reentrant(self, victim: Victim) -> bool:
        """Say whether several threads may attack this victim at once."""
        return victim.reentrant

    def work_on(self, victim: Victim, sides: Sequence[int]) -> tuple[object, ...]:
        """Name what decides how many rows fit in memory, for :meth:`BatchRunner.sized`."""
        return (self.label, victim.weights.sha256, victim.device, *sides)

    def __call__(
        self,
        victim: Victim,
        images: Tensor,
        masks: Tensor,
        ids: Sequence[str] | None = None,
        *,
        seed: int = 0,
        batch: int | None = None,
    ) -> dict[str, Tensor]:
        """Attack images, as :meth:`run` does, and return the uint8 images alone.

        Args:
            images: N×3×H×W, uint8, or float in [0, 1], which is rounded to grey levels first.

        Returns:
            uint8 N×3×H×W by variant: ``{"pgd-1": ..., "pgd-2": ...}``.

        Raises:
            ValueError: float images outside [0, 1], and what :meth:`run` raises.
        """
        if isinstance(images, Tensor) and images.is_floating_point():
            if len(images) and not 0 <= images.min() <= images.max() <= 1:
                raise ValueError("float images must be in [0, 1]")
            images = images.mul(255).round().to(torch.uint8)
        results = self.run(victim, images, masks, ids, seed=seed, batch=batch)
        return {variant: result.images for variant, result in results.items()}


KNOWN_PROFILES = ("paper", "torchattacks", "original", "quick")
