"""Make what a figure of the paper needs and draw it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from advbench.attacks.base import Attack
from advbench.datasets.dataset import Dataset
from advbench.defenses.base import Defense
from advbench.defenses.none import NoDefense
from advbench.errors import AdvbenchError
from advbench.pipelines import generate
from advbench.pipelines.attack_and_score import attack_and_score
from advbench.pipelines.cells import Cell
from advbench.progress import TaskProgress
from advbench.report.figures.clouds import check_umap, clouds_of
from advbench.report.figures.clouds import draw as draw_clouds
from advbench.report.figures.lines import fig3, fig4
from advbench.report.figures.masks import fig7
from advbench.report.picture import Subject, each_subject
from advbench.victims.base import Victim

UNDEFENDED = Cell(NoDefense(), None)


@dataclass(frozen=True)
class FigureJob:
    """Choose what to draw.

    Attributes:
        figure: ``fig3``, ``fig4``, ``fig5``, ``fig7`` or ``fig8``.
        out: the output folder; what is there is reused.
        filters: of fig4, with the strengths to draw.
        cells: of fig7 and fig8, by name of the victim.
        limit: the first so many forged test images.
    """

    figure: str
    out: Path
    datasets: Sequence[Dataset]
    victims: Sequence[Victim]
    attacks: Sequence[Attack]
    filters: Sequence[Defense] = ()
    cells: Mapping[str, Sequence[Cell]] = field(default_factory=dict)
    limit: int | None = None


@dataclass(frozen=True)
class DrawnFigure:
    """Hold a figure, its numbers, and of fig5 and fig8 the points that it shows."""

    figure: Figure
    numbers: pd.DataFrame
    points: pd.DataFrame | None = None


def make(job: FigureJob, progress: TaskProgress = lambda what, done, total: None) -> DrawnFigure:
    """Attack what has not been attacked, score what has not been scored, and draw.

    Raises:
        AdvbenchError: a dataset without forged test images, or for fig5 and fig8 no umap-learn or
            too few images.
    """
    for dataset in job.datasets:
        images = len(dataset.select("test", label=1, limit=job.limit))
        if not images:
            raise AdvbenchError(
                f"dataset {dataset.id}: no forged images in its test split; divide it with: "
                f"advbench dataset split {dataset.id}"
            )
        if job.figure in ("fig5", "fig8"):
            check_umap(job.figure, images)
    if job.figure in ("fig3", "fig4"):
        records = _records(job, progress)
        return DrawnFigure(*(fig3 if job.figure == "fig3" else fig4)(records))
    cells = {v.name: [UNDEFENDED, *job.cells.get(v.name, ())] for v in job.victims}
    if job.figure == "fig7":
        subjects = {
            dataset.id: [
                (victim, subject)
                for victim in job.victims
                for subject in _subjects(job, dataset, victim, progress)
            ]
            for dataset in job.datasets
        }
        return DrawnFigure(*fig7(subjects, cells))
    clouds = [
        clouds_of(
            dataset.id,
            victim,
            _subjects(job, dataset, victim, progress),
            cells[victim.name],
        )
        for dataset in job.datasets
        for victim in job.victims
    ]
    return DrawnFigure(*draw_clouds(clouds))


def _records(job: FigureJob, progress: TaskProgress) -> pd.DataFrame:
    return pd.concat(
        [
            attack_and_score(
                dataset,
                dataset.select("test", label=1, limit=job.limit),
                victim,
                attacks=job.attacks,
                defenses=job.filters,
                out=job.out,
                records=job.out / "reproduce" / "records",
                progress=progress,
            )
            for dataset in job.datasets
            for victim in job.victims
        ],
        ignore_index=True,
    )


def _subjects(
    job: FigureJob, dataset: Dataset, victim: Victim, progress: TaskProgress
) -> Iterator[Subject]:
    """Attack the images, then read them as they are stored."""
    rows = dataset.select("test", label=1, limit=job.limit)
    wanted = generate.GenerationJob(dataset, rows, victim, job.attacks, job.out)
    generate.generate(wanted, progress)
    names = [row.sample_id for row in rows]
    variants = [a.variant_name(i) for a in job.attacks for i in a.intensities]
    for number, subject in enumerate(
        each_subject(job.out, dataset.id, victim, names, attacks=variants)
    ):
        progress(f"{job.figure}: {victim.name} on {dataset.id}", number, len(names))
        yield subject
