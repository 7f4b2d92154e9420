"""``advbench plan`` and ``advbench run``: a whole suite, measured first."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from advbench.cli.grid import terminal
from advbench.cli.options import (
    by_victim,
    device_option,
    engine_options,
    json_option,
    limit_option,
    out_option,
    plugin_option,
    several,
)
from advbench.cli.progress import Progress
from advbench.cli.tables import write_tables
from advbench.errors import AdvbenchError

if TYPE_CHECKING:
    from advbench.datasets.dataset import Dataset
    from advbench.engines.units import Engine
    from advbench.pipelines.suites.plan import Plan
    from advbench.pipelines.suites.suite import Suite
    from advbench.victims.base import Victim

F = TypeVar("F", bound=Callable[..., Any])
SHOWN_FAULTS = 20


@dataclass(frozen=True)
class SuiteOptions:
    """Hold the options that ``plan`` and ``run`` share."""

    suite: str
    dataset: Sequence[str]
    victim: Sequence[str]
    weights: Sequence[str]
    ansm_weights: Sequence[str]
    limit: int | None
    memory: float | None
    device: str
    out: Path
    as_json: bool


def suite_options(command: F) -> F:
    """Add the options that ``plan`` and ``run`` share; the command gets them as ``asked``."""

    @functools.wraps(command)
    def with_asked(*args: Any, **given: Any) -> Any:
        own = {one.name: given.pop(one.name) for one in fields(SuiteOptions)}
        return command(*args, SuiteOptions(**own), **given)

    for option in (
        json_option,
        plugin_option,
        out_option,
        device_option,
        click.option(
            "--memory",
            type=click.FloatRange(min=0, min_open=True),
            metavar="GB",
            help="What the run may take [what this machine gives].",
        ),
        limit_option,
        several("--ansm-weights", metavar="PATH", help="Networks of train ansm [the shipped]."),
        several("--weights", metavar="VICTIM=PATH", help="Checkpoints of its victims."),
        several("--victim", help="Only these of its victims."),
        several("--dataset", help="Only these of its datasets."),
        click.argument("suite"),
    ):
        with_asked = option(with_asked)
    return with_asked  # type: ignore[return-value]


@click.command()
@suite_options
def plan(asked: SuiteOptions) -> int:
    """Check that SUITE (a shipped name or a TOML file) can run, and say what it takes.

    Loads every weight, decodes every image, runs a few steps of every attack and every defense, and
    looks at disk and memory. Ends with 0 only if the run can finish. What is there already is not
    counted.

    \b
    advbench plan quick
    advbench plan paper --weights mvssnet=mvssnet_casia.pt --victim mvssnet
    """
    with Progress() as progress:
        found = _Session(asked, progress)
        planned = found.plan()
    if asked.as_json:
        click.echo(json.dumps(planned.as_json(), indent=2))
    else:
        _show(planned)
    return 1 if planned.faults else 0


@click.command()
@suite_options
@engine_options
def run(asked: SuiteOptions, engine: Engine) -> None:
    """Plan SUITE, then generate and evaluate all of it; run it again to resume.

    \b
    advbench run quick
    advbench run paper --dataset casiav1 --weights ifosn=ifosn.pth --victim ifosn
    """
    from advbench.pipelines.suites.run import run as run_suite

    with Progress() as progress:
        found = _Session(asked, progress)
        planned = found.plan(_processes(engine))
        if planned.faults:
            for fault in planned.faults[:SHOWN_FAULTS]:
                progress.note(f"{fault.where}: {fault.problem}")
            first = planned.faults[0]
            raise AdvbenchError(
                f"suite {asked.suite} {_able(planned)}; the first: {first.where}: {first.problem}"
            )
        progress.note(_summary(planned))
    with Progress() as progress:
        took = run_suite(
            found.suite,
            Path(asked.suite).stem,
            planned,
            asked.out,
            load_dataset=found.dataset,
            load_victim=found.victim,
            progress=progress.measured_in("s of work"),
            engine=engine,
        )
        for warning in took["warnings"]:
            progress.note(warning)
    tables = write_tables(asked.out)
    if asked.as_json:
        click.echo(json.dumps({"took": took} | tables.as_json(), indent=2))
        return
    tables.show()
    click.echo(
        f"{took['made']} adversarial images made, {took['scored']} scored in "
        f"{_duration(took['seconds'])} ({_duration(planned.total('seconds'))} planned); "
        f"tables in {asked.out / 'tables'}"
    )


class _Session:
    """A suite as the command line asks for it, and how its names are loaded."""

    def __init__(self, asked: SuiteOptions, progress: Progress) -> None:
        from advbench.inference.devices import torch_device
        from advbench.pipelines.suites.suite import read_suite

        whole = read_suite(asked.suite)
        given = by_victim(asked.weights, list(whole.victims))
        self.suite: Suite = whole.narrowed(
            asked.dataset, asked.victim, asked.limit, given, ansm_weights=asked.ansm_weights
        )
        self._device, self._out, self._progress = torch_device(asked.device), asked.out, progress
        self._memory = int(asked.memory * 1e9) if asked.memory else None

    def plan(self, processes: int = 1) -> Plan:
        from advbench.pipelines.suites.plan import make_plan

        return make_plan(
            self.suite,
            self._out,
            self.dataset,
            self.victim,
            progress=self._progress.update,
            memory=self._memory,
            processes=processes,
        )

    def dataset(self, name: str) -> Dataset:
        from advbench.pipelines.load import load_dataset

        return load_dataset(name, self._out, self.suite.split, self._progress)

    def victim(self, name: str) -> Victim:
        return self.suite.victims[name].load(name, self._device)


def _show(planned: Plan) -> None:
    from rich.table import Table

    console = terminal()
    table = Table(title=f"on {planned.device}" if planned.device else None)
    for name in ("dataset", "victim"):
        table.add_column(name)
    for name in ("images", "units", "fwd + bwd", "s each", "forward", "time", "GB"):
        table.add_column(name, justify="right")
    for stage in planned.stages:
        table.add_row(
            stage.dataset,
            stage.victim,
            f"{stage.images:,}",
            f"{stage.units:,}",
            f"{stage.gradients:,}",
            f"{stage.seconds_per_gradient:.4f}",
            f"{stage.forwards:,}",
            _duration(stage.seconds),
            f"{stage.bytes / 1e9:.3f}",
        )
    console.print(table)
    for stage in planned.stages:
        if stage.sizes:
            console.print(f"{stage.victim} on {stage.dataset}: {stage.sizes}", highlight=False)
    if planned.faults:
        faults = Table()
        faults.add_column("where", overflow="fold")
        faults.add_column("what keeps it from finishing", overflow="fold")
        for fault in planned.faults[:SHOWN_FAULTS]:
            faults.add_row(fault.where, fault.problem)
        console.print(faults)
        if len(planned.faults) > SHOWN_FAULTS:
            console.print(f"and {len(planned.faults) - SHOWN_FAULTS} more")
    console.print(_summary(planned), highlight=False)


def _processes(engine: Engine) -> int:
    """Count the processes that share this machine's memory; a cluster's nodes have their own."""
    from advbench.engines.local import Local
    from advbench.engines.ray import Ray

    if isinstance(engine, Ray) and engine.address is None:
        return engine.workers or os.cpu_count() or 1
    return engine.workers if isinstance(engine, Local) else 1


def _summary(planned: Plan) -> str:
    return (
        f"{_able(planned)}: {planned.total('units'):,} units, {planned.total('gradients'):,} "
        f"forward and backward passes, {planned.total('forwards'):,} forward passes, "
        f"{_duration(planned.total('seconds'))}; {planned.total('bytes') / 1e9:.3f} GB of "
        f"{planned.free_bytes / 1e9:.1f} GB free; {planned.peak_bytes / 1e9:.1f} GB of memory"
    )


def _able(planned: Plan) -> str:
    count = len(planned.faults)
    return f"cannot finish ({count} fault{'s' * (count > 1)})" if count else "can finish"


def _duration(seconds: float) -> str:
    """Write seconds as ``3.2 h``, ``4.1 min`` or ``12 s``."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"
