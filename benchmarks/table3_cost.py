"""Estimate what the whole of Table III takes on H100s: counted passes and operations, stated
assumptions.

    python benchmarks/table3_cost.py [--peak 67] [--share 0.35] [--fast-peak 495]
        [--fast-share 0.1] [--csv PATH]

Counted: the passes of the suite ``paper``, and the floating-point operations of one forward and
one forward + backward pass of each full victim (``torch.utils.flop_counter``, on tensors that have
a shape and no values).
Assumed: what the GPU sustains, ``--share`` of ``--peak`` TFLOP/s (67 is an H100's FP32 outside its
tensor cores), and ``--fast-share`` of ``--fast-peak`` (495 is its TF32 inside them) where
``--numerics fast`` attacks, scores being exact always; the images' sizes where a victim works at
native size; and that work units spread over the GPUs evenly. Reading, encoding and writing go on
beside the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from timing import put_out, table_options
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from advbench.cli.progress import Progress
from advbench.defenses.ansm.network import AnsmNetwork
from advbench.pipelines.suites.suite import read_suite
from advbench.registry import VICTIMS
from advbench.victims.base import Victim
from advbench.victims.weights import Weights

# Images, and the megapixels of one in the mean: counted of CASIA v1, published of IMD2020 and MISD,
# and of Columbia the middle of its range.
DATASETS = {
    "columbia": (160, 0.62),
    "casiav1": (920, 0.098),
    "imd20": (2010, 0.81),
    "misd": (227, 0.21),
}
SIDE = 512


@dataclass(frozen=True)
class Operations:
    """10⁹ floating-point operations at SIDE × SIDE, or at the victim's working size."""

    forward: float
    both: float


def counted(victim: Victim, side: int) -> Operations:
    """Count the operations of one image's gradient with respect to it alone."""
    images = torch.zeros(1, 3, side, side, requires_grad=True)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        victim.logits(images)
    with FlopCounterMode(display=False) as both:
        # Times one: the counter's hooks refuse a leaf.
        torch.autograd.grad(victim.logits(images * 1).sum(), images)
    return Operations(forward.get_total_flops() / 1e9, both.get_total_flops() / 1e9)


def purified(side: int) -> float:
    """10⁹ operations of ANSM before one image."""
    network = AnsmNetwork("full").eval()
    with FlopCounterMode(display=False) as count, torch.no_grad():
        network(torch.zeros(1, 3, side, side))
    return count.get_total_flops() / 1e9


@click.command()
@click.option(
    "--peak", type=click.FloatRange(min=0, min_open=True), default=67.0, show_default=True
)
@click.option(
    "--share", type=click.FloatRange(0, 1, min_open=True), default=0.35, show_default=True
)
@click.option(
    "--fast-peak", type=click.FloatRange(min=0, min_open=True), default=495.0, show_default=True
)
@click.option(
    "--fast-share", type=click.FloatRange(0, 1, min_open=True), default=0.1, show_default=True
)
@table_options
def main(
    peak: float,
    share: float,
    fast_peak: float,
    fast_share: float,
    *,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Print the table."""
    suite = read_suite("paper")
    attacks = suite.build_attacks()
    passes = sum(attack.passes() for attack in attacks)
    variants = 1 + sum(len(attack.intensities) for attack in attacks)
    images = sum(DATASETS[name][0] for name in suite.datasets)
    native = sum(count * size for count, size in map(DATASETS.__getitem__, suite.datasets))
    rows: list[dict[str, Any]] = []
    with Progress() as progress:
        for number, name in enumerate(suite.victims):
            cls = VICTIMS.get(name)
            with FakeTensorMode(allow_non_fake_inputs=True):
                network = cls.build_network("full").eval().requires_grad_(False)
                victim = cls(network, Weights("0" * 64, "none"), "full")
                side = victim.working_side or SIDE
                one, purifying = counted(victim, side), purified(side)
            # Where the size is native, work grows with the pixels.
            times = images if victim.working_side else native * 1e6 / SIDE**2
            attacking = times * passes * one.both / 1e3
            scoring = times * variants * (2 * one.forward + purifying) / 1e3
            scores = scoring / (peak * share) / 3600
            exact = attacking / (peak * share) / 3600 + scores
            fast = attacking / (fast_peak * fast_share) / 3600 + scores
            rows.append(
                {
                    "victim": name,
                    "side": victim.working_side or "native",
                    "passes": images * passes,
                    "gflop_forward": round(one.forward, 1),
                    "gflop_both": round(one.both, 1),
                    "pflop_attacks": round(attacking / 1e3),
                    "pflop_scores": round(scoring / 1e3),
                    "exact_hours": round(exact, 1),
                    "exact_hours_8_gpus": round(exact / 8, 1),
                    "fast_hours": round(fast, 1),
                    "fast_hours_8_gpus": round(fast / 8, 1),
                }
            )
            progress.update("counting", number + 1, len(suite.victims), "victims")
    hours = (f"{mode}_hours{gpus}" for mode in ("exact", "fast") for gpus in ("", "_8_gpus"))
    names = ("passes", "pflop_attacks", "pflop_scores", *hours)
    total = {name: round(sum(row[name] for row in rows), 1) for name in names}
    rows.append({"victim": "all", "side": "", "gflop_forward": "", "gflop_both": "", **total})
    put_out(
        rows,
        csv_path,
        as_json,
        lambda row: "  ".join(f"{row[key]!s:>13}" for key in rows[0]),
    )


if __name__ == "__main__":
    main()
