"""``advbench train``: victims, and what stands before one: ANSM, and the control of defenses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from advbench.cli.groups import Group
from advbench.cli.options import (
    UserPath,
    device_option,
    limit_option,
    named,
    out_option,
    parse_settings,
    plugin_option,
    several,
    weights_option,
)
from advbench.cli.progress import Progress

if TYPE_CHECKING:
    from advbench.engines.processes import Processes
    from advbench.pipelines.config import TrainingConfig

C = TypeVar("C", bound="TrainingConfig")
F = TypeVar("F", bound=Callable[..., Any])


def training_options(folder: str) -> Callable[[F], F]:
    """Add the options that every training has; the command gets them as ``shared``.

    Args:
        folder: what the folder of the run is called without ``--to``.
    """
    options = (
        named("--dataset", default="builtin", show_default=True, help="Name or folder."),
        click.option(
            "--to", type=UserPath(file_okay=False), help=f"Folder of the run [runs/{folder}]."
        ),
        click.option(
            "--fresh",
            type=click.IntRange(min=1),
            help="Train on so many forgeries made anew for each epoch, not on the training split.",
        ),
        click.option(
            "--photographs",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="Make them from the Debian packages of 'open' as well; see dataset build --help.",
        ),
        click.option(
            "--set", "recipe", multiple=True, metavar="KEY=VALUE", help="A field of the recipe."
        ),
        several("--log", help="Tell each epoch to tensorboard or wandb, where they are installed."),
        device_option,
        out_option,
        plugin_option,
    )

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group(cls=Group)
def train() -> None:
    """Train networks."""


@train.command()
@click.argument("name")
@click.option("--size", type=click.Choice(["small", "full"]), default="small", show_default=True)
@click.option("--start", metavar="PATH", help="Weights to start from: a checkpoint, or 'builtin'.")
@training_options("NAME-SIZE-DATASET")
def victim(name: str, size: Any, start: str | None, **shared: Any) -> None:
    """Train victim NAME on a dataset's training split; the best validation F1 is kept.

    Run the same command again to resume after the last finished epoch.

    \b
    advbench train victim ifosn
    advbench train victim ifosn --dataset mine --start builtin --set epochs=20
    advbench train victim ifosn --fresh 600 --set augment=true
    """
    from advbench.pipelines.config import TrainVictimConfig
    from advbench.pipelines.train_verbs import train_victim

    own = {"victim": name, "size": size, "start": start}
    config = TrainVictimConfig.parse("train victim", own | _parsed(shared))
    _run(train_victim, config, "--weights")


@train.command()
@named("--victim", "name", required=True, help="The victim that it is to protect.")
@click.option("--size", type=click.Choice(["small", "full"]), help="Of ANSM [the victim's].")
@click.option(
    "--victim-size", type=click.Choice(["small", "full"]), help="[small for built-in weights]"
)
@weights_option
@click.option(
    "--start",
    metavar="PATH",
    help="ANSM weights to start from: a file, or the victim whose shipped ones they are.",
)
@limit_option
@training_options("ansm-NAME-SIZE-DATASET")
def ansm(
    name: str,
    size: Any,
    victim_size: Any,
    weights: str | None,
    *,
    start: str | None,
    limit: int | None,
    **shared: Any,
) -> None:
    """Train ANSM for one victim, on FGSM images of a dataset's training split.

    Shards of FGSM that generate wrote for the training split are used; what is missing is made on
    the fly. Run the same command again to resume after the last finished epoch. On several GPUs:
    torchrun --nproc-per-node 4 -m advbench train ansm --victim NAME.

    \b
    advbench train ansm --victim ifosn
    advbench train ansm --victim hdfnet --start mvssnet --set upsampling=subpixel
    advbench train ansm --victim code --set depth=shallow --set epochs_mgr=0
    advbench train ansm --victim code --fresh 600 --set noise=varied
    """
    from advbench.pipelines.config import TrainAnsmConfig
    from advbench.pipelines.train_verbs import train_ansm_for

    choice = {"size": victim_size, "weights": weights or "builtin"}
    own = {"victim": name, "choice": choice, "size": size, "start": start, "limit": limit}
    config = TrainAnsmConfig.parse("train ansm", own | _parsed(shared))
    defense = "ansm-multi" if config.recipe.get("noise") == "several" else "ansm"
    _run(train_ansm_for, config, f"evaluate --defense {defense} --ansm-weights")


@train.command()
@named("--victim", "name", required=True, help="The victim that is told what to say.")
@click.option(
    "--victim-size", type=click.Choice(["small", "full"]), help="[small for built-in weights]"
)
@weights_option
@named("--localizer", help="The victim whose map is drawn [mvssnet; ifosn before mvssnet].")
@training_options("relocalise-NAME-SIZE-DATASET")
def relocalise(
    name: str, victim_size: Any, weights: str | None, localizer: str | None, **shared: Any
) -> None:
    """Train a control for one victim: no defense, but another localizer's map drawn for it.

    Run the same command again to resume after the last finished epoch.

    \b
    advbench train relocalise --victim ifosn
    advbench train relocalise --victim mvssnet --localizer hdfnet --set tile=16
    """
    from advbench.pipelines.config import TrainRelocaliseConfig
    from advbench.pipelines.train_verbs import train_relocalise_for

    choice = {"size": victim_size, "weights": weights or "builtin"}
    own = {"victim": name, "choice": choice, "localizer": localizer}
    config = TrainRelocaliseConfig.parse("train relocalise", own | _parsed(shared))
    _run(train_relocalise_for, config, "evaluate --defense relocalise --relocalise-weights")


def _parsed(shared: dict[str, Any]) -> dict[str, Any]:
    return shared | {"recipe": parse_settings(shared["recipe"])}


def _run(training: Callable[[C, Progress, Processes], Path], config: C, use: str) -> None:
    """Train, with progress, and say by which option the weights are used."""
    from advbench.engines.processes import Processes

    processes = Processes(config.device)
    with Progress(quiet=processes.rank > 0, seconds=30) as progress:
        path = training(config, progress, processes)
    if processes.rank == 0:
        click.echo(f"weights: {path}; use them with {use} {path}")
