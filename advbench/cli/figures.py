"""``advbench reproduce fig3`` and so on: the paper's figures on the data that is here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.cli.grid import Column, terminal
from advbench.cli.grid import show as show_table
from advbench.cli.options import (
    by_victim,
    reproduction_options,
    several,
    several_numbers,
)
from advbench.cli.progress import Progress
from advbench.cli.show import read_cells
from advbench.errors import AdvbenchError
from advbench.registry import ATTACKS, DEFENSES, VICTIMS

if TYPE_CHECKING:
    import pandas as pd

    from advbench.attacks.base import Attack
    from advbench.defenses.base import Defense
    from advbench.pipelines.cells import Cell

FIGURES = {
    "fig3": "F1 and PSNR against the intensity of attacks.",
    "fig4": "F1 behind filters against their strength.",
    "fig5": "Originals and adversarial images as points.",
    "fig7": "Masks under attack, before and behind defenses.",
    "fig8": "The points of fig5, before and behind defenses.",
}
SIX = ("fgsm", "cw", "bim", "pgd", "mifgsm", "pgn")
# What each shows by itself: its attacks, and whether at all intensities or at the highest.
ATTACKS_OF = {
    "fig3": (("fgsm", "cw"), True),
    "fig4": (("fgsm", "cw"), True),
    "fig5": (("fgsm",), False),
    "fig7": (SIX, False),
    "fig8": (("fgsm",), False),
}
FILTERS: dict[str, dict[str, tuple[float, ...]]] = {
    "jpeg": {"quality": (90, 80, 70, 60, 50)},
    "resize": {"scale": (0.9, 0.8, 0.7, 0.6, 0.5)},
    "gaussian": {"sigma": (2, 4, 6, 8, 10)},
    "median": {"kernel": (3, 5, 7, 9)},
}
IMAGES = 4  # of fig7


@click.command()
@several("--victim", help="Victims, or all [all].")
@several("--dataset", help="Names or folders [all that are here].")
@several("--weights", metavar="VICTIM=PATH", help="Checkpoints of victims [the built-in ones].")
@several("--attack", help="Attacks [fgsm,cw; the six for fig7; fgsm for fig5 and fig8].")
@several_numbers("--eps", help="Intensities φ in 1/255 [all; the highest for fig5, fig7, fig8].")
@several_numbers("--steps", help="Intensities of cw [all; the highest for fig5, fig7, fig8].")
@several("--defense", help="Of fig4, fig7, fig8 [fig4: the filters; else ansm]; such as jpeg-70.")
@several("--ansm-weights", metavar="PATH", help="Networks of train ansm [the shipped ones].")
@reproduction_options
def figure(
    victim: Sequence[str],
    dataset: Sequence[str],
    *,
    weights: Sequence[str],
    attack: Sequence[str],
    eps: Sequence[float],
    steps: Sequence[float],
    defense: Sequence[str],
    ansm_weights: Sequence[str],
    profile: str,
    limit: int | None,
    size: Any,
    device: str,
    out: Path,
    as_json: bool,
) -> None:
    """Draw a figure of the ANSM paper on test images, as PNG and PDF, with its numbers as CSV.

    fig3: F1 and PSNR against the intensity of attacks. fig4: F1 behind filters. fig5: originals and
    adversarial images as points, by pixels and by features (UMAP, needs advbench[umap]), with the
    energy distance between them. fig7: masks, of four images where --limit is not given. fig8: the
    points of fig5 and those behind defenses. Run the same command again to resume.

    \b
    advbench reproduce fig3 --victim ifosn --limit 20
    advbench reproduce fig8 --victim ifosn --defense ansm,jpeg-70 --limit 40
    """
    name = str(click.get_current_context().info_name)
    if name in ("fig3", "fig5") and (defense or ansm_weights):
        raise AdvbenchError(f"{name} has no defenses; --defense is for fig4, fig7 and fig8")
    if name == "fig4" and any(one not in FILTERS for one in defense):
        raise AdvbenchError(f"fig4 is of filters: --defense takes {', '.join(FILTERS)}")
    if name == "fig4" and ansm_weights:
        raise AdvbenchError("fig4 is of filters; --ansm-weights is for fig7 and fig8")
    from advbench.files import write_atomically
    from advbench.inference.devices import torch_device
    from advbench.pipelines.config import VictimChoice, expand
    from advbench.pipelines.load import datasets_here, load_dataset
    from advbench.report.figures.make import FigureJob, make
    from advbench.report.picture import FORMATS, save
    from advbench.scores.tables import as_csv

    chosen = expand(VICTIMS, victim or ("all",))
    checkpoints = by_victim(weights, chosen)
    attacks = _attacks(name, attack, profile, {"eps": eps, "steps": steps})
    where = torch_device(device)
    with Progress() as progress:
        datasets = [load_dataset(one, out, "test", progress) for one in dataset]
        if not dataset:
            here = [load_dataset(one, out, "test", progress) for one in datasets_here(out)]
            datasets = [one for one in here if one.select("test", label=1)]
        victims = [
            VictimChoice(size=size, weights=checkpoints.get(one) or "builtin").load(one, where)
            for one in chosen
        ]
        filters: list[Defense] = []
        cells: dict[str, list[Cell]] = {}
        if name == "fig4":
            filters = [DEFENSES.get(one).create(**FILTERS[one]) for one in defense or FILTERS]
        elif name in ("fig7", "fig8"):
            wanted = defense or ("ansm",)
            cells = {
                one.name: read_cells(wanted, one, ansm_weights, asked=bool(defense))
                for one in victims
            }
        job = FigureJob(
            name,
            out,
            datasets,
            victims,
            attacks,
            filters=filters,
            cells=cells,
            limit=limit or (IMAGES if name == "fig7" else None),
        )
        made = make(job, progress.measured_in("steps"))
    path = out / "reproduce" / "-".join([name, *victim])
    for kind in FORMATS:
        save(made.figure, path.with_name(f"{path.name}.{kind}"))
    write_atomically(path.with_name(f"{path.name}.csv"), as_csv(made.numbers))
    if made.points is not None:
        write_atomically(path.with_name(f"{path.name}-points.csv"), as_csv(made.points))
    if as_json:
        click.echo(json.dumps(json.loads(made.numbers.to_json(orient="records")), indent=2))
        return
    if made.points is not None:
        _show_distances(name, made.numbers)
    click.echo(f"figure: {path}.png, .pdf; numbers: {path}.csv")


def _attacks(
    figure: str, names: Sequence[str], profile: str, given: dict[str, Sequence[float]]
) -> list[Attack]:
    """The figure's attacks at their intensities, or those that were asked for."""
    own, every = ATTACKS_OF[figure]
    made = []
    for name in names or own:
        kind = ATTACKS.get(name)
        intensities = tuple(given.get(kind.intensity_field) or ())
        settings = {kind.intensity_field: intensities} if intensities else {}
        attack = kind.create(profile, **settings)
        highest = not every and not intensities
        made.append(attack.only([max(attack.intensities)]) if highest else attack)
    return made


def _show_distances(figure: str, numbers: pd.DataFrame) -> None:
    """Print how far clouds lie apart, a table each dataset and victim."""
    console = terminal()
    for (dataset, victim, weights), rows in numbers.groupby(
        ["dataset", "victim", "weights"], sort=False
    ):
        fixed = [Column(name, rows[name].tolist()) for name in ("defense", "variant", "space")]
        digits = {"energy": "{:.3f}", "p": "{:.3f}", "shift": "{:.2f}"}
        show_table(
            console,
            f"{figure}: {victim} ({weights}) on {dataset}",
            fixed,
            [
                Column("beside", rows.beside.tolist()),
                *(
                    Column(name, rows[name].map(how.format).tolist())
                    for name, how in digits.items()
                ),
            ],
            caption=f"{rows.n.iloc[0]} pairs; energy: 0 where both clouds are the same, at most 1; "
            "p: share of swaps of pairs that reach it; shift: distance within a pair over that "
            "between originals",
        )
