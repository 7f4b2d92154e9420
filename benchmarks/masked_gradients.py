"""Does a victim that resists only mask its gradients?

    python benchmarks/masked_gradients.py --victim code [--weights PATH] [--limit N]

A victim that resists is checked before it is believed: finite differences against autograd, PGD's
loss and F1 against φ (32 breaks any victim) and against steps, images made on other victims, and
gradients that are exactly zero. CoDE has several gradients (``clip``) and losses (``margin``); all
of them are attacked, and judged by the default ones. PGD's α is 1, the benchmark's, for φ from 1 to
4. Elsewhere it is φ/4: steps of 1 jump to and fro in a smaller ball, and ten do not cross a larger
one.
"""

from __future__ import annotations

import copy
import functools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import advbench
from advbench.attacks.gradient import InputGradient
from advbench.attacks.losses import localization_loss
from advbench.errors import AdvbenchError
from advbench.images import Image, Mask, fit_mask, to_tensor, to_unit
from advbench.inference.numerics import deterministic_mode
from advbench.pipelines.load import load_dataset
from advbench.registry import VICTIMS
from advbench.rng import torch_stream
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim

PHI = 3  # where steps, transfer and CoDE's gradients are compared
# In float64 the first crosses few kinks; the second is a grey level, about what a step of an
# attack relies on.
SPANS = {"1e-8": 1e-8, "1/255": 1 / 255}
# The victim's own gradient first; the last is the derivative of its loss as it is.
CODE: tuple[dict[str, Any], ...] = tuple(
    {"clip": clip, "margin": margin}
    for clip in ("straight-through", "autograd")
    for margin in (0.02, 1e-6)
)
EXACT = 1e-3  # relative error of finite differences
BROKEN = 0.1  # F1 at φ = 32, as a part of F1 without attack
SLACK = 0.02  # in F1, and relative in loss, before a difference counts

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Sample:
    """A forged image as the dataset has it."""

    id: str
    image: Image
    truth: Mask


@click.command()
@click.option("--victim", "name", required=True, type=click.Choice(VICTIMS.standard()))
@click.option("--weights", default="builtin", show_default=True, help="builtin, random, or a path.")
@click.option("--size", type=click.Choice(["full", "small"]), help="Small for builtin, else full.")
@click.option("--dataset", default="builtin", show_default=True, help="A name, or a folder.")
@click.option("--limit", type=click.IntRange(min=1), default=16, show_default=True,
              help="Forged images, evenly spaced over the test split.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True)
@click.option("--phi", "phis", multiple=True, type=click.FloatRange(0, 255, min_open=True),
              default=(1, 2, 3, 8, 32), show_default=True, help="Grey levels.")  # fmt: skip
@click.option("--iterations", type=click.IntRange(min=1), default=10, show_default=True,
              help="Of PGD, but for --steps.")  # fmt: skip
@click.option("--steps", multiple=True, type=click.IntRange(min=1), default=(1, 5, 10, 20, 40),
              show_default=True, help=f"Iterations of PGD at φ = {PHI}.")  # fmt: skip
@click.option("--directions", type=click.IntRange(min=1), default=4, show_default=True,
              help="Random ones for finite differences, beside the gradient's sign.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True)
def main(
    name: str,
    weights: str,
    size: str | None,
    dataset: str,
    *,
    limit: int,
    device: str,
    phis: tuple[float, ...],
    iterations: int,
    steps: tuple[int, ...],
    directions: int,
    as_json: bool,
) -> None:
    """Print the tables, each as soon as it is there, and the signs of masking."""
    victim = advbench.load_victim(
        name, size=size, weights=None if weights == "random" else weights, device=device
    )
    samples = load_samples(dataset, limit)
    settings = CODE if name == "code" else ({},)

    @functools.cache
    def white_box(setting: int, phi: float, count: int) -> dict[str, float]:
        return attacked(variant(victim, settings[setting]), victim, samples, phi, iterations=count)

    sections: dict[str, Callable[[], Rows]] = {
        "finite_differences": lambda: finite_differences(victim, settings, samples, directions),
        "phi": lambda: [{"phi": phi} | white_box(0, phi, iterations) for phi in sorted(phis)],
        "steps": lambda: [{"steps": count} | white_box(0, PHI, count) for count in sorted(steps)],
        "transfer": lambda: transfers(victim, samples, iterations, device),
        "gradients": lambda: [
            setting
            | {"zero_share": zero_share(variant(victim, setting), samples)}
            | white_box(number, PHI, iterations)
            for number, setting in enumerate(settings)
        ],
    }
    clean = [score(victim, unit(victim, sample.image), sample.truth) for sample in samples]
    found: dict[str, Any] = {
        "victim": name,
        "size": victim.size,
        "weights": victim.weights.label,
        "weights_sha256": victim.weights.sha256,
        "dataset": dataset,
        "sample_ids": [sample.id for sample in samples],
        "iterations": iterations,
        "clean": means(("f1", "loss"), clean),
    }
    if not as_json:
        print(f"{name} {victim.size}, weights {victim.weights.label} {victim.weights.sha256[:12]}")
        show(f"{len(samples)} forged images of {dataset}, not attacked", [found["clean"]])
    for title, section in sections.items():
        found[title] = section()
        if not as_json:
            show(title, found[title])
    found["signs"] = signs(found)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print("\nsigns of masking:", *(found["signs"] or ["none"]), sep="\n  ")


def load_samples(dataset: str, limit: int) -> list[Sample]:
    """Evenly spaced, because neighbours are of one kind and one photograph."""
    data = load_dataset(dataset, Path("advbench-data"), "test")
    rows = data.select("test", label=1)
    if not rows:
        raise click.ClickException(f"dataset {dataset}: no forged images in its test split")
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int))
    return [
        Sample(rows[k].sample_id, data.image(rows[k]), data.mask(rows[k])) for k in chosen.tolist()
    ]


