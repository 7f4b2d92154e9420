"""Options that several verbs share."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from advbench.errors import AdvbenchError
from advbench.files import user_path
from advbench.registry import add_plugin, families
from advbench.texts import parse_json

if TYPE_CHECKING:
    from advbench.engines.units import Engine

F = TypeVar("F", bound=Callable[..., Any])


def _split(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
    """Repeated or comma-separated; each once, in the order given."""
    parts = [part.strip() for item in value for part in item.split(",")]
    if any(not part for part in parts):
        raise click.BadParameter("an empty value", ctx, param)
    return tuple(dict.fromkeys(parts))


# Options that take names of plug-ins, and of which family.
_FAMILIES = {
    **{family: family for family in ("attack", "dataset", "defense", "victim")},
    "through": "defense",
    "surrogate": "victim",
}


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the last of comma-separated names from the registry that the option is of."""
    before, comma, last = incomplete.rpartition(",")
    family = _FAMILIES[param.opts[0].removeprefix("--")]
    names = next(registry.names() for registry in families() if registry.kind == family)
    out = ctx.params.get("out") or Path("advbench-data")
    if family == "dataset" and (out / "datasets").is_dir():
        names = sorted({*names, *(path.name for path in (out / "datasets").iterdir())})
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def named(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option; one that takes the name of a plug-in completes it in the shell."""
    if names[0].removeprefix("--") in _FAMILIES:
        settings["shell_complete"] = _complete
    return click.option(*names, **settings)


def several(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option that takes several values, repeated or comma-separated."""
    return named(*names, multiple=True, callback=_split, **settings)


def _numbers(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> tuple[float, ...]:
    numbers = []
    for part in _split(ctx, param, value):
        try:
            number = float(part if "_" not in part else "")  # Python takes 1_0 for ten
        except ValueError:
            raise click.BadParameter(f"{part!r} is not a number", ctx, param) from None
        numbers.append(int(number) if number.is_integer() else number)
    return tuple(dict.fromkeys(numbers))


def several_numbers(*names: str, **settings: Any) -> Callable[[F], F]:
    """Take several numbers, as :func:`several` takes texts."""
    return click.option(*names, multiple=True, callback=_numbers, **settings)


class UserPath(click.Path):
    """A path in which ``~`` is the home folder, also where shells leave it, as in ``--out=~/x``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(path_type=Path, **settings)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(user_path(value), param, ctx)


def _plugins(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
    for target in value:
        add_plugin(target)
    return tuple(value)


out_option = click.option(
    "--out",
    type=UserPath(file_okay=False),
    default=Path("advbench-data"),
    show_default=True,
    help="Folder of datasets, shards, records and tables.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto takes a GPU."
)
limit_option = click.option("--limit", type=click.IntRange(min=1), help="The first N images only.")
seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the per-image streams."
)
plugin_option = click.option(
    "--plugin",
    multiple=True,
    callback=_plugins,
    is_eager=True,
    expose_value=False,
    metavar="MODULE:CLASS",
    help="Register an attack, victim or defense.",
)
weights_option = click.option(
    "--weights",
    default=None,
    metavar="PATH",
    help="A checkpoint of the victim, 'builtin', or 'random'.",
)
size_option = click.option(
    "--size", type=click.Choice(["small", "full"]), help="Size of the victim's network."
)


def reproduction_options(command: F) -> F:
    """Add what the tables and figures of ``reproduce`` have in common."""
    profile = click.option(
        "--profile",
        default="paper",
        show_default=True,
        help="Of the attacks: paper, quick, default …",
    )
    last = (device_option, out_option, plugin_option, json_option)
    for option in reversed((profile, limit_option, size_option, *last)):
        command = option(command)
    return command


def engine_options(command: F) -> F:
    """Say where units of work run; the command gets an ``engine``."""

    @functools.wraps(command)
    def with_engine(
        *args: Any,
        engine: str,
        workers: int | None,
        address: str | None,
        unit_gpus: float | None,
        unit_memory: float | None,
        **options: Any,
    ) -> Any:
        device = click.get_current_context().params["device"]
        where = choose_engine(
            engine, workers, address, unit_gpus, unit_memory=unit_memory, device=device
        )
        return command(*args, engine=where, **options)

    for option in (
        click.option("--unit-memory", type=float, metavar="GB", help="ray: what a unit asks for."),
        click.option(
            "--unit-gpus", type=float, metavar="N", help="ray: likewise [1 if one is here]."
        ),
        click.option("--address", help="ray: of a cluster, or auto [one is started here]."),
        click.option(
            "--workers", type=click.IntRange(min=1), help="How many of them [one a GPU, else 1]."
        ),
        click.option("--engine", type=click.Choice(["local", "ray"]), default="local"),
    ):
        with_engine = option(with_engine)
    return with_engine  # type: ignore[return-value]


def choose_engine(
    name: str,
    workers: int | None,
    address: str | None,
    unit_gpus: float | None,
    *,
    unit_memory: float | None,
    device: str,
) -> Engine:
    """The engine that the options name.

    Raises:
        AdvbenchError: an option of the other engine.
    """
    for engine, option, value in (
        ("ray", "--address", address),
        ("ray", "--unit-gpus", unit_gpus),
        ("ray", "--unit-memory", unit_memory),
    ):
        if value is not None and engine != name:
            raise AdvbenchError(f"{option} is for --engine {engine}")
    if workers and address:
        raise AdvbenchError("--workers: the cluster at --address decides how many there are")
    from advbench.engines.local import Local
    from advbench.engines.ray import Ray

    if name == "local" and workers == 1:
        return Local()
    gpus = _gpus(device)
    if name == "local":
        return Local(workers or max(1, len(gpus)), gpus)
    asked = unit_gpus if unit_gpus is not None else min(1, len(gpus))
    memory = int(unit_memory * 1e9) if unit_memory else None
    return Ray(address, workers, gpus=asked, memory=memory)


def _gpus(device: str) -> tuple[str, ...]:
    """The GPUs that workers may share out, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if device.startswith("cuda:"):
        number = device.removeprefix("cuda:")
        names = visible.split(",") if visible else []
        # One that is not there is told by torch_device.
        known = number.isdecimal() and int(number) < len(names)
        return (names[int(number)] if known else number,)
    if device not in ("auto", "cuda"):
        return ()
    import torch

    numbers = visible.split(",") if visible else map(str, range(torch.cuda.device_count()))
    return tuple(numbers) if torch.cuda.is_available() else ()


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs; values are JSON, numbers with commas between them, or text."""
    settings = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise AdvbenchError(f"--set {pair!r} is not of the form key=value")
        settings[key] = _value(value)
    return settings


def _value(text: str) -> Any:
    """JSON where it is that, a list where it is numbers with commas between them, else the text."""
    for candidate in (text, f"[{text}]" if re.fullmatch(r"[\d.,eE+\s-]+", text) else text):
        with suppress(ValueError):
            return parse_json(candidate)
    return text


def by_victim(pairs: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """``VICTIM=PATH`` pairs.

    Raises:
        AdvbenchError: not of that form, or not one of ``names``.
    """
    found = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not separator or name not in names:
            raise AdvbenchError(f"--weights {pair}: give VICTIM=PATH, VICTIM of {', '.join(names)}")
        found[name] = path
    return found
