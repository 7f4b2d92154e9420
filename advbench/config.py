"""The base of the configuration models: validated once, faults told in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from advbench.errors import AdvbenchError, first_fault
from advbench.files import user_path

# A path in which ``~`` is the home folder.
HomePath = Annotated[Path, AfterValidator(user_path)]


class Config(BaseModel):
    """A frozen, validated set of options that refuses unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @classmethod
    def parse(cls, where: str, values: Mapping[str, Any]) -> Self:
        """Validate ``values``.

        Args:
            where: what they belong to; messages begin with it.

        Raises:
            AdvbenchError: an unknown name, or a value out of range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise AdvbenchError(f"{where}: {first_fault(error, cls.model_fields)}") from error
