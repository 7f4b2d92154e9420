"""Configure the verbs: one model for the command line, suite files and Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from advbench.attacks.base import Attack
from advbench.config import Config, HomePath
from advbench.datasets.builtin.editions import recorded_name
from advbench.datasets.dataset import Dataset
from advbench.datasets.manifest import Row, Split
from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError
from advbench.pipelines.adaptive import DRAWS, on_surrogate, through_each
from advbench.pipelines.cells import named_cells
from advbench.registry import ATTACKS, DEFENSES, VICTIMS, Registry
from advbench.scores.metrics import OPTIONAL, Metric
from advbench.training.loggers import Logger
from advbench.victims.base import Numerics, Size, Victim

Settings = dict[str, Any]
OUT = Path("advbench-data")
# Settings whose option on the command line has another name.
OPTIONS = {"weights": "ansm-weights", "writers": "relocalise-weights"}
# The defenses that take a user's files, and the field that holds them.
FILES = {"ansm": "weights", "ansm-multi": "weights", "relocalise": "writers"}
OF_ANSM = tuple(name for name, field in FILES.items() if field == "weights")


def with_networks(files: Sequence[str]) -> tuple[Defense, ...]:
    """Build each defense that ``--ansm-weights`` may hold networks of; none without files."""
    return tuple(DEFENSES.get(name).create(weights=files) for name in OF_ANSM if files)


class VictimChoice(Config):
    """Choose a network of a victim.

    Attributes:
        size: ``small`` or ``full``; by default what the weights are of.
        weights: ``builtin``, ``random``, or the path of a checkpoint.
    """

    size: Size | None = None
    weights: str = "builtin"

    def load(self, name: str, device: str) -> Victim:
        """Load the victim of that registry name."""
        weights = None if self.weights == "random" else self.weights
        return VICTIMS.get(name).load(size=self.size, weights=weights, device=device)


class AttackGrid(Config):
    """Victims × attacks × intensities on a part of a dataset.

    Attributes:
        victims: by registry name; ``all`` means the built-in ones.
        attacks: settings by registry name, such as ``{"pgd": {"eps": [3]}}``; a list of names
            takes the defaults, ``all`` means the built-in ones.
        profile: of the attacks, below their own settings.
        through: defenses, as in ``jpeg-90`` or ``ansm``, that the attacks are made through.
        draws: of a random defense, in each gradient through it.
        surrogate: a victim that is attacked in place of each of ``victims``, in its built-in size.
        images: which are attacked; an authentic one is attacked to be marked.
        limit: the first so many forged images, and as many authentic ones.
        seed: of the per-image random streams.
        shard_size: most images in a shard; fewer where they are large.
        numerics: of the victims' passes; others than ``exact`` must pass a gate on strength.
    """

    victims: dict[str, VictimChoice] = Field(default_factory=dict)
    attacks: dict[str, Settings] = Field(default_factory=dict)
    profile: str = "default"
    through: tuple[str, ...] = ()
    draws: Annotated[int, Field(ge=2, le=1000)] = DRAWS
    surrogate: str | None = None
    images: Literal["forged", "authentic", "all"] = "forged"
    split: Split = "test"
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0
    shard_size: Annotated[int, Field(ge=1, le=4096)] = 64
    numerics: Numerics = "exact"

    @field_validator("victims", mode="before")
    @classmethod
    def _known_victims(cls, given: object) -> object:
        return _by_name(VICTIMS, given)

    @field_validator("attacks", mode="before")
    @classmethod
    def _known_attacks(cls, given: object) -> object:
        return _by_name(ATTACKS, given)

    def build_attacks(self) -> list[Attack]:
        """Build the attacks' specifications.

        Raises:
            AdvbenchError: a setting that an attack does not have.
        """
        return [
            ATTACKS.get(name).create(self.profile, **settings)
            for name, settings in self.attacks.items()
        ]

    def made_against(
        self, attacks: Sequence[Attack], victim: Victim, settings: Mapping[str, Settings]
    ) -> list[Attack]:
        """Turn attacks into those through each defense, or on the surrogate, where the grid has
        some; themselves otherwise.

        Args:
            settings: of the defenses, by registry name.

        Raises:
            AdvbenchError: an unknown defense or surrogate, or one that does not fit.
        """
        made = list(attacks)
        if self.through:
            cells = [cell for name in self.through for cell in named_cells(name, victim, settings)]
            made = through_each(made, cells, self.draws)
        if self.surrogate:
            other = VICTIMS.get(self.surrogate).load(device=str(victim.device))
            made = on_surrogate(made, other, victim)
        return made

    def rows(self, dataset: Dataset) -> list[Row]:
        """Choose the images: forged ones first."""
        labels: dict[str, tuple[Literal[0, 1], ...]] = {
            "forged": (1,),
            "authentic": (0,),
            "all": (1, 0),
        }
        return [
            row
            for label in labels[self.images]
            for row in dataset.select(self.split, label=label, limit=self.limit)
        ]

    @property
    def no_rows(self) -> str:
        """Tell what to say where there are none."""
        what = "" if self.images == "all" else f"{self.images} "
        return f"no {what}images in its {self.split} split"


class DefenseGrid(Config):
    """Defenses at their strengths, and how maps are scored.

    Attributes:
        defenses: settings by registry name, as attacks; the undefended victim is always scored.
        protocol: the F1 rule.
    """

    defenses: dict[str, Settings] = Field(default_factory=dict)
    protocol: str = "f1/v1"

    @field_validator("defenses", mode="before")
    @classmethod
    def _known_defenses(cls, given: object) -> object:
        return _by_name(DEFENSES, given)

    def build_defenses(self) -> list[Defense]:
        """Build the defenses' specifications, but for ``none``.

        Raises:
            AdvbenchError: a setting that a defense does not have.
        """
        return [
            DEFENSES.get(name).create(**settings)
            for name, settings in self.defenses.items()
            if name != "none"
        ]


class GenerateConfig(AttackGrid):
    """Configure ``advbench generate``.

    Attributes:
        dataset: a registered or imported name, or a folder.
        ansm_weights: networks of ``train ansm`` for ``through``; the shipped ones where empty.
        repair: check all that is there, and make damaged shards again.
        device: a torch device name, or ``auto`` for a GPU where there is one.
        out: the output folder.
    """

    dataset: str = "builtin"
    ansm_weights: tuple[str, ...] = ()
    repair: bool = False
    device: str = "auto"
    out: HomePath = OUT


class EvaluateConfig(DefenseGrid):
    """Configure ``advbench evaluate``.

    Attributes:
        victims, datasets: only these; empty for all that there are shards of.
        weights: the checkpoint that the shards were made with, where it is a user's own.
        limit: the first so many images of each variant.
        seed: of random defenses.
        where_possible: leave out a trained defense before a victim that it has no network for.
        metrics: ``auc`` and ``ssim``, which take a tenth of the time of a small victim, or fewer.
        device, out: as in :class:`GenerateConfig`.
    """

    victims: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    weights: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0
    where_possible: bool = False
    metrics: tuple[Metric, ...] = OPTIONAL
    device: str = "auto"
    out: HomePath = OUT

    @field_validator("datasets")
    @classmethod
    def _as_recorded(cls, datasets: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(recorded_name(name) for name in datasets)


class TrainingConfig(Config):
    """Configure what every training has.

    Attributes:
        victim: by registry name.
        dataset: a registered or imported name, or a folder, with a training split.
        to: folder of the run; below ``runs`` where None.
        fresh: how many forgeries to make anew for each epoch, in place of the training split.
        photographs: where the Debian packages of ``open`` lie, to make them from as well.
        recipe: fields of the recipe that differ from the victim's own.
        log: where each epoch is told beside the curve, see :mod:`advbench.training.loggers`.
        device, out: as in :class:`GenerateConfig`.
    """

    victim: str
    dataset: str = "builtin"
    to: Path | None = None
    fresh: Annotated[int, Field(ge=1)] | None = None
    photographs: Path | None = None
    recipe: Settings = Field(default_factory=dict)
    log: tuple[Logger, ...] = ()
    device: str = "auto"
    out: HomePath = OUT


class TrainVictimConfig(TrainingConfig):
    """Configure ``advbench train victim``, beside :class:`TrainingConfig`.

    Attributes:
        start: weights to start from: a checkpoint, or ``builtin``; random ones where None.
    """

    size: Size = "small"
    start: str | None = None


class TrainAnsmConfig(TrainingConfig):
    """Configure ``advbench train ansm``, beside :class:`TrainingConfig`.

    Attributes:
        choice: which network of the victim that it is to protect.
        size: of ANSM; the victim's where None.
        start: a file of ANSM weights, or the victim whose shipped ones they are.
        limit: the first so many training images.
    """

    choice: VictimChoice = VictimChoice()
    size: Size | None = None
    start: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None


class TrainRelocaliseConfig(TrainingConfig):
    """Configure ``advbench train relocalise``, beside :class:`TrainingConfig`.

    Attributes:
        choice: which network of the victim.
        localizer: the victim whose map is drawn, with its shipped weights; mvssnet, or ifosn before
            mvssnet, where None.
    """

    choice: VictimChoice = VictimChoice()
    localizer: str | None = None


def spread(
    registry: Registry, names: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Settings]:
    """Give each named attack or defense the options that it takes.

    Args:
        options: by field name; empty values count as not given.

    Raises:
        AdvbenchError: an option that none of them takes.
    """
    classes = {name: registry.get(name) for name in expand(registry, names)}
    given = {key: value for key, value in options.items() if value not in (None, (), [])}
    for key, value in given.items():
        if all(key not in found.model_fields for found in classes.values()):
            known = sorted({OPTIONS.get(f, f) for c in classes.values() for f in c.model_fields})
            raise AdvbenchError(
                f"{OPTIONS.get(key, key)}: no setting of {', '.join(classes)}; there are "
                f"{', '.join(known) or 'none'}{_other_name(key, value, classes)}"
            )
    return {
        name: {key: value for key, value in given.items() if key in found.model_fields}
        for name, found in classes.items()
    }


def expand(registry: Registry, names: Sequence[str] | str) -> list[str]:
    """Expand ``all`` to the built-in names.

    Raises:
        AdvbenchError: an unknown name, told with the nearest ones.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if "all" in wanted:
        return registry.standard()
    for name in wanted:
        registry.get(name)
    return wanted


def _by_name(registry: Registry, given: object) -> object:
    """Accept a name, a list of names or a mapping; refuse names that are not registered."""
    if isinstance(given, str | list | tuple):
        given = {name: {} for name in given} if not isinstance(given, str) else {given: {}}
    if not isinstance(given, Mapping):
        return given  # told by the type of the field
    try:
        if "all" in given:
            return dict.fromkeys(registry.standard(), given["all"])
        for name in given:
            registry.get(name)
    except AdvbenchError as error:
        raise ValueError(str(error)) from error
    return given


def _other_name(key: str, value: Any, classes: Mapping[str, Any]) -> str:
    """Tell the name of the intensity, and of gradient steps, where those of another attack were
    given."""
    if key not in ("eps", "steps") or not any(
        hasattr(c, "intensity_field") for c in classes.values()
    ):
        return ""
    theirs = ", ".join(sorted({found.intensity_field for found in classes.values()}))
    steps = value[0] if isinstance(value, list | tuple) else value
    iterated = key == "steps" and any("iterations" in c.model_fields for c in classes.values())
    return f"; the intensity is {theirs}" + (f", gradient steps are iterations={steps}" * iterated)
