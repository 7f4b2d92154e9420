"""``advbench doctor``: what this installation can do."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from advbench.cli.options import json_option, out_option


@click.command()
@out_option
@json_option
def doctor(out: Path, as_json: bool) -> int:
    """Versions, devices, weights, photographs and folders; exit code 1 where something is wrong."""
    import torch

    from advbench.datasets.builtin.photographs import PHOTOGRAPHS
    from advbench.errors import AdvbenchError
    from advbench.pipelines.load import cache_folder
    from advbench.pipelines.provenance import versions
    from advbench.registry import VICTIMS

    findings: list[tuple[str, bool, str]] = [
        ("python", sys.version_info >= (3, 11), sys.version.split()[0])
    ]
    findings += [(name, text != "?", text) for name, text in versions().items() if name != "python"]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    threads = f"cpu with {torch.get_num_threads()} threads"
    findings.append(("devices", True, ", ".join([threads, *gpus])))
    for name in VICTIMS.names():
        try:
            victim = VICTIMS.get(name).load()
            findings.append((f"victim {name}", True, f"weights {victim.weights.label}"))
        except AdvbenchError as error:
            findings.append((f"victim {name}", False, str(error)))
    for photograph in PHOTOGRAPHS:
        try:
            photograph.load()
        except AdvbenchError as error:
            findings.append((f"photograph {photograph.name}", False, str(error)))
    findings.append(("photographs", True, f"{len(PHOTOGRAPHS)} in installed packages"))
    for what, folder in (("cache", cache_folder()), ("output", out)):
        findings.append((what, _writable(folder), str(folder)))
    if as_json:
        click.echo(json.dumps([dict(zip(("what", "ok", "is"), f, strict=True)) for f in findings]))
    else:
        for what, good, text in findings:
            click.echo(f"{'ok ' if good else 'BAD'} {what}: {text}")
    return int(not all(good for _, good, _ in findings))


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)
