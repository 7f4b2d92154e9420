"""The paper's Figures 3 and 4: the charts of a report as a picture, with their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from advbench.escaping import visible
from advbench.report.charts import Chart
from advbench.report.curves import Group, against_strength, undefended
from advbench.report.measures import cells, with_clean

COLUMNS = 4  # charts side by side
MARKERS = "os^Dv<>P"
_NUMBERS = ["dataset", "victim", "weights", "attack", "intensity"]


def fig3(records: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """F1 and PSNR against φ and m, a line a victim; and the numbers, with 95 % intervals over
    photographs."""
    measured = cells(with_clean(records))
    attacked = measured[(measured.attack != "original") & (measured.defense == "none")]
    numbers = attacked[[*_NUMBERS, "f1", "f1_low", "f1_high", "psnr", "n", "photographs"]]
    return draw(undefended(measured)), numbers.sort_values(_NUMBERS, ignore_index=True)


def fig4(records: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """F1 behind filters against their strength, a line an attack, the mean over its intensities;
    and the numbers of each intensity."""
    measured = cells(with_clean(records))
    keys = [*_NUMBERS, "defense", "strength"]
    numbers = measured[[*keys, "f1", "f1_low", "f1_high", "n", "photographs"]]
    return draw(against_strength(measured)), numbers.sort_values(keys, ignore_index=True)


def draw(groups: Sequence[Group]) -> Figure:
    """Draw charts in rows of four, each group under its title and with one legend."""
    heights = [math.ceil(len(group.charts) / COLUMNS) for group in groups]
    figure = Figure(figsize=(3.0 * COLUMNS, 2.6 * sum(heights) + 0.6 * len(groups)))
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, group, height in zip(parts, groups, heights, strict=True):
        axes = part.subplots(height, COLUMNS, squeeze=False).flat
        named: dict[str, Line2D] = {}
        for axis, chart in zip(axes, group.charts, strict=False):
            named |= _chart(axis, chart)
        for axis in list(axes)[len(group.charts) :]:
            axis.set_axis_off()
        part.suptitle(visible(group.title), fontsize=10, parse_math=False)
        legend = part.legend(
            named.values(),
            [visible(name) for name in named],
            loc="outside lower center",
            ncols=COLUMNS + 2,
            fontsize=7,
            frameon=False,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _chart(axis: Axes, chart: Chart) -> dict[str, Line2D]:
    """Draw one chart; its lines by name."""
    named: dict[str, Line2D] = {}
    for line in chart.lines:
        xs, ys, lows, highs = zip(*sorted(line.points), strict=True)
        (drawn,) = axis.plot(
            xs,
            ys,
            color=f"C{line.style % 10}",
            marker=MARKERS[line.style % len(MARKERS)],
            markersize=3.5,
            linewidth=1.2,
            linestyle="--" if line.dashed else "-",
        )
        axis.fill_between(xs, lows, highs, color=drawn.get_color(), alpha=0.12, linewidth=0)
        named[line.name] = drawn
    for value in chart.guides.values():
        axis.axhline(value, color="0.4", linewidth=0.8, linestyle=":")
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, chart.y_range[0]), max(high, chart.y_range[1]))
    axis.set_title(visible(chart.heading), fontsize=9, parse_math=False)
    axis.set_xlabel(visible(chart.x_label), fontsize=8, parse_math=False)
    axis.set_ylabel(visible(chart.y_label), fontsize=8, parse_math=False)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25, linewidth=0.5)
    return named
