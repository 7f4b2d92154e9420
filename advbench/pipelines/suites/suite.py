"""A suite: one TOML file that says datasets × victims × attacks × intensities × defenses."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from advbench.attacks.base import Attack
from advbench.datasets.manifest import Split
from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError, plain_message
from advbench.inference.precision import Precision
from advbench.registry import ATTACKS, DEFENSES, SUITES, VICTIMS, Registry
from advbench.victims.base import Size

Settings = dict[str, Any]


class VictimChoice(BaseModel):
    """Which network of a victim: as the options of ``advbench generate`` say it.

    ``weights`` that are a path are relative to the suite's file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Size | None = None
    weights: str = "builtin"


class Suite(BaseModel):
    """A validated suite.

    Attributes:
        datasets: registered or imported names, or folders.
        victims, attacks, defenses: by registry name; the undefended victim is always scored.
        profile: of the attacks, below their own settings.
        limit: the first so many images of each dataset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_id: Literal["advbench.suite/1"] = Field(alias="schema")
    title: str
    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    victims: Annotated[dict[str, VictimChoice], Field(min_length=1)]
    attacks: Annotated[dict[str, Settings], Field(min_length=1)]
    defenses: dict[str, Settings] = {}
    profile: str = "default"
    protocol: str = "f1/v1"
    split: Split = "test"
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0
    shard_size: Annotated[int, Field(ge=1, le=4096)] = 64
    precision: Precision = "fp32"

    @cached_property
    def sha256(self) -> str:
        """Of its content, wherever it was written down."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()

    def narrowed(
        self,
        datasets: Sequence[str] = (),
        victims: Sequence[str] = (),
        limit: int | None = None,
        weights: Mapping[str, str] | None = None,
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
        if ansm_weights and "ansm" not in self.defenses:
            raise AdvbenchError("--ansm-weights: this suite has no defense ansm")
        networks = {"weights": tuple(ansm_weights)} if ansm_weights else {}
        return self.model_copy(
            update={
                "datasets": tuple(d for d in self.datasets if not datasets or d in datasets),
                "victims": chosen,
                "limit": limit or self.limit,
                "defenses": {
                    name: settings | (networks if name == "ansm" else {})
                    for name, settings in self.defenses.items()
                },
            }
        )

    def build_attacks(self) -> list[Attack]:
        """The attacks' specifications.

        Raises:
            AdvbenchError: a setting that an attack does not have.
        """
        return [
            ATTACKS.get(name).create(self.profile, **settings)
            for name, settings in self.attacks.items()
        ]

    def build_defenses(self) -> list[Defense]:
        """The defenses' specifications; raises as :meth:`build_attacks`."""
        return [
            DEFENSES.get(name).create(**settings)
            for name, settings in self.defenses.items()
            if name != "none"
        ]


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
    path = shipped.get(name) or Path(name)
    if not path.is_file():
        raise AdvbenchError(f"{name}: no such file; {SUITES.unknown(name)}")
    try:
        suite = Suite.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AdvbenchError(f"{path}: no TOML file ({error})") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise AdvbenchError(f"{path}: {where}: {plain_message(fault)}") from error
    for registry, names in (
        (VICTIMS, suite.victims),
        (ATTACKS, suite.attacks),
        (DEFENSES, suite.defenses),
    ):
        _check_names(path, registry, names)
    return suite.model_copy(update=dict(_from_file(suite, path.parent)))


def _check_names(path: Path, registry: Registry, names: Mapping[str, Any]) -> None:
    for name in names:
        try:
            registry.get(name)
        except AdvbenchError as error:
            raise AdvbenchError(f"{path}: {error}") from error


def _from_file(suite: Suite, folder: Path) -> Iterator[tuple[str, Any]]:
    """Paths in a suite are relative to its file."""

    def resolved(text: str) -> str:
        return text if text in ("builtin", "random") else str(folder / text)

    yield (
        "victims",
        {
            name: choice.model_copy(update={"weights": resolved(choice.weights)})
            for name, choice in suite.victims.items()
        },
    )
    ansm = suite.defenses.get("ansm", {})
    if "weights" in ansm:
        own = tuple(resolved(text) for text in ansm["weights"])
        yield "defenses", suite.defenses | {"ansm": ansm | {"weights": own}}
