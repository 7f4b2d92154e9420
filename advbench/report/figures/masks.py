"""The paper's Figure 7: masks before and behind defenses, with the F1 of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from advbench.escaping import visible
from advbench.pipelines.cells import Cell
from advbench.report.panels import map_of
from advbench.report.picture import Subject
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim

_PANEL = 1.25  # inches


def fig7(
    subjects: Mapping[str, Sequence[tuple[Victim, Subject]]], cells: Mapping[str, Sequence[Cell]]
) -> tuple[Figure, pd.DataFrame]:
    """Draw of each image the truth and the image itself, then a line a defense: the mask of the
    original and those of its adversarial images; and give the F1 under each.

    Args:
        subjects: by dataset.
        cells: by name of the victim, the undefended one first.
    """
    scores = protocol("f1/v1")
    every = [(d, v, s) for d, each in subjects.items() for v, s in each]
    lines = [len(cells[victim.name]) for _, victim, _ in every]
    width = 2 + max(1 + len(subject.attacked) for _, _, subject in every)
    figure = Figure(figsize=(_PANEL * width + 0.8, (_PANEL + 0.3) * sum(lines) + 0.5))
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(sum(lines), width, squeeze=False)
    numbers = []
    first = 0
    for (dataset, victim, subject), height in zip(every, lines, strict=True):
        assert subject.truth is not None
        block = axes[first : first + height]
        first += height
        for axis in block.flat:
            axis.set_axis_off()
        _panel(block[0, 0], subject.truth, "M_gt" if first == height else "")
        _panel(block[0, 1], subject.original, "X_o" if first == height else "")
        _label(block[0, 0], f"{victim.name}\n{_short(subject.sample_id)}")
        images = {"original": subject.original, **subject.attacked}
        for row, cell in zip(block, cells[victim.name], strict=True):
            defended = cell.defense.name != "none"
            if defended:
                _label(row[2], f"behind\n{cell.name}")
            for axis, (variant, image) in zip(row[2:], images.items(), strict=False):
                probability = map_of(victim, cell, image, subject.sample_id)
                at_truth = scores.at_truth_size(probability, subject.truth)
                counts = scores.counts(at_truth, subject.truth, victim.threshold)
                f1 = scores.f1(counts)
                _panel(axis, at_truth > victim.threshold, "" if defended else variant)
                said = "F1 undefined" if math.isnan(f1) else f"F1 {f1:.2f}"
                axis.text(0.5, -0.03, said, transform=axis.transAxes, ha="center", va="top", size=7)
                numbers.append(
                    {
                        "dataset": dataset,
                        "victim": victim.name,
                        "weights": victim.weights.label,
                        "sample_id": subject.sample_id,
                        "variant": variant,
                        "defense": cell.name,
                        "f1": f1,
                    }
                )
    return figure, pd.DataFrame(numbers)


def _panel(axis: Axes, panel: npt.NDArray[np.generic], title: str) -> None:
    axis.imshow(panel, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title, fontsize=8, parse_math=False)
    axis.set_axis_on()  # a frame tells a white mask from the page
    axis.set_xticks([])
    axis.set_yticks([])


def _label(axis: Axes, text: str) -> None:
    axis.text(
        *(-0.06, 0.5, text), transform=axis.transAxes, rotation=90, ha="right", va="center",
        size=7, parse_math=False,
    )  # fmt: skip


def _short(sample_id: str) -> str:
    name = visible(sample_id.rpartition("/")[2] or sample_id)
    return name if len(name) <= 18 else f"{name[:17]}…"
