"""Attacks side by side with public peers, in one run, on the same network and images.

    python benchmarks/attack_speed.py [--victim ifosn] [--images 4] [--repeats 3] [--csv PATH]

FGSM, BIM, PGD and MI-FGSM against torchattacks at φ = 3; PGN against a plain transcription of its
paper; C&W's five snapshots of one run against five separate runs. Each is timed in turns, after one
turn that is not counted, in six ways:

- ``user``: the peer as a user has it, the network in PyTorch's default layout,
- ``layout``: the peer on the very network that our exact attack runs on, in channels-last,
- ``exact`` and ``fast``: ours, at these numerics (docs/numerics.md),
- ``bare`` and ``bare_fast``: as many forward and backward passes of the same network with nothing
  of an attack around them, spread over threads as ours are.

Peers get the batch whole and all threads. A ratio is the median over the turns, with the smallest
and the largest; ``over_bare`` is exact ÷ bare. ``grid_part`` says how often the row counts in the
paper's grid of 20 variants, where φ of 1 to 3 cost alike.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
import torch.nn.functional as F
import torchattacks
from timing import Work, grid_ratios, ratio, table_options, turns, write_csv
from torch import Tensor

import advbench
from advbench.attacks.base import Attack
from advbench.attacks.package_attack import TwoClasses
from advbench.attacks.pgn import PGN
from advbench.cli.progress import Progress
from advbench.images import fit_mask, to_tensor, to_unit
from advbench.inference.fast import with_numerics
from advbench.inference.numerics import deterministic_mode
from advbench.inference.runner import BatchRunner
from advbench.pipelines.load import cache_folder, load_dataset
from advbench.registry import VICTIMS
from advbench.victims.base import Victim

PHI = 3.0
PHIS = 3  # of the paper's grid
STEPS = (50, 100, 150, 200, 250)
RATIOS = {
    "user": ("user", "exact"),
    "layout": ("layout", "exact"),
    "over_bare": ("exact", "bare"),
    "fast": ("exact", "fast"),
    "fast_over_bare": ("fast", "bare_fast"),
}


@click.command()
@click.option("--victim", "names", multiple=True, help="All.")
@click.option("--size", type=click.Choice(["small", "full"]), default="small", show_default=True)
@click.option("--attack", "only", multiple=True, help="Only these.")
@click.option("--images", "count", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--iterations", type=click.IntRange(1, 10), default=10, show_default=True)
@click.option("--pgn-iterations", type=click.IntRange(1, 10), default=1, show_default=True)
@click.option("--cw-steps", type=click.IntRange(1, 50), default=5, show_default=True,
              help="Steps between C&W's snapshots.")  # fmt: skip
@table_options
def main(
    names: tuple[str, ...],
    size: str,
    only: tuple[str, ...],
    count: int,
    *,
    repeats: int,
    device: str,
    iterations: int,
    pgn_iterations: int,
    cw_steps: int,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Print the table."""
    rows: list[dict[str, Any]] = []
    names = names or tuple(VICTIMS.standard())
    with Progress() as progress:
        for number, name in enumerate(names):
            weights = "builtin" if size == "small" else None
            victim = advbench.load_victim(name, size=size, weights=weights, device=device)
            pairs = Pairs(victim, count)
            work = [
                each
                for each in pairs.comparisons(iterations, pgn_iterations, cw_steps)
                if not only or each.attack in only
            ]
            for done, each in enumerate(work):
                rows.append({"victim": name, "size": size, **compared(each, repeats)})
                at = number * len(work) + done + 1
                progress.update("measuring", at, len(names) * len(work), "comparisons")
    if csv_path:
        write_csv(csv_path, rows)
    grids = {} if only else {name: grid_ratios(rows, name) for name in names}
    if as_json:
        click.echo(json.dumps({"images": count, "grid": grids, "attacks": rows}, indent=2))
        return
    click.echo(f"{count} images, {torch.get_num_threads()} threads; seconds, then ratios")
    for row in rows:
        seconds = "  ".join(f"{key[:-2]} {row[key]:.3f}" for key in row if key.endswith("_s"))
        ratios = "  ".join(f"{key} {row[key]:.2f}" for key in RATIOS)
        click.echo(f"{row['victim']:<8} {row['attack']:<7} {seconds}  |  {ratios}")
    for name, whole in grids.items():
        click.echo(f"{name}, whole grid: " + ", ".join(f"{k} {v:.2f}" for k, v in whole.items()))


@dataclass(frozen=True)
class Comparison:
    """One attack: how often it counts in the paper's grid, and what is timed, by its name."""

    attack: str
    grid_part: float
    work: dict[str, Work]


def compared(comparison: Comparison, repeats: int) -> dict[str, Any]:
    """Seconds and ratios of one attack."""
    turns(comparison.work, 1)  # imports, pages of memory, kernels that are chosen once
    taken = turns(comparison.work, repeats)
    row: dict[str, Any] = {"attack": comparison.attack, "grid_part": comparison.grid_part}
    row |= {f"{name}_s": round(median(each), 4) for name, each in taken.items()}
    for name, (above, below) in RATIOS.items():
        found = ratio(taken, above, below)
        row |= {f"{name}{key.removeprefix('ratio')}": value for key, value in found.items()}
    return row


