"""The verbs of the command line as functions, with the same options, defaults and messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from torch import nn

from advbench.attacks.base import Attack
from advbench.cli.progress import Progress
from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError
from advbench.evaluation import Evaluation
from advbench.pipelines import train_verbs, verbs
from advbench.pipelines.config import (
    OUT,
    EvaluateConfig,
    GenerateConfig,
    TrainAnsmConfig,
    TrainingConfig,
    TrainRelocaliseConfig,
    TrainVictimConfig,
    VictimChoice,
    spread,
)
from advbench.pipelines.verbs import Generated
from advbench.registry import ATTACKS, DEFENSES, Registry
from advbench.scores import leaderboard as ranking
from advbench.scores.records import read_records
from advbench.victims.base import Victim

C = TypeVar("C", bound=TrainingConfig)
Victims = str | Victim | Iterable[str | Victim]
Attacks = str | Attack | Iterable[str | Attack] | Mapping[str, dict[str, Any]]
Defenses = str | Defense | Iterable[str | Defense] | Mapping[str, dict[str, Any]]


def generate(
    victims: Victims,
    attacks: Attacks,
    *,
    settings: Mapping[str, Any] | None = None,
    size: str | None = None,
    weights: str | Path | None = None,
    quiet: bool = False,
    **options: Any,
) -> list[Generated]:
    """Attack victims on a dataset and store the adversarial images as HDF5 shards.

    What is there is kept; more images or intensities are added to it.

    Args:
        victims: names, ``all``, or victims that are loaded or wrapped.
        attacks: names, ``all``, specifications, or settings by name:
            ``{"pgd": {"eps": [3]}, "cw": {}}``.
        settings: for all named attacks that take them, such as ``{"eps": [1, 2]}``.
        size, weights: of the one named victim; ``random`` is a fresh network.
        quiet: show no progress.
        options: fields of :class:`~advbench.pipelines.config.GenerateConfig`, such as ``dataset``,
            ``limit``, ``out``.

    Returns:
        what was done, one item a victim.

    Raises:
        AdvbenchError: a name, option or image that does not serve.
    """
    names, loaded = _parted(Victim, victims)
    if weights and len(names) != 1:
        raise AdvbenchError("weights belong to one victim by name; give one name with them")
    attack_names, specifications = _specified(ATTACKS, attacks, settings)
    choice = VictimChoice.parse("generate", {"size": size, "weights": str(weights or "builtin")})
    fields = {"victims": dict.fromkeys(names, choice), "attacks": attack_names, **options}
    config = GenerateConfig.parse("generate", fields)
    with Progress(quiet) as progress:
        return verbs.generate(config, victims=loaded, attacks=specifications, feedback=progress)


def evaluate(
    victims: Victims = (),
    *,
    dataset: str | None = None,
    attacks: Attacks = (),
    defenses: Defenses = ("none",),
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
    **options: Any,
) -> Evaluation:
    """Score victims behind defenses on adversarial images, which are made where they are missing.

    Args:
        victims: as for :func:`generate`; without any, all that there are shards of.
        dataset: a registered or imported name, or a folder; ``builtin`` where attacks are given.
        attacks: as for :func:`generate`, made first; without any, all that are stored are scored.
        defenses: names, ``all``, specifications, or settings by name.
        settings: for all named attacks and defenses that take them: ``{"eps": 3, "quality": 75}``.
        quiet: show no progress.
        options: fields of :class:`~advbench.pipelines.config.EvaluateConfig`, such as ``limit``,
            ``protocol``, ``out``.

    Returns:
        the records of what was asked for, with tables and pictures of them.

    Raises:
        AdvbenchError: a name, option or image that does not serve, or nothing to score.
    """
    given = dict(settings or {})
    names, loaded = _parted(Victim, victims)
    samples = variants = None
    datasets = (dataset,) if dataset else ()
    defense_names, defense_specs = _specified(DEFENSES, defenses, _taken(DEFENSES, given))
    attack_names, attack_specs = _specified(ATTACKS, attacks, _taken(ATTACKS, given))
    if attack_names or attack_specs:
        shared = {key: options[key] for key in ("limit", "device", "out", "seed") if key in options}
        grid = {"victims": names, "attacks": attack_names, "dataset": dataset or "builtin"}
        making = GenerateConfig.parse("evaluate", grid | shared)
        with Progress(quiet) as progress:
            made = verbs.generate(making, victims=loaded, attacks=attack_specs, feedback=progress)
        specifications = [*making.build_attacks(), *attack_specs]
        variants = frozenset(a.variant_name(i) for a in specifications for i in a.intensities)
        samples = frozenset(name for one in made for name in one.sample_ids)
        datasets = (made[0].dataset,)
        loaded = [one.victim for one in made]
    fields = {
        "defenses": defense_names,
        "victims": (*names, *(v.name for v in loaded if v.name not in names)),
        "datasets": datasets,
        **options,
    }
    config = EvaluateConfig.parse("evaluate", fields)
    with Progress(quiet) as progress:
        counts = verbs.evaluate(
            config,
            victims=loaded,
            defenses=defense_specs,
            samples=samples,
            variants=variants,
            feedback=progress,
        )
    return Evaluation(config, defense_specs, loaded, counts, samples=samples, variants=variants)


def train_victim(name: str, *, quiet: bool = False, **options: Any) -> Path:
    """Train a victim on a dataset's training split; the path of the weights.

    Args:
        options: fields of :class:`~advbench.pipelines.config.TrainVictimConfig`, such as
            ``dataset``, ``size``, ``recipe={"epochs": 20}``.

    Raises:
        AdvbenchError: a name, field or dataset that does not serve.
    """
    config = TrainVictimConfig.parse("train_victim", {"victim": name, **options})
    return _trained(train_verbs.train_victim, config, quiet)


def train_ansm(name: str, *, quiet: bool = False, **options: Any) -> Path:
    """Train ANSM for a victim; the path of the weights.

    Args:
        options: fields of :class:`~advbench.pipelines.config.TrainAnsmConfig`.

    Raises:
        AdvbenchError: a name, field or dataset that does not serve.
    """
    config = TrainAnsmConfig.parse("train_ansm", {"victim": name, **options})
    return _trained(train_verbs.train_ansm_for, config, quiet)


def train_relocalise(name: str, *, quiet: bool = False, **options: Any) -> Path:
    """Train the control ``relocalise`` for a victim; the path of the weights.

    Args:
        options: fields of :class:`~advbench.pipelines.config.TrainRelocaliseConfig`.

    Raises:
        AdvbenchError: a name, field or dataset that does not serve.
    """
    config = TrainRelocaliseConfig.parse("train_relocalise", {"victim": name, **options})
    return _trained(train_verbs.train_relocalise_for, config, quiet)


def _trained(verb: Callable[[C, Progress], Path], config: C, quiet: bool) -> Path:
    with Progress(quiet) as progress:
        return verb(config, progress)


def leaderboard(out: str | Path = OUT) -> dict[str, pd.DataFrame]:
    """Rank the defenses by the records below an output folder: one table a dataset.

    Raises:
        AdvbenchError: there are no records.
    """
    records = read_records(Path(out) / "records")
    return {str(name): ranking.leaderboard(part) for name, part in records.groupby("dataset")}


def _parted(family: type, given: Any) -> tuple[list[str], list[Any]]:
    """Part names from objects of a family: Victim, Attack or Defense.

    Raises:
        AdvbenchError: something else is among them.
    """
    alone = isinstance(given, str | type | nn.Module) or not isinstance(given, Iterable)
    every = [given] if alone or isinstance(given, Attack | Defense) else list(given)
    for one in every:
        if not isinstance(one, str | family):
            raise AdvbenchError(f"{family.__name__.lower()}s: {_instead(family, one)}")
    names = [one for one in every if isinstance(one, str)]
    return names, [one for one in every if not isinstance(one, str)]


def _instead(family: type, given: Any) -> str:
    """Say what to give in place of what is neither a name nor an object of the family."""
    if isinstance(given, type):
        name = given.__name__
        if issubclass(given, nn.Module) and family is Victim:
            return f"wrap the module: advbench.wrap({name}()), not the class {name}"
        if issubclass(given, family):
            made = f"{name}.load()" if family is Victim else f"{name}()"
            return f"give {made}, not the class"
    if isinstance(given, nn.Module) and family is Victim:
        return f"wrap the module: advbench.wrap(module), here of type {type(given).__name__}"
    article = "an" if family is Attack else "a"
    kind = given.__name__ if isinstance(given, type) else f"type {type(given).__name__}"
    return f"give a name or {article} {family.__name__}, not {kind}"


def _specified(
    registry: Registry, given: Any, settings: Mapping[str, Any] | None
) -> tuple[dict[str, dict[str, Any]], list[Any]]:
    """Settings by name, and the specifications that were given as objects."""
    if isinstance(given, Mapping):
        for name, own in given.items():
            if not isinstance(name, str) or not isinstance(own, Mapping):
                raise AdvbenchError(
                    f"{registry.kind}s: give settings by name, as in "
                    f'{{"{registry.standard()[0]}": {{}}}}, not {name!r}: {own!r}'
                )
        shared = spread(registry, list(given), settings or {})
        return {name: shared[name] | dict(own) for name, own in given.items()}, []
    family = Attack if registry is ATTACKS else Defense
    names, objects = _parted(family, given)
    return (spread(registry, names, settings or {}) if names else {}), objects


def _taken(registry: Registry, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that some plug-in of the family takes."""
    fields = {f for name in registry.standard() for f in registry.get(name).model_fields}
    return {key: value for key, value in settings.items() if key in fields}
