"""Filters of a newcomer: nothing to set, one number to set, and what a filter may not return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from advbench.defenses.base import Defense, PixelDefense
from advbench.defenses.median import Median
from advbench.errors import AdvbenchError

IMAGES = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(torch.uint8)


class Inverted(PixelDefense):
    name: ClassVar[str] = "inverted"

    def filter(self, image: Any, strength: float | None, key: tuple[object, ...]) -> Any:
        assert strength is None
        return 255 - image


def test_a_filter_with_nothing_to_set() -> None:
    found = Inverted()(IMAGES, ["a", "b"])
    assert list(found) == ["inverted"]
    assert torch.equal(found["inverted"].mul(255).round().byte(), 255 - IMAGES)


RETURNED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "floats": (lambda image: (image / 255).astype(np.float32), "float32 4×5×3"),
    "whole numbers": (lambda image: image.astype(int), "int64 4×5×3"),
    "grey": (lambda image: image[..., 0], "uint8 4×5"),
    "smaller": (lambda image: image[1:], "uint8 3×5×3"),
    "channels first": (lambda image: image.transpose(2, 0, 1), "uint8 3×4×5"),
    "nothing": (lambda image: None, "type NoneType"),
    "a list": (lambda image: image.tolist(), "type list"),
    "a tensor": (torch.from_numpy, "type Tensor"),
}


class Returning(PixelDefense):
    name: ClassVar[str] = "returning"
    kind: str

    def filter(self, image: Any, strength: float | None, key: tuple[object, ...]) -> Any:
        return RETURNED[self.kind][0](image)


@pytest.mark.parametrize("kind", RETURNED)
def test_a_filter_returns_uint8_images_of_the_same_size(kind: str) -> None:
    with pytest.raises(AdvbenchError) as caught:
        Returning(kind=kind)(IMAGES, ["a", "b"])
    text = str(caught.value)
    assert text.startswith("defense returning: filter must return uint8 H×W×3, ")
    assert text.endswith(f"here 4×5×3; it returned {RETURNED[kind][1]}")


def test_a_single_strength_is_taken_by_the_class_itself() -> None:
    assert Median(kernel=3) == Median(kernel=(3,)) == Median.create(kernel=3)  # type: ignore[arg-type]


class OneNumber(Inverted):
    name: ClassVar[str] = "onenumber"
    strength_field: ClassVar[str | None] = "s"
    s: float = 5.0


class NoField(Inverted):
    name: ClassVar[str] = "nofield"
    strength_field: ClassVar[str | None] = "sigma"


class Nameless(PixelDefense):
    def filter(self, image: Any, strength: float | None, key: tuple[object, ...]) -> Any:
        return image


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (OneNumber, "defense onenumber: s must be a tuple of strengths"),
        (NoField, "defense nofield: strength_field names sigma, which is no field"),
        (Nameless, "defense class Nameless has no name; give it one: name: ClassVar"),
    ],
)
def test_wrong_declarations_are_told(kind: type[Defense], said: str) -> None:
    for make in (kind, kind.create):
        with pytest.raises(AdvbenchError, match=f"^{said}"):
            make()
