"""A suite: one TOML file that says datasets × victims × attacks × intensities × defenses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from advbench.attacks.base import Attack
from advbench.attacks.linf import BoundedAttack
from advbench.attacks.noise import Noise
from advbench.errors import AdvbenchError
from advbench.files import user_path
from advbench.pipelines.config import (
    FILES,
    OF_ANSM,
    AttackGrid,
    DefenseGrid,
    Settings,
    VictimChoice,
)
from advbench.registry import SUITES
from advbench.texts import read_toml
from advbench.victims.base import Victim


class Suite(AttackGrid, DefenseGrid):
    """A validated suite; weights that are a path are relative to its file.

    Its attacks are made against the victim alone and, where it names defenses in ``through``,
    through each of those too; random noise of the same budgets is always made beside them.

    Attributes:
        datasets: registered or imported names, or folders.
        adaptive: the attacks that are made through defenses; all of them where empty.
    """

    schema_id: Literal["advbench.suite/1"] = Field(alias="schema")
    title: str
    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    victims: Annotated[dict[str, VictimChoice], Field(min_length=1)]
    attacks: Annotated[dict[str, Settings], Field(min_length=1)]

    adaptive: tuple[str, ...] = ()

    def build_attacks(self) -> list[Attack]:
        attacks = super().build_attacks()
        bounded = [attack for attack in attacks if isinstance(attack, BoundedAttack)]
        budgets = dict.fromkeys(eps for attack in bounded for eps in attack.eps)
        if budgets and "noise" not in self.attacks:
            attacks.append(Noise(eps=tuple(budgets)))
        return attacks

    def attacks_before(self, victim: Victim) -> list[Attack]:
        """Build the attacks on one victim, static and adaptive.

        Raises:
            AdvbenchError: a setting that an attack does not have, or a defense that does not fit.
        """
        static = self.build_attacks()
        for name in self.adaptive:
            if name not in self.attacks:
                raise AdvbenchError(f"adaptive {name}: not among the suite's attacks")
        if not (self.through or self.surrogate):
            return static
        chosen = [one for one in static if not self.adaptive or one.name in self.adaptive]
        return [*static, *self.made_against(chosen, victim, self.defenses)]

    @cached_property
    def sha256(self) -> str:
        """Hash its content, wherever it was written down."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()

    def narrowed(
        self,
        datasets: Sequence[str] = (),
        victims: Sequence[str] = (),
        limit: int | None = None,
        weights: Mapping[str, str] | None = None,
        *,
        ansm_weights: Sequence[str] = (),
    ) -> Self:
        """A part of the suite, with a user's own checkpoints.

        Raises:
            AdvbenchError: a name that the suite does not have.
        """
        for option, given, own in (
            ("--dataset", datasets, self.datasets),
            ("--victim", victims, self.victims),
            ("--weights", weights or {}, self.victims),
        ):
            for name in given:
                if name not in own:
                    raise AdvbenchError(
                        f"{option} {name}: not in this suite; it has {', '.join(own)}"
                    )
        chosen = {
            name: choice.model_copy(update={"weights": (weights or {}).get(name, choice.weights)})
            for name, choice in self.victims.items()
            if not victims or name in victims
        }
        if ansm_weights and not self.defenses.keys() & OF_ANSM:
            raise AdvbenchError("--ansm-weights: this suite has no defense ansm")
        networks = {"weights": tuple(ansm_weights)} if ansm_weights else {}
        return self.model_copy(
            update={
                "datasets": tuple(d for d in self.datasets if not datasets or d in datasets),
                "victims": chosen,
                "limit": limit or self.limit,
                "defenses": {
                    name: settings | (networks if name in OF_ANSM else {})
                    for name, settings in self.defenses.items()
                },
            }
        )


def shipped_suites() -> dict[str, Path]:
    """The suites that come with advbench, by name."""
    folder = Path(str(resources.files("advbench.manifests"))) / "suites"
    return {name: folder / f"{name}.toml" for name in SUITES.names()}


def read_suite(name: str) -> Suite:
    """A suite by the name of a shipped one, or by path.

    Raises:
        AdvbenchError: no such suite (with the nearest names), or one that is not valid.
    """
    shipped = shipped_suites()
    path = shipped.get(name) or user_path(name)
    if not path.is_file():
        raise AdvbenchError(f"{name}: no such file; {SUITES.unknown(name)}")
    suite = Suite.parse(str(path), read_toml(path))
    return suite.model_copy(update=dict(_from_file(suite, path.parent)))


def _from_file(suite: Suite, folder: Path) -> Iterator[tuple[str, Any]]:
    """Paths in a suite are relative to its file."""

    def resolved(text: str) -> str:
        return text if text in ("builtin", "random") else str(folder / user_path(text))

    yield (
        "victims",
        {
            name: choice.model_copy(update={"weights": resolved(choice.weights)})
            for name, choice in suite.victims.items()
        },
    )
    own = {
        name: settings | {field: tuple(map(resolved, settings[field]))}
        for name, settings in suite.defenses.items()
        if (field := FILES.get(name, "")) in settings
    }
    yield "defenses", suite.defenses | own