def variant(victim: Victim, settings: dict[str, Any]) -> Victim:
    """The victim, its network shared, with other attributes."""
    changed = copy.copy(victim)
    for attribute, value in settings.items():
        setattr(changed, attribute, value)
    return changed


def unit(victim: Victim, image: Image) -> Tensor:
    """Return what the victim sees: float [0, 1] 1×3×H×W at its working size."""
    return to_unit(to_tensor(victim.fit(image)).to(victim.device))


def target(x: Tensor, truth: Mask) -> Tensor:
    """The truth at the size of ``x``, 1×1×H×W of its type."""
    at_size = fit_mask(truth, np.empty((*x.shape[2:], 3), np.uint8))
    return torch.from_numpy(at_size).to(x)[None, None]


def score(victim: Victim, x: Tensor, truth: Mask) -> tuple[float, float]:
    """F1 under f1/v1, and the attacks' loss, of float [0, 1] 1×3×H×W."""
    with torch.inference_mode():
        probability = victim.probabilities(x)[0, 0].float().cpu().numpy()
        loss = float(localization_loss(victim.logits(x), target(x, truth)))
    return protocol("f1/v1").f1_of_map(probability, truth, victim.threshold), loss


def means(names: Sequence[str], rows: Sequence[Sequence[float]]) -> dict[str, float]:
    """Mean of each column; an undefined F1 does not count."""
    return dict(zip(names, np.nanmean(np.array(rows), axis=0).tolist(), strict=True))


def pgd(victim: Victim, sample: Sample, phi: float, iterations: int) -> tuple[Image, Tensor, float]:
    """The stored image, the float one before rounding (1×3×H×W), and the share of steps whose
    gradient was zero everywhere."""
    image = victim.fit(sample.image)
    truth = torch.from_numpy(fit_mask(sample.truth, image))[None]
    alpha = 1 if 1 <= phi <= 4 else phi / 4
    attack = advbench.load_attack("pgd", eps=phi, iterations=iterations, alpha=alpha)
    (result,) = attack.run(victim, to_tensor(image), truth, [sample.id]).values()
    detail = result.details[0]
    stored = result.images[0].permute(1, 2, 0).numpy()
    return stored, detail.float_image[None], detail.zero_gradients / iterations


def attacked(
    attacker: Victim, judge: Victim, samples: Sequence[Sample], phi: float, *, iterations: int
) -> dict[str, float]:
    """White-box PGD. Rounding takes all of a φ below 1 and some of any other, so F1 is given with
    it (``f1``) and without (``f1_float``); the loss is without."""
    rows = []
    for sample in samples:
        stored, floats, zero_steps = pgd(attacker, sample, phi, iterations)
        after, _ = score(judge, unit(judge, stored), sample.truth)
        before, loss = score(judge, floats.to(judge.device), sample.truth)
        rows.append((after, before, loss, zero_steps))
    return means(("f1", "f1_float", "loss", "zero_steps"), rows)


