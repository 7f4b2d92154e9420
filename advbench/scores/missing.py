"""Find what a row of a leaderboard has not met, and the commands that fill it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from advbench.scores.cells import named_by_options
from advbench.scores.threats import ADAPTIVE, STATIC

Met = frozenset[tuple[str, str]]  # variant and sample


@dataclass(frozen=True)
class Missing:
    """Hold what one defense before one victim has not met, though others have.

    Attributes:
        about: ``dataset``, ``victim``, ``defense``, ``strength`` and ``defense_spec``.
        static: variants, each with how many images.
        adaptive: attacks through the defense, as ``pgd-3``, each with how many images.
        authentic: some of these images are.
    """

    about: dict[str, Any]
    static: dict[str, int]
    adaptive: dict[str, int]
    authentic: bool = False

    def __bool__(self) -> bool:
        return bool(self.static or self.adaptive)

    def __str__(self) -> str:
        told = [f"{name} ({count} images)" for name, count in self.static.items()]
        told += [f"{name} through it ({count} images)" for name, count in self.adaptive.items()]
        return "has not met " + ", ".join(told)

    @property
    def commands(self) -> list[str]:
        """The command lines that make and score what is missing."""
        victim, dataset = str(self.about["victim"]), str(self.about["dataset"])
        where = ["--victim", victim, "--dataset", dataset]
        defense, strength = self._defense()
        scoring = ["evaluate", *where, "--defense", defense]
        if strength:
            scoring += ["--set", "=".join(strength)]
        whole, _, split = dataset.rpartition("-")
        if split in ("train", "val"):
            where = ["--victim", victim, "--dataset", whole, "--split", split]
        through = "-".join([defense, *strength[1:]])
        if self.authentic:
            where += ["--images", "all"]
        making = [
            ["generate", *where, "--attack", attack, *settings, "--through", through]
            for attack, settings in _by_attack(self.adaptive)
        ]
        return [shlex.join(["advbench", *command]) for command in (*making, scoring)]

    def _defense(self) -> tuple[str, tuple[str, ...]]:
        """Return the name, and field and value of the strength where it has one."""
        name, strength = str(self.about["defense"]), self.about["strength"]
        try:
            specification = dict(json.loads(self.about["defense_spec"]))
        except ValueError:
            specification = {}
        fields = [key for key, value in specification.items() if value == strength]
        return name, (fields[0], f"{strength:g}") if fields else ()


def _by_attack(variants: Iterable[str]) -> Iterable[tuple[str, list[str]]]:
    """Sort attacks such as ``pgd (region=seam)-3`` into a command's options each."""
    found: dict[str, list[str]] = {}
    for name in variants:
        attack, _, intensity = name.rpartition("-")
        found.setdefault(attack, []).append(intensity)
    for name, intensities in found.items():
        attack, *options = name.split(" (")
        settings = [part for option in options for part in ("--set", option.rstrip(")"))]
        steps = ["--steps" if attack == "cw" else "--eps", ",".join(intensities)]
        yield attack, [*steps, *settings]


def met(records: pd.DataFrame, threat: str) -> Met:
    """List what some records have met under one threat model: the static variants by name, and the
    adaptive ones by attack and intensity, since each defense has its own."""
    chosen = records[records.threat == threat]
    names = chosen.variant if threat == STATIC else _attack_names(chosen)
    return frozenset(zip(names, chosen.sample_id, strict=True))


def missing(records: pd.DataFrame, dataset: pd.DataFrame) -> list[Missing]:
    """Find what each defense has not met that another one of the same victim has; attacks through
    it also where a defense before another victim has.

    Args:
        records: of one victim.
        dataset: all records of its dataset.
    """
    static, adaptive = met(records, STATIC), met(dataset, ADAPTIVE)
    authentic = set(dataset.sample_id[dataset.tp + dataset.fn == 0])
    found = []
    for (defense, strength), part in records.groupby(["defense", "strength"], dropna=False):
        first = part.iloc[0]
        columns = ["dataset", "victim", "defense_spec"]
        about = {name: first[name] for name in columns}
        through = adaptive - met(part, ADAPTIVE) if defense != "none" else frozenset()
        found.append(
            Missing(
                about | {"defense": defense, "strength": strength},
                _counted(static - met(part, STATIC)),
                _counted(through),
                any(sample in authentic for _, sample in through),
            )
        )
    return found


def _counted(pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
    counts = pd.Series([variant for variant, _ in pairs], dtype=object).value_counts()
    return {str(name): int(counts[name]) for name in sorted(counts.index)}


def _attack_names(records: pd.DataFrame) -> pd.Series[str]:
    return named_by_options(records) + "-" + records.intensity.map("{:g}".format)
