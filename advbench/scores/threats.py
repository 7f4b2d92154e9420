"""Threat models: what the attacker behind a variant knew, read off its specification."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STATIC, ADAPTIVE, TRANSFER, QUERY = THREATS = ("static", "adaptive", "transfer", "query")


@dataclass(frozen=True)
class Attacked:
    """Say how an image came to be, as records say it; the defaults are an original's.

    Attributes:
        variant: such as ``pgd-3`` or ``pgd-3@ansm``.
        attack, intensity: ``pgd`` and 3.
        threat: one of :data:`THREATS`; an original's is ``static``.
        through: JSON of the defense that the attack saw, as in ``defense_spec``; empty if none.
        surrogate: the victim that was attacked in place of the scored one; empty if none.
        region: the part of the image that the attack may change; ``whole`` is all of it.
        target: what the attack took for the truth: ``gt``, the victim's own ``pred``, or empty.
        budget: largest change of a pixel in grey levels; NaN where there is no bound.
    """

    variant: str = "original"
    attack: str = "original"
    intensity: float = math.nan
    threat: str = STATIC
    through: str = ""
    surrogate: str = ""
    region: str = "whole"
    target: str = ""
    budget: float = math.nan

    @classmethod
    def by(
        cls,
        specification: Mapping[str, Any],
        variant: str,
        intensity: float | None,
        budget: int | None,
    ) -> Attacked:
        """Read what a variant's specification says of it."""
        through, surrogate = specification.get("through"), specification.get("surrogate")
        return cls(
            variant=variant,
            attack=str(specification["attack"]),
            intensity=math.nan if intensity is None else intensity,
            threat=threat_of(specification),
            through=json.dumps(through, sort_keys=True) if through else "",
            surrogate=str(surrogate["name"]) if surrogate else "",
            region=str(specification.get("region", "whole")),
            target=str(specification.get("target", "")),
            budget=math.nan if budget is None else float(budget),
        )


ORIGINAL = Attacked()


def threat_of(specification: Mapping[str, Any]) -> str:
    """Name the threat model of a variant.

    An attack that counts ``queries`` sees the output map only, whatever it is made against; one
    with a ``surrogate`` never saw the scored victim; one made ``through`` a defense saw that too.
    """
    if "queries" in specification:
        return QUERY
    if specification.get("surrogate"):
        return TRANSFER
    return ADAPTIVE if specification.get("through") else STATIC
