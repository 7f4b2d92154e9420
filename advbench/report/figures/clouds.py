"""The paper's Figures 5 and 8: originals and adversarial images as points, before and behind
defenses, with how far they lie apart."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from advbench.errors import AdvbenchError
from advbench.escaping import visible
from advbench.pipelines.cells import Cell
from advbench.pipelines.features import SPACES, Description, Points, describe, points
from advbench.report.picture import Subject
from advbench.scores.separation import separation
from advbench.victims.base import Victim

FEWEST = 4  # images, for an embedding in three dimensions
NEIGHBOURS = 15
ORIGINAL = ("none", "original")
_BLUE, _RED = ("C0", "o"), ("C3", "^")

Key = tuple[str, str]  # defense and variant
Places = npt.NDArray[np.float32]  # n×3


@dataclass(frozen=True)
class Clouds:
    """Hold the descriptions of the same images under attacks and behind defenses.

    Attributes:
        described: by defense, the undefended one (``none``) first, and variant, the ``original``
            first: a description an image.
    """

    dataset: str
    victim: str
    weights: str
    sample_ids: tuple[str, ...]
    described: Mapping[Key, list[Description]]


def check_umap(figure: str, images: int) -> None:
    """Complain where no embedding can be made.

    Raises:
        AdvbenchError: umap-learn is not installed, or there are too few images.
    """
    if importlib.util.find_spec("umap") is None:
        raise AdvbenchError(f"{figure} needs umap-learn: pip install 'advbench[umap]'")
    if images < FEWEST:
        raise AdvbenchError(f"{figure} needs at least {FEWEST} images, not {images}: raise --limit")


def clouds_of(
    dataset: str, victim: Victim, subjects: Iterable[Subject], cells: Sequence[Cell]
) -> Clouds:
    """Describe images, one at a time, under all their attacks and behind each cell."""
    described: dict[Key, list[Description]] = {}
    ids = []
    for subject in subjects:
        ids.append(subject.sample_id)
        for cell in cells:
            for variant, image in {"original": subject.original, **subject.attacked}.items():
                found = describe(victim, cell, image, subject.sample_id)
                described.setdefault((cell.name, variant), []).append(found)
    return Clouds(dataset, victim.name, victim.weights.label, tuple(ids), described)


def draw(every: Sequence[Clouds]) -> tuple[Figure, pd.DataFrame, pd.DataFrame]:
    """Embed each space by UMAP (McInnes, Healy and Melville, 2018), one embedding for all clouds of
    a victim, and draw the undefended originals beside each attack, a line a defense.

    Returns:
        the figure; how far each attack lies from the originals and, behind a defense, from the
        originals behind it, measured in the space itself; and the embedded points.
    """
    lines = [(c, key) for c in every for key in c.described if key[1] != "original"]
    figure = Figure(figsize=(2.9 * len(SPACES) + 0.6, 2.9 * len(lines) + 0.6))
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(lines), len(SPACES), squeeze=False, subplot_kw={"projection": "3d"})
    row_of = {(id(clouds), key): row for (clouds, key), row in zip(lines, axes, strict=True)}
    numbers: list[dict[str, object]] = []
    embedded = []
    for clouds in every:
        for column, space in enumerate(SPACES):
            found = points(_by_name(clouds), space, _name(ORIGINAL))
            placed = _embed(found)
            embedded.append(_frame(clouds, space, placed))
            for key in (key for key in clouds.described if key[1] != "original"):
                measured = [
                    {**_about(clouds), "space": space, "defense": key[0], "variant": key[1]}
                    | {"n": len(clouds.sample_ids), "beside": beside}
                    | vars(separation(found[_name(originals)], found[_name(key)]))
                    for beside, originals in _references(key[0])
                ]
                numbers += measured
                axis = row_of[id(clouds), key][column]
                title = "{space}\nenergy {energy:.3f}, p {p:.3f}, shift {shift:.2f}"
                axis.set_title(title.format(**measured[0]), fontsize=8)
                _panel(axis, placed, key)
                if column == 0:
                    _label(axis, clouds, key)
    marks = [Line2D([], [], color=c, marker=m, linestyle="") for c, m in (_BLUE, _RED)]
    named = ["originals", "adversarial images"]
    figure.legend(marks, named, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure, pd.DataFrame(numbers), pd.concat(embedded, ignore_index=True)


def _panel(axis: Any, placed: Mapping[str, Places], key: Key) -> None:
    """Draw the originals and one cloud, within the limits of all clouds of the space."""
    for own, (colour, marker) in ((ORIGINAL, _BLUE), (key, _RED)):
        places = placed[_name(own)].T
        axis.scatter(*places, c=colour, marker=marker, s=14, alpha=0.7, linewidth=0)
    every = np.concatenate(list(placed.values()))
    lows, highs = every.min(axis=0), every.max(axis=0)
    for limit, low, high in zip(
        (axis.set_xlim, axis.set_ylim, axis.set_zlim), lows, highs, strict=True
    ):
        limit(low, high)
    axis.tick_params(labelbottom=False, labelleft=False, labelright=False, length=0)


def _label(axis: Any, clouds: Clouds, key: Key) -> None:
    defense, variant = key
    behind = "undefended" if defense == "none" else f"behind {defense}"
    axis.text2D(
        -0.05,
        0.5,
        f"{clouds.victim} on {visible(clouds.dataset)}\n{variant}, {behind}",
        transform=axis.transAxes,
        rotation=90,
        size=8,
        ha="right",
        va="center",
        parse_math=False,
    )


def _about(clouds: Clouds) -> dict[str, str]:
    return {"dataset": clouds.dataset, "victim": clouds.victim, "weights": clouds.weights}


def _frame(clouds: Clouds, space: str, placed: Mapping[str, Places]) -> pd.DataFrame:
    """The embedded points of a space, one row an image and cloud."""
    return pd.concat(
        [
            pd.DataFrame(placed[_name(key)], columns=["x", "y", "z"]).assign(
                **_about(clouds),
                space=space,
                defense=key[0],
                variant=key[1],
                sample_id=clouds.sample_ids,
            )
            for key in clouds.described
        ]
    )


def _references(defense: str) -> list[tuple[str, Key]]:
    """The originals that a cloud behind a defense is compared with."""
    plain = [("originals", ORIGINAL)]
    behind = ("originals behind it", (defense, "original"))
    return plain if defense == "none" else [*plain, behind]


def _name(key: Key) -> str:
    return "|".join(key)


def _by_name(clouds: Clouds) -> dict[str, list[Description]]:
    return {_name(key): each for key, each in clouds.described.items()}


def _embed(found: Mapping[str, Points]) -> dict[str, Places]:
    """Place all clouds in three dimensions; the same points give the same places."""
    import umap

    every = np.concatenate(list(found.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages below it
        made = umap.UMAP(
            n_components=3,
            n_neighbors=min(NEIGHBOURS, len(every) - 1),
            init="pca",
            random_state=0,
            n_jobs=1,
        ).fit_transform(every)
    ends = np.cumsum([len(each) for each in found.values()])[:-1]
    return dict(zip(found, np.split(made, ends), strict=True))
