"""Measure what victims are worth: F1, what ordinary processing leaves of it, false alarms, attacks.

    python benchmarks/victim_robustness.py --victim ifosn [--weights PATH] [--dataset builtin2]
        [--split test] [--limit 80] [--attacked 40] [--oracle] [--csv FILE]

RP is F1 in percent of the victim's F1 on the same images as they are, with the central 95 % of a
bootstrap over source photographs. ``--oracle`` leaves a share t of each attack's noise: what a
defense could reach that does nothing but subtract noise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import pandas as pd
import torch

import advbench
from advbench.codec import through_jpeg
from advbench.datasets.builtin.processing import noisy, rescaled
from advbench.datasets.dataset import Dataset
from advbench.images import Image, Mask, to_tensor, to_unit
from advbench.pipelines.load import load_dataset
from advbench.rng import numpy_stream
from advbench.scores.intervals import Bootstrap
from advbench.victims.base import Victim

ATTACKS = {"fgsm": (1, 3), "bim": (1, 3), "pgd": (1, 3), "mifgsm": (3,)}
SHARES = (0.5, 0.25, 0.1)


def _signs(image: Image, name: str) -> Image:
    signs = 2 * numpy_stream("signs", name).integers(0, 2, image.shape) - 1
    return np.clip(image + 3 * signs, 0, 255).astype(np.uint8)


PROCESSING: dict[str, Callable[[Image, str], Image]] = {
    "JPEG 70": lambda image, name: through_jpeg(image, 70),
    "resize 0.7": lambda image, name: rescaled(image, 70),
    "median 3": lambda image, name: np.asarray(cv2.medianBlur(image, 3), dtype=np.uint8),
    "noise 2": lambda image, name: noisy(image, 20, numpy_stream("n2", name)),
    "noise 5": lambda image, name: noisy(image, 50, numpy_stream("n5", name)),
    "signs 3": _signs,
}


@click.command()
@click.option("--victim", "name", default="ifosn")
@click.option("--weights", default="builtin")
@click.option("--dataset", default="builtin2")
@click.option("--split", type=click.Choice(["val", "test"]), default="test")
@click.option("--limit", type=int, help="Forged images [all].")
@click.option("--attacked", type=int, help="How many of them are attacked [all].")
@click.option("--oracle", is_flag=True)
@click.option("--out", type=click.Path(path_type=Path), default="advbench-data")
@click.option("--csv", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True)
def main(
    name: str,
    weights: str,
    dataset: str,
    split: str,
    *,
    limit: int | None,
    attacked: int | None,
    oracle: bool,
    out: Path,
    csv: Path | None,
    as_json: bool,
) -> None:
    """Print the table, and write it as CSV."""
    victim = advbench.load_victim(name, size="small", weights=weights)
    data = load_dataset(dataset, out, split)
    rows = data.select(split, label=1, limit=limit)
    pairs = [(victim.fit(data.image(row)), data.mask(row)) for row in rows]
    names, groups = [row.sample_id for row in rows], [row.source_group for row in rows]
    clean = scores(victim, pairs)
    table = Table(clean, groups)
    table.plain("F1", clean)
    table.plain("F1 of all marked", [2 * m.mean() / (1 + m.mean()) for _, m in pairs])
    for what, process in PROCESSING.items():
        changed = [(process(image, i), m) for (image, m), i in zip(pairs, names, strict=True)]
        table.against_clean(what, scores(victim, changed))
    if data.select(split, label=0):
        table.plain("marked, authentic", marked(victim, data, split))
    few = slice(0, attacked)
    attack_all(victim, pairs[few], names[few], table, oracle=oracle)
    if csv:
        table.frame.to_csv(csv, index=False)
    if as_json:
        print(table.frame.to_json(orient="records"))
        return
    print(f"{name} {victim.weights.sha256[:12]} on {dataset} {split}: {len(pairs)} forged images")
    print(table.frame.to_string(index=False))


class Table:
    """Figures with intervals over photographs."""

    def __init__(self, clean: np.ndarray, groups: list[str]) -> None:
        self._clean, self._groups = clean, groups
        self._rows: list[dict[str, object]] = []

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows)

    def plain(self, what: str, values: np.ndarray | list[float]) -> None:
        """A mean in percent."""
        found = np.asarray(values)
        interval = None
        if len(found) == len(self._groups):
            bootstrap = Bootstrap(self._groups)
            interval = bootstrap.interval(bootstrap.means(found))
        self._add(what, found.mean(), interval, len(found))

    def against_clean(self, what: str, values: np.ndarray) -> None:
        """RP: the ratio of the means over the same images."""
        n = len(values)
        clean, bootstrap = self._clean[:n], Bootstrap(self._groups[:n])
        drawn = bootstrap.means(values) / np.maximum(bootstrap.means(clean), 1e-9)
        share = values.mean() / clean.mean() if clean.any() else np.nan
        self._add(f"RP, {what}", share, bootstrap.interval(drawn), n)

    def _add(self, what: str, value: float, interval: object, n: int) -> None:
        low, high = (100 * end for end in interval) if interval else (np.nan, np.nan)
        row = {"what": what, "percent": 100 * value, "low": low, "high": high}
        self._rows.append({k: round(v, 1) if k != "what" else v for k, v in row.items()} | {"n": n})


@torch.inference_mode()
def forged(victim: Victim, image: torch.Tensor) -> Mask:
    """The map of one image, float 1×3×H×W, at the victim's threshold."""
    return victim.probabilities(image)[0, 0].numpy() > victim.threshold


def f1(found: Mask, truth: Mask) -> float:
    """Pixel F1."""
    return 2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1)


def scores(victim: Victim, pairs: list[tuple[Image, Mask]]) -> np.ndarray:
    """F1 of each image."""
    return np.array([f1(forged(victim, to_unit(to_tensor(i))), m) for i, m in pairs])


def marked(victim: Victim, data: Dataset, split: str) -> list[float]:
    """Share of each authentic image that is marked."""
    images = [victim.fit(data.image(row)) for row in data.select(split, label=0)]
    return [float(forged(victim, to_unit(to_tensor(image))).mean()) for image in images]


def attack_all(
    victim: Victim, pairs: list[tuple[Image, Mask]], names: list[str], table: Table, *, oracle: bool
) -> None:
    """Attack every image at the intensities of :data:`ATTACKS`."""
    for attack_name, eps in ATTACKS.items():
        attack = advbench.load_attack(attack_name, eps=eps)
        found: dict[str, list[float]] = {}
        for (image, mask), name in zip(pairs, names, strict=True):
            original = to_tensor(image)
            masks = torch.from_numpy(mask.copy())[None]
            for variant, adversarial in attack(victim, original, masks, [name]).items():
                noise = to_unit(adversarial) - to_unit(original)
                for share in (1.0, *(SHARES if oracle else ())):
                    what = variant if share == 1 else f"{variant}, {share:g} of its noise"
                    left = to_unit(original) + share * noise
                    found.setdefault(what, []).append(f1(forged(victim, left), mask))
        for what, values in found.items():
            table.against_clean(what, np.array(values))


if __name__ == "__main__":
    main()
