"""``advbench quickstart``: generate and evaluate in one go."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.cli.options import UserPath, device_option, json_option
from advbench.cli.progress import Progress
from advbench.cli.tables import write_tables
from advbench.registry import ATTACKS, DEFENSES, VICTIMS

if TYPE_CHECKING:
    from advbench.victims.base import Victim

STRENGTHS = {"jpeg": 70, "resize": 0.7, "median": 3, "gaussian": 5.0}


@click.command()
@click.option("--images", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--out",
    type=UserPath(file_okay=False),
    default=Path("advbench-data/quickstart"),
    show_default=True,
)
@device_option
@json_option
def quickstart(images: int, out: Path, device: str, as_json: bool) -> None:
    """Attack a trained localizer with six attacks on built-in images, try four filters and ANSM,
    and end in a table and one picture. No download, no GPU; a few minutes on two cores.

    The attacks run in the profile 'quick' (fewer iterations, PGN with 5 neighbours).
    """
    started = time.perf_counter()
    from advbench.inference.devices import torch_device
    from advbench.pipelines import evaluate, generate
    from advbench.pipelines.cells import cells_before
    from advbench.pipelines.load import load_dataset
    from advbench.pipelines.provenance import victim_identity
    from advbench.report.picture import picture, save, stored_subjects
    from advbench.scores.protocols import protocol

    where = torch_device(device)
    attacks = [ATTACKS.get(name).create("quick") for name in ATTACKS.standard()]
    defenses = [
        DEFENSES.get(name).create(**{DEFENSES.get(name).strength_field: strength})
        for name, strength in STRENGTHS.items()
    ]
    defenses.append(DEFENSES.get("ansm").create())
    victim: Victim = VICTIMS.get("ifosn").load(device=where)
    with Progress() as progress:
        data = load_dataset("builtin", out, "test", progress)
        rows = data.select("test", label=1, limit=images)
        count = sum(len(attack.intensities) for attack in attacks)
        progress.note(f"attacking {len(rows)} images in {count} ways")
        made = generate.generate(
            generate.GenerationJob(data, rows, victim, attacks, out), progress.measured_in("passes")
        )
        for warning in made.warnings(victim.name):
            progress.note(warning)
    with Progress() as progress:
        job = evaluate.EvaluationJob(out, defenses, protocol("f1/v1"))
        evaluate.evaluate(job, lambda identity: victim, progress.measured_in("images × defenses"))
    tables = write_tables(out)
    drawn = out / "quickstart.png"
    cells = cells_before(defenses, victim_identity(victim))
    subjects = stored_subjects(out, data.id, victim, [rows[0].sample_id])
    save(picture(subjects, victim, cells, protocol("f1/v1")), drawn)
    seconds = time.perf_counter() - started
    if as_json:
        figures = {"generate": asdict(made), "picture": str(drawn), "seconds": seconds}
        click.echo(json.dumps(figures | tables.as_json(), indent=2))
        return
    tables.show()
    click.echo(f"picture: {drawn}")
    click.echo(f"tables: {out / 'tables'}; {seconds:.0f} s in all")
