"""``advbench predict``: maps of images, without masks or attacks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from advbench.cli.options import (
    device_option,
    json_option,
    plugin_option,
    seed_option,
    several,
    size_option,
    weights_option,
)
from advbench.cli.progress import Progress
from advbench.errors import AdvbenchError


@click.command()
@click.argument("images", nargs=-1, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--victim", default="ifosn", show_default=True, help="The localizer.")
@click.option("--defense", default="none", show_default=True, help="Before it, such as jpeg-70.")
@several("--ansm-weights", metavar="PATH", help="Networks of train ansm [the shipped ones].")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("predictions"),
    show_default=True,
    help="Folder of the files that are written.",
)
@weights_option
@size_option
@seed_option
@device_option
@plugin_option
@json_option
def predict(
    images: Sequence[Path],
    victim: str,
    defense: str,
    ansm_weights: Sequence[str],
    *,
    to: Path,
    weights: str | None,
    size: str | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Write the probability map, an overlay and the mask of each image.

    \b
    advbench predict photo.jpg
    advbench predict *.png --victim mvssnet --weights mvssnet.pt --to maps
    advbench predict photo.png --defense jpeg-70
    """
    if not images:
        raise AdvbenchError("predict: give the path of an image")
    from advbench.cli.show import read_cells
    from advbench.inference.devices import torch_device
    from advbench.pipelines.config import VictimChoice
    from advbench.pipelines.predict import predict_files

    choice = VictimChoice.parse("predict", {"size": size, "weights": weights or "builtin"})
    model = choice.load(victim, torch_device(device))
    (cell,) = read_cells([defense], model, ansm_weights, asked=True)
    found = []
    with Progress(quiet=as_json) as progress:
        for prediction in predict_files(images, model, cell, to, seed=seed):
            found.append(prediction)
            progress.update(
                f"{model.name} ({model.weights.label})", len(found), len(images), "images"
            )
            if not as_json:
                progress.note(
                    f"{prediction.image}: {prediction.marked:.1%} marked, highest probability "
                    f"{prediction.highest:.3f}, {prediction.seconds:.1f} s"
                )
    if as_json:
        click.echo(json.dumps([asdict(prediction) for prediction in found], indent=2))
    else:
        click.echo(f"maps, overlays and masks in {to}")
