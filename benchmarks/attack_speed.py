"""Attacks side by side with public peers, in one run, on the same victim and images.

    python benchmarks/attack_speed.py [--victim ifosn] [--images 8] [--repeats 3] [--csv PATH]

FGSM, BIM, PGD and MI-FGSM against torchattacks, at one φ and over the paper's three; PGN against a
plain transcription of its paper, C&W against five separate runs, for the rest of the paper's grid.
Peers get the batch whole, the network as torch builds it, and all threads. ``bare`` is the limit:
as many forward and backward passes of our network, with nothing of an attack
around them. Both take turns; ratios are medians over the turns, with the smallest and the largest.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
import torch.nn.functional as F
import torchattacks
from timing import Work, ratio, table_options, turns, write_csv
from torch import Tensor

import advbench
from advbench.attacks.base import Attack
from advbench.attacks.package_attack import TwoClasses
from advbench.attacks.pgn import PGN
from advbench.cli.progress import Progress
from advbench.images import fit_mask, to_tensor, to_unit
from advbench.inference.numerics import deterministic_mode
from advbench.inference.runner import BatchRunner
from advbench.pipelines.load import cache_folder, load_dataset
from advbench.victims.base import Victim

PHI = (1.0, 2.0, 3.0)
STEPS = (50, 100, 150, 200, 250)


@click.command()
@click.option("--victim", "name", default="ifosn", show_default=True)
@click.option("--size", type=click.Choice(["small", "full"]), default="small", show_default=True)
@click.option("--attack", "only", multiple=True, help="Rows that begin so; all unless given.")
@click.option("--images", "count", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--iterations", type=click.IntRange(1, 10), default=10, show_default=True)
@click.option("--pgn-iterations", type=click.IntRange(1, 10), default=10, show_default=True)
@click.option("--cw-steps", type=click.IntRange(1, 50), default=50, show_default=True,
              help="Steps between C&W's snapshots.")  # fmt: skip
@table_options
def main(
    name: str,
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
    weights = "builtin" if size == "small" else None
    victim = advbench.load_victim(name, size=size, weights=weights, device=device)
    pairs = Pairs(victim, count)
    rows: list[dict[str, Any]] = []
    work = [
        each
        for each in pairs.comparisons(iterations, pgn_iterations, cw_steps)
        if not only or each[0].startswith(only)
    ]
    with Progress() as progress:
        for number, (label, part, ours, theirs, bare) in enumerate(work):
            rows.append(
                {"attack": label, "grid_part": part, **compared(ours, theirs, bare, repeats)}
            )
            progress.update("measuring", number + 1, len(work), "comparisons")
    grid = [row for row in rows if row["grid_part"]]
    total = {key: sum(row[key] * row["grid_part"] for row in grid) for key in ("ours_s", "peer_s")}
    whole = round(total["peer_s"] / total["ours_s"], 2) if grid and not only else None
    report = {
        "victim": f"{name} ({size})",
        "images": count,
        "threads": torch.get_num_threads(),
        "grid_ratio": whole,
        "attacks": rows,
    }
    if csv_path:
        write_csv(csv_path, rows)
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    click.echo(f"{report['victim']}, {count} images, {torch.get_num_threads()} threads")
    for row in rows:
        click.echo(
            f"{row['attack']:<24} ours {row['ours_s']:8.2f} s  peer {row['peer_s']:8.2f} s  "
            f"ratio {row['ratio']:5.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})  "
            f"over bare {row['over_bare']:.3f}"
        )
    if whole:
        click.echo(f"whole grid: {whole:.2f} times faster than the naive loops")


def compared(ours: Work, theirs: Work, bare: Work, repeats: int) -> dict[str, float]:
    """Seconds and ratios of the three; ours beside the bare passes apart, as the memory that peers
    take and give back slows down what comes next."""
    taken = turns({"ours": ours, "peer": theirs}, repeats)
    limit = turns({"ours": ours, "bare": bare}, repeats)
    seconds = {**taken, "bare": limit["bare"]}
    return {
        **{f"{name}_s": round(median(each), 4) for name, each in seconds.items()},
        **ratio(taken, "peer", "ours"),
        "over_bare": ratio(limit, "ours", "bare")["ratio"],
    }


class Pairs:
    """The same images for both."""

    def __init__(self, victim: Victim, count: int) -> None:
        self.victim = victim
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
        self.plain = plain
        self.peer_network = TwoClasses(plain).eval()

    def comparisons(self, iterations: int, pgn_iterations: int, cw_steps: int) -> Any:
        """Name, how often it counts in the paper's grid, ours, theirs, the bare passes.

        Steps are alike, so fewer of them count as often as they are missing.
        """
        steps = {"steps": iterations, "alpha": 1 / 255}
        for ours, theirs, settings in (
            ("fgsm", "FGSM", {}),
            ("bim", "BIM", steps),
            ("pgd", "PGD", steps | {"random_start": True}),
            ("mifgsm", "MIFGSM", steps | {"decay": 1.0}),
        ):
            for phis in ((3.0,), PHI):
                more: dict[str, Any] = {"iterations": iterations, "alpha": 1.0} if settings else {}
                attack = advbench.load_attack(ours, eps=phis, **more)
                label = f"{ours} {'1 to 3' if len(phis) > 1 else '3'}"
                part = (10 / iterations if settings else 1) if len(phis) > 1 else 0
                yield (label, part, *self.trio(attack, self.loop(theirs, phis, settings)))
        pgn = PGN(eps=(3.0,), iterations=pgn_iterations)  # few steps, which are timed, not judged
        # One φ of three, which are alike.
        part = 3 * 10 / pgn_iterations
        yield ("pgn 3", part, *self.trio(pgn, lambda: self.plain_pgn(3 / 255, pgn_iterations)))
        lengths = [cw_steps * step // 50 for step in STEPS]
        cw = advbench.load_attack("cw").only(lengths)
        several = self.trio(cw, lambda: [self.plain_cw(length) for length in lengths])
        yield ("cw 50 to 250", 50 / cw_steps, *several)

    def trio(self, attack: Attack, theirs: Work) -> tuple[Work, Work, Work]:
        def ours() -> object:
            return attack.run(self.victim, self.images, self.masks, self.ids)

        return ours, theirs, lambda: self.bare(attack.passes())

    def loop(self, name: str, phis: tuple[float, ...], settings: dict[str, Any]) -> Work:
        def theirs() -> object:
            return [
                getattr(torchattacks, name)(self.peer_network, eps=phi / 255, **settings)(
                    self.x, self.masks.long().to(self.x.device)
                )
                for phi in phis
            ]

        return theirs

    def bare(self, passes: int) -> None:
        """Forward and backward, ``passes`` an image."""
        victim = self.victim

        def work(index: Any) -> list[None]:
            x, y = self.x[list(index)], self.y[list(index)]
            for _ in range(passes):
                leaf = x.detach().requires_grad_()
                loss = F.binary_cross_entropy_with_logits(victim.logits(leaf), y)
                torch.autograd.grad(loss, leaf)
            return [None] * len(index)

        runner = BatchRunner(victim.device, reentrant=victim.reentrant)
        with deterministic_mode(victim.network), runner:
            runner.map(range(len(self.x)), work)

    def gradient(self, x: Tensor) -> Tensor:
        leaf = x.detach().requires_grad_()
        loss = F.binary_cross_entropy_with_logits(self.plain.logits(leaf), self.y)
        return torch.autograd.grad(loss, leaf)[0]

    def plain_pgn(self, eps: float, iterations: int) -> Tensor:
        """Algorithm 1 of the paper of PGN, the batch whole, a neighbour after the other."""
        alpha, momentum, adversarial = eps / 10, torch.zeros_like(self.x), self.x
        for _ in range(iterations):
            mean = torch.zeros_like(self.x)
            for _ in range(20):
                near = adversarial + torch.empty_like(self.x).uniform_(-3 * eps, 3 * eps)
                first = self.gradient(near)
                scale = first.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-30)
                mean += 0.5 * first + 0.5 * self.gradient(near - alpha * first / scale)
            mean /= 20
            momentum = momentum + mean / mean.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-30)
            adversarial = adversarial + alpha * momentum.sign()
            adversarial = (self.x + (adversarial - self.x).clamp(-eps, eps)).clamp(0, 1)
        return adversarial

    def plain_cw(self, steps: int) -> Tensor:
        """One run of eq. 5 of the ANSM paper by Adam, the batch whole."""
        noise = torch.zeros_like(self.x, requires_grad=True)
        optimizer = torch.optim.Adam([noise], 1e-4)
        for _ in range(steps):
            optimizer.zero_grad()
            probability = torch.sigmoid(self.plain.logits(self.x + noise))
            (noise.square().sum() + (2 * probability - 1).sum()).backward()
            optimizer.step()
            with torch.no_grad():
                noise.copy_((self.x + noise).clamp(0, 1) - self.x)
        return (self.x + noise).detach()


if __name__ == "__main__":
    main()
