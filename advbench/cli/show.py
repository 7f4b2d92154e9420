"""``advbench show``: the picture of given images under attacks, behind defenses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.cli.options import (
    UserPath,
    device_option,
    named,
    out_option,
    plugin_option,
    seed_option,
    several,
    several_numbers,
    size_option,
    weights_option,
)
from advbench.errors import AdvbenchError, NoNetworkError
from advbench.files import user_path
from advbench.registry import ATTACKS, DEFENSES

if TYPE_CHECKING:
    from advbench.pipelines.cells import Cell
    from advbench.report.picture import Subject
    from advbench.victims.base import Victim


@click.command()
@click.argument("images", nargs=-1)
@click.option("--to", type=UserPath(), help="PNG or PDF [OUT/show.png].")
@several("--mask", metavar="PATH", help="Masks of image files, in their order.")
@named("--dataset", default="builtin", show_default=True, help="Of images given by name.")
@named("--victim", default="ifosn", show_default=True, help="Whose maps are drawn.")
@several("--attack", help="Attacks, or variants such as pgd-3 [all stored ones; pgd for files].")
@several_numbers("--eps", help="Intensities φ in 1/255, for files [3].")
@several_numbers("--steps", help="Intensities of cw, for files [50].")
@click.option("--profile", default="default", help="Of the attacks on files.")
@several("--defense", default=["ansm"], show_default=True, help="Such as jpeg-70,ansm.")
@several("--ansm-weights", metavar="PATH", help="Networks of train ansm [the shipped ones].")
@weights_option
@size_option
@seed_option
@device_option
@out_option
@plugin_option
def show(
    images: Sequence[str],
    to: Path | None,
    mask: Sequence[str],
    dataset: str,
    *,
    victim: str,
    attack: Sequence[str],
    eps: Sequence[float],
    steps: Sequence[float],
    profile: str,
    defense: Sequence[str],
    ansm_weights: Sequence[str],
    weights: str | None,
    size: str | None,
    seed: int,
    device: str,
    out: Path,
) -> None:
    """Draw IMAGES: image, mask, noise, and the victim's maps before and behind defenses, with F1.

    IMAGES are names of attacked images below --out (the first one without any), each drawn under
    every attack at its highest intensity; or image files, which are attacked here.

    \b
    advbench show test_0000_splice --defense jpeg-70,ansm
    advbench show photo.png --mask photo_gt.png --attack pgd,fgsm --eps 3 --to photo.pdf
    """
    files = [user_path(name) for name in images if user_path(name).is_file()]
    if files and len(files) < len(images):
        raise AdvbenchError("give either image files or names of attacked images, not both")
    if mask and len(mask) != len(files):
        raise AdvbenchError(f"--mask: {len(mask)} for {len(files)} image files; give one for each")
    if not files and (eps or steps):
        raise AdvbenchError("--eps and --steps are for image files; name a stored variant: pgd-3")

    from advbench.inference.devices import torch_device
    from advbench.pipelines.config import VictimChoice
    from advbench.report.picture import FORMATS, picture, save, stored_subjects
    from advbench.scores.protocols import protocol

    path = to or out / "show.png"
    if path.suffix.lower().removeprefix(".") not in FORMATS:
        raise AdvbenchError(f"--to {path}: pictures end in .{' or .'.join(FORMATS)}")
    choice = VictimChoice.parse("show", {"size": size, "weights": weights or "builtin"})
    model = choice.load(victim, torch_device(device))
    cells = read_cells(defense, model, ansm_weights, asked=_given("defense"))
    if files:
        truths = [user_path(own) if own else None for own in mask] or [None] * len(files)
        subjects = [
            _attacked(file, own, model, attack, eps=eps, steps=steps, profile=profile, seed=seed)
            for file, own in zip(files, truths, strict=True)
        ]
    else:
        subjects = stored_subjects(out, dataset, model, images, attacks=attack)
    save(picture(subjects, model, cells, protocol("f1/v1"), seed=seed), path)
    click.echo(f"picture: {path}")


def _given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


def _attacked(
    file: Path,
    mask: Path | None,
    model: Victim,
    attack: Sequence[str],
    *,
    eps: Sequence[float],
    steps: Sequence[float],
    profile: str,
    seed: int,
) -> Subject:
    from advbench.datasets.decoding import decode_image, decode_mask
    from advbench.pipelines.config import AttackGrid, spread
    from advbench.report.picture import made_subject

    names = list(attack or ["pgd"])
    fields = {ATTACKS.get(name).intensity_field for name in names}
    eps = eps or ((3,) if "eps" in fields else ())
    steps = steps or ((50,) if "steps" in fields else ())
    image = decode_image(file).pixels
    truth = decode_mask(mask) if mask else None
    if truth is not None and truth.shape != image.shape[:2]:
        raise AdvbenchError(f"{mask}: is {truth.shape}, {file} is {image.shape[:2]}")
    settings = spread(ATTACKS, names, {"eps": eps, "steps": steps})
    attacks = AttackGrid(attacks=settings, profile=profile).build_attacks()
    return made_subject(model, attacks, image, truth, sample_id=file.name, seed=seed)


def read_cells(
    names: Sequence[str], model: Victim, ansm_weights: Sequence[str], asked: bool
) -> list[Cell]:
    """Read defenses such as ``jpeg-70``; one left to the default is left out where it cannot be."""
    from advbench.pipelines.cells import Cell
    from advbench.pipelines.provenance import victim_identity

    cells = []
    for text in names:
        name, _, strength = text.rpartition("-")
        if name not in DEFENSES.names() or text in DEFENSES.names():
            name, strength = text, ""
        kind = DEFENSES.get(name)
        settings: dict[str, object] = {}
        if strength and not kind.strength_field:
            raise AdvbenchError(f"--defense {text}: {name} takes no strength")
        if strength:
            try:
                settings = {kind.strength_field: float(strength)}
            except ValueError:
                raise AdvbenchError(f"--defense {text}: {strength!r} is not a number") from None
        if ansm_weights and "weights" in kind.model_fields:
            settings["weights"] = tuple(ansm_weights)
        try:
            fitted = kind.create(**settings).for_victim(victim_identity(model))
        except NoNetworkError as error:
            if asked:
                raise
            click.echo(f"left out: {error}", err=True)
        else:
            cells.append(Cell(fitted, fitted.strengths[0]))
    return cells
