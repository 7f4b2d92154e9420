"""``advbench doctor``: what this installation can do."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import click

import advbench
from advbench.cli.options import json_option, out_option


@click.command()
@out_option
@json_option
def doctor(out: Path, as_json: bool) -> int:
    """Versions, devices, weights, photographs and folders; exit code 1 where something is wrong.

    Fit to paste into a report of a bug: it shows no user's name and no setting but what is here.
    """
    import torch

    from advbench.datasets.builtin.photographs import PHOTOGRAPHS
    from advbench.errors import AdvbenchError
    from advbench.pipelines.load import cache_folder
    from advbench.pipelines.provenance import versions
    from advbench.registry import VICTIMS, families

    findings: list[tuple[str, bool, str]] = [
        ("advbench", True, f"{advbench.__version__} in {_short(Path(advbench.__file__).parent)}"),
        (
            "python",
            sys.version_info >= (3, 11),
            f"{sys.version.split()[0]} on {platform.platform()}",
        ),
    ]
    findings += [(name, text != "?", text) for name, text in versions().items() if name != "python"]
    findings.append(("optional", True, ", ".join(_optional())))
    for registry in families():
        others = [n for n, entry in registry.all().items() if entry.origin != "built in"]
        if others:
            findings.append((f"other {registry.kind}s", True, ", ".join(others)))
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    threads = f"cpu with {torch.get_num_threads()} of {os.cpu_count()} threads"
    findings.append(("devices", True, ", ".join([threads, *gpus])))
    for name in VICTIMS.standard():
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
        findings.append((what, _writable(folder), _short(folder)))
    if as_json:
        click.echo(json.dumps([dict(zip(("what", "ok", "is"), f, strict=True)) for f in findings]))
    else:
        for what, good, text in findings:
            click.echo(f"{'ok ' if good else 'BAD'} {what}: {text}")
    return int(not all(good for _, good, _ in findings))


# What an installation may do without, by its extra.
OPTIONAL = (
    "accelerate",
    "huggingface-hub",
    "ray",
    "tensorboard",
    "torchattacks",
    "umap-learn",
    "wandb",
)


def _optional() -> list[str]:
    """The optional packages with their versions."""
    found = []
    for name in OPTIONAL:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return found


def _short(path: Path) -> str:
    """A path without the user's name."""
    home = str(Path.home())
    text = str(path.absolute())
    return f"~{text.removeprefix(home)}" if text.startswith(home) and home != "/" else text


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)