class Pairs:
    """The same images and network for all."""

    def __init__(self, victim: Victim, count: int) -> None:
        self.victim, self.fast = victim, with_numerics(victim, "fast")
        dataset = load_dataset("builtin", cache_folder())
        rows = dataset.select("test", label=1, limit=count)
        fitted = [victim.fit(dataset.image(row)) for row in rows]
        masks = [
            fit_mask(dataset.mask(row), image) for row, image in zip(rows, fitted, strict=True)
        ]
        self.ids = [row.sample_id for row in rows]
        self.images = torch.cat([to_tensor(image) for image in fitted])
        self.masks = torch.stack([torch.from_numpy(mask.copy()) for mask in masks])
        self.x = to_unit(self.images.to(victim.device))
        self.y = self.masks[:, None].float().to(victim.device)
        plain = copy.copy(victim)
        plain.network = copy.deepcopy(victim.network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.peers = {"user": plain, "layout": victim}

    def comparisons(
        self, iterations: int, pgn_iterations: int, cw_steps: int
    ) -> Iterator[Comparison]:
        """All six attacks. Steps are alike, so fewer of them count as often as they are missing."""
        steps = {"steps": iterations, "alpha": 1 / 255}
        for ours, theirs, settings in (
            ("fgsm", "FGSM", {}),
            ("bim", "BIM", steps),
            ("pgd", "PGD", steps | {"random_start": True}),
            ("mifgsm", "MIFGSM", steps | {"decay": 1.0}),
        ):
            more: dict[str, Any] = {"iterations": iterations, "alpha": 1.0} if settings else {}
            attack = advbench.load_attack(ours, eps=PHI, **more)
            part = PHIS * 10 / iterations if settings else PHIS
            yield self._comparison(attack, part, partial(self.torchattack, theirs, settings))
        pgn = PGN(eps=(PHI,), iterations=pgn_iterations)  # few steps, which are timed, not judged
        part = PHIS * 10 / pgn_iterations
        yield self._comparison(pgn, part, partial(self.plain_pgn, PHI / 255, pgn_iterations))
        lengths = [cw_steps * step // 50 for step in STEPS]
        cw = advbench.load_attack("cw").only(lengths)
        yield self._comparison(
            cw, 50 / cw_steps, lambda peer: [self.plain_cw(length, peer) for length in lengths]
        )

    def _comparison(self, attack: Attack, grid_part: float, theirs: Any) -> Comparison:
        own = {"exact": self.victim, "fast": self.fast}
        work: dict[str, Work] = {}
        for name, peer in self.peers.items():
            work[name] = partial(theirs, peer)
        for name, victim in own.items():
            work[name] = partial(attack.run, victim, self.images, self.masks, self.ids)
        for name, victim in (("bare", self.victim), ("bare_fast", self.fast)):
            work[name] = partial(self.bare, victim, attack.passes())
        return Comparison(attack.name, grid_part, work)

    def torchattack(self, name: str, settings: dict[str, Any], peer: Victim) -> Tensor:
        """One attack of torchattacks, the batch whole."""
        network = TwoClasses(peer).eval()
        attack = getattr(torchattacks, name)(network, eps=PHI / 255, **settings)
        return attack(self.x, self.masks.long().to(self.x.device))

    def bare(self, victim: Victim, passes: int) -> None:
        """Forward and backward, ``passes`` an image."""

        def work(index: Any) -> list[None]:
            x, y = self.x[list(index)], self.y[list(index)]
            for _ in range(passes):
                leaf = x.detach().requires_grad_()
                loss = F.binary_cross_entropy_with_logits(victim.logits(leaf), y)
                torch.autograd.grad(loss, leaf)
            return [None] * len(index)

        runner = BatchRunner(victim.device, reentrant=victim.reentrant)
        with deterministic_mode(victim.network, victim.numerics), runner:
            runner.map(range(len(self.x)), work)

    def gradient(self, x: Tensor, peer: Victim) -> Tensor:
        leaf = x.detach().requires_grad_()
        loss = F.binary_cross_entropy_with_logits(peer.logits(leaf), self.y)
        return torch.autograd.grad(loss, leaf)[0]

    def plain_pgn(self, eps: float, iterations: int, peer: Victim) -> Tensor:
        """Algorithm 1 of the paper of PGN, the batch whole, a neighbour after the other."""
        alpha, momentum, adversarial = eps / 10, torch.zeros_like(self.x), self.x
        for _ in range(iterations):
            mean = torch.zeros_like(self.x)
            for _ in range(20):
                near = adversarial + torch.empty_like(self.x).uniform_(-3 * eps, 3 * eps)
                first = self.gradient(near, peer)
                scale = first.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-30)
                mean += 0.5 * first + 0.5 * self.gradient(near - alpha * first / scale, peer)
            mean /= 20
            momentum = momentum + mean / mean.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-30)
            adversarial = adversarial + alpha * momentum.sign()
            adversarial = (self.x + (adversarial - self.x).clamp(-eps, eps)).clamp(0, 1)
        return adversarial

    def plain_cw(self, steps: int, peer: Victim) -> Tensor:
        """One run of eq. 5 of the ANSM paper by Adam, the batch whole."""
        noise = torch.zeros_like(self.x, requires_grad=True)
        optimizer = torch.optim.Adam([noise], 1e-4)
        for _ in range(steps):
            optimizer.zero_grad()
            probability = torch.sigmoid(peer.logits(self.x + noise))
            (noise.square().sum() + (2 * probability - 1).sum()).backward()
            optimizer.step()
            with torch.no_grad():
                noise.copy_((self.x + noise).clamp(0, 1) - self.x)
        return (self.x + noise).detach()


if __name__ == "__main__":
    main()
