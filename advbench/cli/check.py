"""``advbench check``: gates of one victim, defense or attack that need the network."""

from __future__ import annotations

import json
from pathlib import Path

import click

from advbench.cli.options import device_option, json_option, out_option, plugin_option


@click.command()
@click.argument("kind", type=click.Choice(["victim", "defense", "attack"]))
@click.argument("name")
@click.option(
    "--victim", default="ifosn", show_default=True, help="Behind a defense, or under an attack."
)
@click.option("--limit", type=click.IntRange(min=1), default=2, show_default=True, help="Images.")
@device_option
@out_option
@plugin_option
@json_option
def check(
    kind: str, name: str, victim: str, limit: int, *, device: str, out: Path, as_json: bool
) -> int:
    """Check a victim, or a defense (as jpeg-90, or jpeg for all of its strengths) or an attack (at
    its own intensities) before a victim.

    Runs on validation images of the built-in data; ends with 1 where a gate fails. What the gates
    mean: docs/gates.md.

    \b
    advbench check victim ifosn
    advbench check defense jpeg-90 --victim hdfnet
    advbench check defense mine --plugin my_module:MyDefense
    advbench check attack mine --plugin my_module:MyAttack
    """
    import torch

    from advbench.cli.progress import Progress
    from advbench.images import fit_mask, to_tensor
    from advbench.inference.devices import torch_device
    from advbench.pipelines import checks
    from advbench.pipelines.attack_checks import check_attack
    from advbench.pipelines.cells import named_cells
    from advbench.pipelines.load import load_dataset
    from advbench.registry import ATTACKS, VICTIMS
    from advbench.scores.gates import Verdict, worst

    model = VICTIMS.get(name if kind == "victim" else victim).load(device=torch_device(device))
    with Progress() as progress:
        data = load_dataset("builtin", out, "val", progress)
    samples = []
    for row in data.select("val", label=1, limit=limit):
        image = model.fit(data.image(row))
        mask = torch.from_numpy(fit_mask(data.mask(row), image).copy())[None]
        samples.append(checks.Sample(row.sample_id, to_tensor(image), mask))
    if kind == "attack":
        found = {name: check_attack(model, ATTACKS.get(name).create(), samples)}
    else:
        cells = named_cells("none" if kind == "victim" else name, model, {})
        found = {cell.name: checks.check(model, cell, samples) for cell in cells}
    if as_json:
        plain = [
            {"cell": cell, "gate": gate.name, "verdict": str(gate.verdict), "told": gate.told}
            for cell, gates in found.items()
            for gate in gates
        ]
        click.echo(json.dumps(plain, indent=2))
    else:
        for cell, gates in found.items():
            for gate in gates:
                click.echo(f"{gate.verdict:4} {cell} {gate.name}: {gate.told}")
        click.echo(f"{len(samples)} images before {model.name}; docs/gates.md says what to do")
    return int(any(worst(gates) == Verdict.FAIL for gates in found.values()))
