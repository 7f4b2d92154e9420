"""``advbench train``: victims, and ANSM for a victim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.cli.options import (
    device_option,
    limit_option,
    out_option,
    parse_settings,
    plugin_option,
    torch_device,
    weights_option,
    weights_source,
)
from advbench.cli.progress import Progress
from advbench.registry import VICTIMS

if TYPE_CHECKING:
    from advbench.training.task import Epoch


@click.group()
def train() -> None:
    """Train networks."""


@train.command()
@click.argument("name")
@click.option("--size", type=click.Choice(["small", "full"]), default="small", show_default=True)
@click.option("--dataset", default="builtin", show_default=True, help="Name or folder.")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run [runs/NAME-SIZE-DATASET].",
)
@click.option("--start", metavar="PATH", help="Weights to start from: a checkpoint, or 'builtin'.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A field of the recipe.")
@device_option
@out_option
@plugin_option
def victim(
    name: str,
    size: Any,
    dataset: str,
    to: Path | None,
    start: str | None,
    pairs: tuple[str, ...],
    device: str,
    out: Path,
) -> None:
    """Train victim NAME on a dataset's training split; the best validation F1 is kept.

    Run the same command again to resume after the last finished epoch.

    \b
    advbench train victim ifosn
    advbench train victim ifosn --dataset mine --start builtin --set epochs=20
    """
    from advbench.engines.processes import Processes
    from advbench.pipelines.load import load_dataset
    from advbench.pipelines.recipes import recipe_of
    from advbench.pipelines.train import train_victim
    from advbench.training.recipe import Recipe

    cls = VICTIMS.get(name)
    recipe = recipe_of(Recipe, cls.recipes.get(size, {}) | parse_settings(pairs))
    processes = Processes(device)
    where = processes.device or torch_device(device)
    first = cls.load(size=size, weights=start, device=where) if start else None
    with Progress(quiet=processes.rank > 0, seconds=30) as progress:
        data = load_dataset(
            dataset, out, "train", progress.note, progress.counting("building", "images")
        )
        folder = to or Path("runs") / f"{name}-{size}-{data.id}"

        def report(epoch: Epoch) -> None:
            progress.note(
                f"epoch {epoch.epoch + 1}/{recipe.epochs}: loss {epoch.loss:.4f}, "
                f"validation F1 {epoch.scores['val_f1']:.4f}, {epoch.seconds:.0f} s"
            )

        path = train_victim(
            cls,
            size,
            data,
            recipe,
            folder,
            device=where,
            report=report,
            steps=progress.counting("training", "steps"),
            processes=processes,
            start=first,
        )
    if processes.rank == 0:
        click.echo(f"weights: {path}; use them with --weights {path}")


@train.command()
@click.option("--victim", "name", required=True, help="The victim that it is to protect.")
@click.option("--size", type=click.Choice(["small", "full"]), help="Of ANSM [the victim's].")
@click.option(
    "--victim-size", type=click.Choice(["small", "full"]), help="[small for built-in weights]"
)
@weights_option
@click.option("--dataset", default="builtin", show_default=True, help="Name or folder.")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run [runs/ansm-NAME-SIZE-DATASET].",
)
@click.option(
    "--start",
    metavar="PATH",
    help="ANSM weights to start from: a file, or the victim whose shipped ones they are.",
)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A field of the recipe.")
@limit_option
@device_option
@out_option
@plugin_option
def ansm(
    name: str,
    size: Any,
    victim_size: Any,
    weights: str | None,
    dataset: str,
    to: Path | None,
    start: str | None,
    pairs: tuple[str, ...],
    limit: int | None,
    device: str,
    out: Path,
) -> None:
    """Train ANSM for one victim, on FGSM images of a dataset's training split.

    Shards of FGSM that generate wrote for the training split are used; what is missing is made on
    the fly. Run the same command again to resume after the last finished epoch. On several GPUs:
    torchrun --nproc-per-node 4 -m advbench train ansm --victim NAME.

    \b
    advbench train ansm --victim ifosn
    advbench train ansm --victim hdfnet --start mvssnet
    advbench train ansm --victim code --set depth=shallow --set epochs_mgr=0
    """
    from advbench.defenses.ansm.recipe import AnsmRecipe, preset
    from advbench.defenses.ansm.training import Start
    from advbench.engines.processes import Processes
    from advbench.pipelines.load import load_dataset
    from advbench.pipelines.recipes import recipe_of
    from advbench.pipelines.train_ansm import train_ansm

    cls = VICTIMS.get(name)
    processes = Processes(device)
    where = processes.device or torch_device(device)
    with Progress(quiet=processes.rank > 0, seconds=30) as progress:
        frozen = cls.load(size=victim_size, weights=weights_source(weights), device=where)
        recipe = recipe_of(AnsmRecipe, preset(name, frozen.size) | parse_settings(pairs))
        chosen_size = size or frozen.size
        first = Start.read(start, chosen_size, recipe.upsampling) if start else None
        data = load_dataset(
            dataset, out, "train", progress.note, progress.counting("building", "images")
        )
        folder = to or Path("runs") / f"ansm-{name}-{chosen_size}-{data.id}"
        epochs = recipe.epochs_first + recipe.epochs_mgr

        def report(epoch: Epoch) -> None:
            progress.note(
                f"epoch {epoch.epoch + 1}/{epochs} ({epoch.stage}): loss {epoch.loss:.4g}, "
                f"validation RP {epoch.scores['val_rp_original']:.1f} on originals, "
                f"{epoch.scores['val_rp_fgsm']:.1f} on FGSM, {epoch.seconds:.0f} s"
            )

        path = train_ansm(
            frozen,
            chosen_size,
            data,
            recipe,
            folder,
            out / "shards",
            limit=limit,
            progress=progress.counting("FGSM pairs", "images"),
            report=report,
            steps=progress.counting("training", "steps"),
            processes=processes,
            start=first,
        )
    if processes.rank == 0:
        click.echo(f"weights: {path}; use them with evaluate --defense ansm --ansm-weights {path}")
