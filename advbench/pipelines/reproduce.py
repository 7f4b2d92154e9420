"""The paper's Tables III to VI on a dataset: make what is missing, score, set beside the figures.

Whatever is there already, shards, networks or records, is reused, so a run that was cut goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from advbench.attacks.base import Attack
from advbench.datasets.dataset import Dataset
from advbench.datasets.manifest import Split
from advbench.defenses.ansm.defense import ANSM
from advbench.defenses.ansm.recipe import AnsmRecipe, preset
from advbench.defenses.ansm.training import FIRST_STAGE, Start
from advbench.errors import AdvbenchError
from advbench.pipelines import generate
from advbench.pipelines.attack_and_score import attack_and_score
from advbench.pipelines.provenance import victim_identity
from advbench.pipelines.train import content_of
from advbench.pipelines.train_ansm import train_ansm
from advbench.progress import TaskProgress
from advbench.registry import ATTACKS
from advbench.scores.published import beside_published
from advbench.training.loop import TrainingRun
from advbench.victims.base import Victim

SIX = ("fgsm", "cw", "bim", "pgd", "mifgsm", "pgn")
# Never sees the ground truth, so what it leaves cannot carry the label.
BLIND = "cw"

_FFA = {"first": "ffa", "depth": "middle", **FIRST_STAGE}
_MGR = _FFA | {"epochs_first": 0}


@dataclass(frozen=True)
class Ablation:
    """Strategies of one table, as changes of the recipe, and the attacks that it shows.

    ``None`` leaves a field to the recipe.
    """

    strategies: Mapping[str, Mapping[str, Any]]
    attacks: Sequence[str] = ("fgsm",)


ABLATIONS = {
    "table4": Ablation(
        {depth: _FFA | {"depth": depth} for depth in ("shallow", "topmost", "middle")}
    ),
    "table5": Ablation({"pwr": _FFA | {"first": "pwr"}, "ffa": _FFA}),
    "table6": Ablation(
        {
            "ffa": _FFA,
            "mgr_gt": _MGR | {"epochs_mgr": None, "target": "truth"},
            "mgr_pred": _MGR | {"epochs_mgr": None},
            "ffa+mgr_gt": _FFA | {"epochs_mgr": None, "target": "truth"},
            "ffa+mgr_pred": _FFA | {"epochs_mgr": None},
        },
        SIX,
    ),
}
FIXED = ("first", "depth", "target")


@dataclass(frozen=True)
class ReproductionJob:
    """Choose what to reproduce.

    Attributes:
        limit: the first so many test images.
        profile: of the attacks, below ``attack_settings``.
        attack_settings: of every attack that has them, by name of the field.
        weights: networks of ANSM for Table III; the shipped ones where empty.
        training: dataset to train the ablations' networks on.
        recipe: changes of the victims' presets, for quick looks.
        start: what every network begins from (:meth:`Start.read`); random weights otherwise.
    """

    out: Path
    datasets: Sequence[Dataset]
    victims: Sequence[Victim]
    limit: int | None = None
    profile: str = "paper"
    attack_settings: Mapping[str, Any] | None = None
    weights: Sequence[str] = ()
    training: Dataset | None = None
    recipe: Mapping[str, Any] | None = None
    start: str | Path | None = None


def reproduce(
    table: str,
    job: ReproductionJob,
    progress: TaskProgress = lambda what, done, total: None,
) -> pd.DataFrame:
    """One of the paper's tables; columns as in :func:`beside_published`, with a ``note``.

    Table III gains rows ``fgsm (target=pred)`` and so on where an attack that sees the ground
    truth leaves an RP above 100 %: the same attack with the victim's own prediction for the truth.

    Raises:
        AdvbenchError: a dataset without test images, no network for a victim, no training split.
    """
    run = _Reproduction(job, progress)
    run.check(table)
    if table != "table3":
        return _marked(beside_published(run.ablation(ABLATIONS[table]), table))
    frame = _marked(beside_published(run.table3(), table))
    controls = []
    leaking = frame[frame.note != ""]
    for (dataset, victim), part in leaking.groupby(["dataset", "victim"], sort=False):
        records = run.control(str(dataset), str(victim), sorted(set(part.attack)))
        control = beside_published(records, table)
        control = control[control.attack != "original"].drop(columns="published_f1")
        controls.append(control.assign(published_rp=float("nan"), note="control"))
    return pd.concat([frame, *controls], ignore_index=True)


def _marked(frame: pd.DataFrame) -> pd.DataFrame:
    above = (frame.rp > 100) & ~frame.attack.isin(["original", BLIND])
    text = f"above 100 %: the noise may carry the label; {BLIND} never sees it"
    return frame.assign(note=above.map({True: text, False: ""}))


class _Reproduction:
    def __init__(self, job: ReproductionJob, progress: TaskProgress) -> None:
        self.job = job
        self.progress = progress
        self.trained: dict[Path, Path] = {}

    def check(self, table: str) -> None:
        """Complain before any work is done.

        Raises:
            AdvbenchError: see :func:`reproduce`.
        """
        job = self.job
        needs: list[tuple[Dataset, Split]] = [(dataset, "test") for dataset in job.datasets]
        if table != "table3":
            for dataset in [job.training] if job.training else job.datasets:
                needs += [(dataset, "train"), (dataset, "val")]
        for dataset, split in needs:
            if not dataset.select(split, label=1):
                raise AdvbenchError(
                    f"dataset {dataset.id}: no forged images in its {split} split; divide it "
                    f"with: advbench dataset split {dataset.id}"
                )
        fixed = sorted(set(FIXED) & set(job.recipe or {}))
        if fixed:
            raise AdvbenchError(f"--set {fixed[0]}: the strategies of {table} decide that")
        if (job.recipe or {}).get("noise") == "several":
            raise AdvbenchError(f"--set noise=several: makes ansm-multi; {table} is of ansm")
        for victim in job.victims:
            if table == "table3":
                ANSM(weights=tuple(job.weights)).for_victim(victim_identity(victim))
            else:
                for changes in ABLATIONS[table].strategies.values():
                    self.start(victim, self.recipe(victim, changes))

    def recipe(self, victim: Victim, changes: Mapping[str, Any]) -> AnsmRecipe:
        """The victim's preset, the job's changes, and a strategy's on top."""
        settings = preset(victim.name, victim.size) | dict(self.job.recipe or {})
        decided = {key: value for key, value in changes.items() if value is not None}
        return AnsmRecipe.parse("recipe", settings | decided)

    def start(self, victim: Victim, recipe: AnsmRecipe) -> Start | None:
        """Read what the victim's network begins from."""
        path = self.job.start
        return Start.read(path, victim.size, recipe.upsampling) if path else None

    def table3(self) -> pd.DataFrame:
        return pd.concat(
            [
                self.defended(dataset, victim, self.attacks(SIX), self.job.out)
                for dataset in self.job.datasets
                for victim in self.job.victims
            ],
            ignore_index=True,
        )

    def control(self, dataset: str, victim: str, names: Sequence[str]) -> pd.DataFrame:
        """Records of attacks that aim at the victim's own prediction in place of the truth."""
        return self.defended(
            next(d for d in self.job.datasets if d.id == dataset),
            next(v for v in self.job.victims if v.name == victim),
            self.attacks(names, target="pred"),
            self.job.out / "reproduce" / "target-pred",
        )

    def ablation(self, ablation: Ablation) -> pd.DataFrame:
        attacks = self.attacks(ablation.attacks)
        frames = []
        for dataset in self.job.datasets:
            for victim in self.job.victims:
                for strategy, changes in ablation.strategies.items():
                    recipe = self.recipe(victim, changes)
                    weights = self.train(victim, self.job.training or dataset, recipe)
                    records = self.defended(dataset, victim, attacks, self.job.out, weights=weights)
                    names = records.defense.map({"none": "none", "ansm": strategy})
                    frames.append(records.assign(defense=names))
        every = pd.concat(frames, ignore_index=True)
        return every.drop_duplicates(["dataset", "victim", "defense", "variant", "sample_id"])

    def defended(
        self,
        dataset: Dataset,
        victim: Victim,
        attacks: Sequence[Attack],
        out: Path,
        *,
        weights: Path | None = None,
    ) -> pd.DataFrame:
        """Records of the victim, undefended and behind ANSM, on the originals and the attacks.

        Args:
            weights: of one network, whose records lie beside it.
        """
        records = out / "reproduce" / "records"
        given = (str(weights),) if weights else tuple(self.job.weights)
        return attack_and_score(
            dataset,
            dataset.select("test", label=1, limit=self.job.limit),
            victim,
            attacks=attacks,
            defenses=[ANSM(weights=given)],
            out=out,
            records=records,
            defended=weights.parent / "records" if weights else None,
            progress=self.progress,
        )

    def attacks(self, names: Sequence[str], **settings: Any) -> list[Attack]:
        given = {**(self.job.attack_settings or {}), **settings}
        made = []
        for name in names:
            cls = ATTACKS.get(name)
            own = {key: value for key, value in given.items() if key in cls.model_fields}
            made.append(cls.create(self.job.profile, **own))
        return made

    def train(self, victim: Victim, dataset: Dataset, recipe: AnsmRecipe) -> Path:
        """A network; its first stage is trained once for all that share it."""
        parts = (victim.name, victim.size, dataset.id, recipe.first, recipe.depth, recipe.target)
        rows = {split: dataset.select(split, label=1) for split in ("train", "val")}
        content = content_of([*rows["train"], *rows["val"]])
        start = self.start(victim, recipe)
        decisive = recipe.model_dump_json() + victim.weights.sha256 + content
        decisive += start.sha256 if start else ""
        digest = hashlib.sha256(decisive.encode()).hexdigest()[:8]
        lengths = f"{recipe.epochs_first}+{recipe.epochs_mgr}"
        name = "-".join(["ansm", *parts, lengths, digest])
        folder = self.job.out / "reproduce" / name
        if folder in self.trained:  # else all its pairs would be read again
            return self.trained[folder]
        after = None
        if recipe.epochs_first and recipe.epochs_mgr:
            first = recipe.model_copy(update=FIRST_STAGE)
            after = self.train(victim, dataset, first).parent
        # Stored, for all strategies to share; apart, so that evaluate does not score them.
        pairs = self.job.out / "reproduce" / "pairs"
        fgsm = ATTACKS.get("fgsm").create(eps=(recipe.eps,))
        for some in filter(None, rows.values()):
            wanted = generate.GenerationJob(dataset, some, victim, [fgsm], pairs)
            generate.generate(wanted, self.progress)
        run = TrainingRun(
            folder, steps=lambda done, total: self.progress(f"training {name}", done, total)
        )
        self.trained[folder] = train_ansm(
            victim,
            victim.size,
            dataset,
            recipe,
            run=run,
            shards=pairs / "shards",
            start=start,
            after=after,
        )
        return self.trained[folder]