def transfers(victim: Victim, samples: Sequence[Sample], iterations: int, device: str) -> Rows:
    """Images made on each victim with built-in weights. ``f1_resized`` is without noise, at the
    sizes that the images went through; ``f1_source`` is what their own victim says of them."""
    sources = {victim.name: victim}
    for name in VICTIMS.standard():
        if name != victim.name:
            try:
                sources[name] = advbench.load_victim(name, device=device)
            except AdvbenchError as error:
                print(f"no transfer from {error}", file=sys.stderr)
    found = []
    for name, source in sources.items():
        rows = []
        for sample in samples:
            stored, _, _ = pgd(source, sample, PHI, iterations)
            passed = source.fit(sample.image)
            rows.append(
                (
                    score(victim, unit(victim, passed), sample.truth)[0],
                    *score(victim, unit(victim, stored), sample.truth),
                    score(source, unit(source, stored), sample.truth)[0],
                )
            )
        columns = ("f1_resized", "f1", "loss", "f1_source")
        found.append({"source": name, **means(columns, rows)})
    return found


def zero_share(victim: Victim, samples: Sequence[Sample]) -> float:
    """Share of the elements of the images' gradients that are exactly zero."""
    shares = []
    for sample in samples:
        x = unit(victim, sample.image)
        with deterministic_mode(victim.network):
            gradient = InputGradient(victim, target(x, sample.truth))(x)
        shares.append(float((gradient == 0).float().mean()))
    return float(np.mean(shares))


def finite_differences(
    victim: Victim,
    settings: Sequence[dict[str, Any]],
    samples: Sequence[Sample],
    directions: int,
) -> Rows:
    """Error of ∇J·d against central differences of J in float64, relative to the largest of both
    and ‖∇J‖, d the gradient's sign and random signs."""
    exact = copy.deepcopy(victim)
    exact.network.double()
    found = []
    for setting in settings:
        errors: dict[tuple[str, str], list[float]] = {}
        for sample in samples:
            collect(variant(exact, setting), sample, directions, errors)
        found += [
            setting
            | {"span": span, "along": along}
            | {"median": float(np.median(values)), "worst": max(values)}
            for (span, along), values in errors.items()
        ]
    return found


def collect(
    victim: Victim, sample: Sample, directions: int, errors: dict[tuple[str, str], list[float]]
) -> None:
    """Add one image's errors, by span and kind of direction."""
    x = to_tensor(victim.fit(sample.image)).to(victim.device).double() / 255
    y = target(x, sample.truth)

    def loss(at: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(victim.logits(at), y)

    x.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    ways = [("sign", gradient.sign())]
    for number in range(directions):
        stream = torch_stream("masked gradients", sample.id, number)
        signs = torch.randint(0, 2, x.shape, generator=stream) * 2 - 1
        ways.append(("random", signs.to(x)))
    with torch.no_grad():
        for span, h in SPANS.items():
            for along, way in ways:
                numeric = float((loss(x + h * way) - loss(x - h * way)) / (2 * h))
                predicted = float((gradient * way).sum())
                # Along random signs the derivative is about ‖∇J‖ in size, and near zero by chance.
                largest = max(abs(numeric), abs(predicted), float(gradient.norm()))
                error = abs(numeric - predicted) / largest if largest else 0.0
                errors.setdefault((span, along), []).append(error)


def signs(found: dict[str, Any]) -> list[str]:
    """List what speaks for masked gradients."""
    told = []
    exact = [row for row in found["finite_differences"] if row["span"] == "1e-8"][-2:]
    if max(row["median"] for row in exact) > EXACT:
        told.append("finite differences are not autograd's")
    for sweep in ("phi", "steps"):
        for low, high in pairwise(found[sweep]):
            if high["loss"] < low["loss"] * (1 - SLACK):
                told.append(f"the loss falls from {sweep} = {low[sweep]:g} to {high[sweep]:g}")
    for row in found["phi"]:
        if row["phi"] >= 32 and row["f1"] > BROKEN * found["clean"]["f1"]:
            told.append(f"F1 is {row['f1']:.3f} at φ = {row['phi']:g}")
    own, *others = found["transfer"]
    for row in others:
        if row["f1"] < own["f1"] - SLACK:
            told.append(f"images made on {row['source']} are stronger than its own")
    default, *variants = found["gradients"]
    if default["zero_share"] > 0.5 or default["zero_steps"] > 0:
        told.append(f"{default['zero_share']:.0%} of the gradient is exactly zero")
    for row in variants:
        if row["f1"] < default["f1"] - SLACK or row["loss"] > default["loss"] * (1 + SLACK):
            told.append(f"the attack is stronger with {row['clip']}, margin {row['margin']:g}")
    return told


def show(title: str, rows: Rows) -> None:
    """A plain table."""
    cells = [list(rows[0])]
    cells += [
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
        for row in rows
    ]
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    print(f"\n{title.replace('_', ' ')}")
    for line in cells:
        print(" ", "  ".join(f"{cell:>{w}}" for cell, w in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main()
