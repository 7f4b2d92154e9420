"""``advbench train``: victims (and, later, ANSM)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.cli.later import ansm
from advbench.cli.options import device_option, out_option, parse_settings, torch_device
from advbench.cli.progress import Progress
from advbench.errors import AdvbenchError, plain_message
from advbench.registry import VICTIMS

if TYPE_CHECKING:
    from advbench.victims.training.loop import Epoch


@click.group()
def train() -> None:
    """Train networks."""


train.add_command(ansm)


@train.command()
@click.argument("name")
@click.option("--size", type=click.Choice(["small", "full"]), default="small", show_default=True)
@click.option("--dataset", default="builtin", show_default=True, help="Name or folder.")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run [runs/NAME-SIZE-DATASET].",
)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A field of the recipe.")
@device_option
@out_option
def victim(
    name: str,
    size: Any,
    dataset: str,
    to: Path | None,
    pairs: tuple[str, ...],
    device: str,
    out: Path,
) -> None:
    """Train victim NAME on a dataset's training split; the best validation F1 is kept.

    Run the same command again to resume after the last finished epoch.

    \b
    advbench train victim ifosn
    advbench train victim ifosn --dataset mine --set epochs=20
    """
    from pydantic import ValidationError

    from advbench.pipelines.load import load_dataset
    from advbench.pipelines.train import train_victim
    from advbench.victims.training.recipe import Recipe

    cls = VICTIMS.get(name)
    try:
        recipe = Recipe(**(cls.recipes.get(size, {}) | parse_settings(pairs)))
    except ValidationError as error:
        fault = error.errors()[0]
        raise AdvbenchError(
            f"recipe: {fault['loc'][0]}: {plain_message(fault)}; it has "
            f"{', '.join(Recipe.model_fields)}"
        ) from error
    where = torch_device(device)
    with Progress() as progress:
        data = load_dataset(
            dataset, out, "train", progress.note, progress.counting("building", "images")
        )
        folder = to or Path("runs") / f"{name}-{size}-{data.id}"

        def report(epoch: Epoch) -> None:
            progress.note(
                f"epoch {epoch.epoch + 1}/{recipe.epochs}: loss {epoch.loss:.4f}, "
                f"validation F1 {epoch.val_f1:.4f}, {epoch.seconds:.0f} s"
            )
            progress.update("training", epoch.epoch + 1, recipe.epochs, "epochs")

        path = train_victim(cls, size, data, recipe, folder, where, report)
    click.echo(f"weights: {path}; use them with --weights {path}")
