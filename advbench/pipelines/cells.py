"""Cells: the defenses that images are scored behind, each at one strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from advbench.defenses.base import Defense
from advbench.defenses.none import NoDefense
from advbench.errors import AdvbenchError, NoNetworkError
from advbench.pipelines.provenance import defense_identity, victim_identity
from advbench.registry import DEFENSES
from advbench.victims.base import Victim


@dataclass(frozen=True)
class Cell:
    """A defense at one strength."""

    defense: Defense
    strength: float | None

    @property
    def name(self) -> str:
        """Name the cell, as in ``jpeg-75``."""
        return self.defense.variant_name(self.strength)

    @cached_property
    def specification(self) -> dict[str, Any]:
        """Say what is done to an image, with the SHA-256 of files and of foreign source."""
        return defense_identity(self.defense, self.strength)


def cells_before(
    defenses: Sequence[Defense], identity: dict[str, str], left_out: list[str] | None = None
) -> list[Cell]:
    """Every defense at every strength before this victim, the undefended one first.

    Args:
        left_out: receives, in place of an error, why a trained defense has nothing for this victim.

    Raises:
        NoNetworkError: a defense that is trained for a victim has no network for this one.
    """
    cells = [Cell(NoDefense(), None)]
    for defense in (d for d in defenses if d.name != "none"):
        try:
            fitted = defense.for_victim(identity)
        except NoNetworkError as error:
            if left_out is None:
                raise
            if str(error) not in left_out:  # once for all datasets
                left_out.append(str(error))
        else:
            cells += [Cell(fitted, s) for s in fitted.strengths]
    return cells


def named_cells(text: str, victim: Victim, settings: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
    """Read a defense as variants name it: ``jpeg-90``, or ``jpeg`` for all of its strengths.

    Args:
        settings: of defenses, by registry name.

    Raises:
        AdvbenchError: an unknown defense, a strength that it does not have, no network for this
            victim.
    """
    name, strength = split_strength(text)
    cls = DEFENSES.get(name)
    own = dict(settings.get(name, {}))
    if strength is not None:
        if cls.strength_field is None:
            raise AdvbenchError(f"through {text}: {name} has no strengths; give {name}")
        own[cls.strength_field] = (strength,)
    defense = cls.create(**own).for_victim(victim_identity(victim))
    return [Cell(defense, each) for each in defense.strengths]


def split_strength(text: str) -> tuple[str, float | None]:
    """Split ``jpeg-90`` into a defense's name and its strength; None where it names none."""
    name, dash, number = text.rpartition("-")
    if text in DEFENSES.names() or not dash:
        return text, None
    try:
        value = float(number)
    except ValueError:
        return text, None
    return name, int(value) if value.is_integer() else value


def defense_of(
    specification: dict[str, Any], identity: dict[str, str]
) -> tuple[Defense, float | None]:
    """Make the defense that a variant's specification names, and its strength.

    Raises:
        AdvbenchError: there is none of that name, or it has no network for this victim.
    """
    cls = DEFENSES.get(specification["defense"])
    strength = specification.get(cls.strength_field) if cls.strength_field else None
    settings = {key: value for key, value in specification.items() if key in cls.model_fields}
    return cls.create(**settings).for_victim(identity), strength
