"""Measure what a pass through each victim costs: milliseconds and memory of a batch, fp32.

    python benchmarks/victim_speed.py [--size full] [--batch 1] [--device cpu] [--threads N]
                                      [--csv PATH]

Random weights, at the working size (IF-OSN, which has none: at each ``--side``), in the mode that
attacks run in. Each row is measured in a process of its own. Memory is what the passes add at
their peak to the loaded network: allocated on a GPU; on the CPU resident, some 10 MiB of it the
library code that a first pass reads in.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import click

# This process imports no torch, and so learns from nobody which victims work at native size.
VICTIMS = {"mvssnet": False, "ifosn": True, "hdfnet": False, "code": False}
MIB = 1 << 20


@click.command()
@click.option("--victim", "names", multiple=True, type=click.Choice(list(VICTIMS)), help="All.")
@click.option("--size", type=click.Choice(["full", "small"]), default="full", show_default=True)
@click.option("--side", "sides", multiple=True, type=click.IntRange(min=1), default=(512, 256),
              show_default=True, help="Of victims that work at native size.")  # fmt: skip
@click.option("--batch", "batches", multiple=True, type=click.IntRange(min=1), default=(1,),
              show_default=True)  # fmt: skip
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="By default what torch chooses.")
@click.option("--repeats", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True)
@click.option("--alone", is_flag=True, hidden=True)
def main(
    names: tuple[str, ...],
    size: str,
    sides: tuple[int, ...],
    batches: tuple[int, ...],
    *,
    device: str,
    threads: int | None,
    repeats: int,
    csv_path: Path | None,
    as_json: bool,
    alone: bool,
) -> None:
    """Print the table."""
    if alone:
        print(
            json.dumps(
                measure(
                    names[0],
                    size,
                    sides[0],
                    batches[0],
                    device=device,
                    threads=threads,
                    repeats=repeats,
                )
            )
        )
        return
    rows: list[dict[str, Any]] = []
    failed = False
    for name in names or VICTIMS:
        for side, batch in product(sides if VICTIMS[name] else sides[:1], batches):
            row = measured_apart(
                name, size, side, batch, device=device, threads=threads, repeats=repeats
            )
            if row is None:
                failed = True
                continue
            rows.append(row)
            if not as_json:
                show(row, header=len(rows) == 1)
            if csv_path:  # after each row: the last victims are the ones that memory may end
                with csv_path.open("w", newline="") as file:
                    writer = csv.DictWriter(file, rows[0])
                    writer.writeheader()
                    writer.writerows(rows)
    if as_json:
        print(json.dumps(rows, indent=2))
    sys.exit(failed)


def measured_apart(
    name: str, size: str, side: int, batch: int, *, device: str, threads: int | None, repeats: int
) -> dict[str, Any] | None:
    """:func:`measure` in a fresh process; None where it fails or runs out of memory."""
    command = [sys.executable, __file__, "--alone", f"--victim={name}", f"--size={size}"]
    command += [f"--side={side}", f"--batch={batch}", f"--device={device}", f"--repeats={repeats}"]
    environment = dict(os.environ)
    if threads:
        command.append(f"--threads={threads}")
        environment["OMP_NUM_THREADS"] = str(threads)
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        print(f"{name} at {side}: ended with {ran.returncode}", file=sys.stderr)
        return None
    return json.loads(ran.stdout)


def measure(
    name: str, size: str, side: int, batch: int, *, device: str, threads: int | None, repeats: int
) -> dict[str, Any]:
    """One row of the table."""
    import torch

    from advbench.attacks.gradient import InputGradient
    from advbench.inference.numerics import deterministic_mode
    from advbench.registry import VICTIMS as REGISTERED

    if threads:
        torch.set_num_threads(threads)
    kind = REGISTERED.get(name)
    where = Device(device)
    before = where.level()
    victim = kind.load(size=size, weights=None, device=device)
    loaded = where.level()
    side = victim.working_side or side
    stream = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 3, side, side, generator=stream).to(device)
    gradient = InputGradient(victim, (x[:, :1] > 0.5).float())

    def forward() -> None:
        with torch.inference_mode():
            victim.probabilities(x)

    row = {
        "victim": name,
        "size": size,
        "side": side,
        "batch": batch,
        "device": torch.cuda.get_device_name(device) if where.cuda else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "repeats": repeats,
        "parameters": sum(parameter.numel() for parameter in victim.network.parameters()),
        "network_mib": round((loaded - before) / MIB, 1),
    }
    with deterministic_mode(victim.network):
        for what, work in (("forward", forward), ("both", lambda: gradient(x))):
            where.level()
            times = timed(work, repeats, where.wait)
            row |= {
                f"{what}_ms": round(median(times), 1),
                f"{what}_ms_min": round(min(times), 1),
                f"{what}_ms_max": round(max(times), 1),
                f"{what}_peak_mib": round((where.peak() - loaded) / MIB, 1),
            }
    return row


def timed(work: Callable[[], object], repeats: int, synchronize: Callable[[], None]) -> list[float]:
    """Milliseconds of each repeat, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        synchronize()
        started = time.perf_counter()
        work()
        synchronize()
        times.append(1000 * (time.perf_counter() - started))
    return times[1:]


class Device:
    """A device and its bytes in use: allocated on the GPU, or resident in this process."""

    def __init__(self, name: str) -> None:
        import torch

        self.name, self.cuda = name, name.startswith("cuda")
        if self.cuda:
            torch.cuda.init()  # type: ignore[no-untyped-call]

    def level(self) -> int:
        """Bytes in use now; from here on the peak counts anew."""
        import torch

        from advbench.memory import release_freed, resident

        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.name)
            return torch.cuda.memory_allocated(self.name)
        release_freed()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return resident("VmRSS")

    def peak(self) -> int:
        """Most bytes in use since :meth:`level`."""
        import torch

        from advbench.memory import peak_memory

        if self.cuda:
            return torch.cuda.max_memory_allocated(self.name)
        return peak_memory()

    def wait(self) -> None:
        """Until the device has done what it was given."""
        import torch

        if self.cuda:
            torch.cuda.synchronize(self.name)


def show(row: dict[str, Any], header: bool) -> None:
    """A line of the table."""
    if header:
        print(f"{row['size']} size, {row['device']}, {row['threads']} threads, fp32,")
        print(f"median of {row['repeats']} (least–most); forward+backward: the input gradient")
        print(f"{'':<19}{'network':>18}{'forward':>34}{'forward+backward':>36}")
    cells = [
        f"{row[f'{what}_ms']:9.1f} ms ({row[f'{what}_ms_min']:.0f}–{row[f'{what}_ms_max']:.0f})"
        for what in ("forward", "both")
    ]
    network = f"{row['parameters'] / 1e6:.1f} M {row['network_mib']:6.0f} MiB"
    print(
        f"{row['victim']:<8}{row['side']:>5} × {row['batch']:<2} {network:>18}"
        f"{cells[0]:>24}{row['forward_peak_mib']:6.0f} MiB"
        f"{cells[1]:>26}{row['both_peak_mib']:6.0f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    main()
