"""Recipes from what a user gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from advbench.errors import AdvbenchError, plain_message

R = TypeVar("R", bound=BaseModel)


def recipe_of(cls: type[R], settings: Mapping[str, Any]) -> R:
    """A recipe with these fields.

    Raises:
        AdvbenchError: an unknown field, or a value out of range.
    """
    try:
        return cls(**settings)
    except ValidationError as error:
        fault = error.errors()[0]
        raise AdvbenchError(
            f"recipe: {fault['loc'][0]}: {plain_message(fault)}; it has "
            f"{', '.join(cls.model_fields)}"
        ) from error
