"""One picture of the whole story: image, mask, noise, maps before and after, F1 under each."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from advbench.attacks.base import Attack
from advbench.errors import AdvbenchError
from advbench.escaping import visible
from advbench.files import write_atomically
from advbench.images import Image, Mask, fit_mask, noise_picture, to_tensor
from advbench.pipelines.cells import Cell
from advbench.pipelines.provenance import victim_identity
from advbench.report.panels import Stored, map_of
from advbench.scores.protocols import Protocol
from advbench.shards.store import ShardStore
from advbench.victims.base import Victim

FORMATS = ("png", "pdf")


@dataclass(frozen=True)
class Subject:
    """An image and what attacks made of it.

    Attributes:
        original: uint8 H×W×3 at the victim's working size.
        truth: bool at the ground truth's own size; None where it is unknown.
        attacked: adversarial images by variant, such as ``pgd-3``.
    """

    sample_id: str
    original: Image
    truth: Mask | None
    attacked: dict[str, Image]


def stored_subjects(
    out: Path,
    dataset: str,
    victim: Victim,
    sample_ids: Sequence[str] = (),
    *,
    attacks: Sequence[str] = (),
) -> list[Subject]:
    """Read subjects from the shards below an output folder; see :func:`each_subject`."""
    return list(each_subject(out, dataset, victim, sample_ids, attacks=attacks))


def each_subject(
    out: Path,
    dataset: str,
    victim: Victim,
    sample_ids: Sequence[str] = (),
    *,
    attacks: Sequence[str] = (),
) -> Iterator[Subject]:
    """Read subjects from the shards below an output folder, one at a time.

    Args:
        sample_ids: with or without the dataset's name in front; the first image where empty.
        attacks: attacks, each at its highest intensity, or variants; all attacks where empty.

    Raises:
        AdvbenchError: no such image, or no such attack of it.
    """
    entries = ShardStore(out / "shards").entries(dataset)
    stored = Stored(entries, dataset, victim_identity(victim))
    known = stored.sample_ids
    if not known:
        raise AdvbenchError(
            f"{out / 'shards'}: no images of {dataset} attacked for {victim.name} with weights "
            f"{victim.weights.label}; make some with advbench generate"
        )
    for name in sample_ids or known[:1]:
        sample_id = name if name in known else f"{dataset}/{name}"
        if sample_id not in known:
            raise AdvbenchError(
                f"{name}: neither a file nor an attacked image of {dataset}; there are "
                f"{', '.join(known[:3])}{' …' if len(known) > 3 else ''}"
            )
        chosen = _highest(list(stored.variants_of(sample_id)), attacks)
        original, truth = stored.originals.get(sample_id)
        attacked = {variant: stored.adversarial(variant, sample_id) for variant in chosen}
        yield Subject(sample_id, original, truth, attacked)


def made_subject(
    victim: Victim,
    attacks: Sequence[Attack],
    image: Image,
    truth: Mask | None,
    *,
    sample_id: str,
    seed: int = 0,
) -> Subject:
    """Attack an image of one's own.

    Args:
        image: uint8 H×W×3, of any size.
        truth: bool H×W; where it is None the victim's own map, thresholded, is attacked.
    """
    original = victim.fit(image)
    if truth is None:
        with torch.inference_mode():
            map_ = victim.probabilities(to_tensor(original).to(victim.device).float() / 255)
        attacked_mask = (map_[0, 0] > victim.threshold).cpu()
    else:
        attacked_mask = torch.from_numpy(fit_mask(truth, original))
    found: dict[str, Image] = {}
    for attack in attacks:
        images = attack(victim, to_tensor(original), attacked_mask[None], [sample_id], seed=seed)
        found |= {name: made[0].permute(1, 2, 0).numpy() for name, made in images.items()}
    return Subject(sample_id, original, truth, found)


def picture(
    subjects: Sequence[Subject],
    victim: Victim,
    cells: Sequence[Cell],
    protocol: Protocol,
    *,
    seed: int = 0,
) -> Figure:
    """Draw subjects: the original and each variant down; across the mask, the image, its noise
    (×20 around grey), the undefended map and that behind each cell, with F1.

    Args:
        cells: defenses at a strength; ``none`` is drawn first, given or not.
        seed: of random defenses.
    """
    from advbench.defenses.none import NoDefense

    defended = [cell for cell in cells if cell.defense.name != "none"]
    shown = [Cell(NoDefense(), None), *defended]
    titles = ["mask", "image", "noise × 20", "undefended", *(f"behind {c.name}" for c in defended)]
    lines = [
        (subject, name, image)
        for subject in subjects
        for name, image in {"original": subject.original, **subject.attacked}.items()
    ]
    figure = Figure(figsize=(1.75 * len(titles) + 0.5, 1.95 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(lines), len(titles), squeeze=False)
    for row, (subject, name, image) in zip(axes, lines, strict=True):
        first = name == "original"
        label = f"{_short(subject.sample_id)}\n{name}" if first and len(subjects) > 1 else name
        row[0].set_ylabel(visible(label) if "\n" not in label else label, parse_math=False)
        truth = subject.truth
        _panel(row[0], np.zeros(image.shape[:2]) if truth is None else truth)
        if truth is None:
            row[0].set_xlabel("unknown", color="0.35", fontsize=8)
        _panel(row[1], image)
        _panel(row[2], noise_picture(image, subject.original))
        for axis, cell in zip(row[3:], shown, strict=True):
            probability = map_of(victim, cell, image, subject.sample_id, seed=seed)
            _panel(axis, probability)
            if truth is not None:
                f1 = protocol.f1_of_map(probability, truth, victim.threshold)
                text = "F1 undefined" if math.isnan(f1) else f"F1 {f1:.3f}"
                axis.set_xlabel(text, fontsize=8)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9, parse_math=False)
    about = f"{victim.name}, weights {visible(victim.weights.label)}"
    if len(subjects) == 1:
        about = f"{_short(subjects[0].sample_id)}, {about}"
    figure.suptitle(about, fontsize=10, parse_math=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or PDF, by the path's ending; the same figure gives the same bytes.

    Raises:
        AdvbenchError: another ending.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise AdvbenchError(f"{path}: pictures end in .{' or .'.join(FORMATS)}")
    buffer = io.BytesIO()
    metadata = {"CreationDate": None} if kind == "pdf" else {"Software": None}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # scripts without a font
        figure.savefig(buffer, format=kind, dpi=110, metadata=metadata)
    write_atomically(path, buffer.getvalue())


def _panel(axis: Axes, panel: np.ndarray) -> None:
    axis.imshow(panel, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def _short(sample_id: str) -> str:
    name = visible(sample_id.rpartition("/")[2] or sample_id)
    return name if len(name) <= 40 else f"{name[:37]}…"


def _highest(variants: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Keep of each attack the variant with the highest intensity, and those named."""
    highest: dict[str, tuple[float, str]] = {}
    for variant in variants:
        base, _, through = variant.partition("@")
        attack, _, intensity = base.rpartition("-")
        try:
            found = (float(intensity), variant)
        except ValueError:
            attack, found = base, (0.0, variant)
        key = f"{attack}@{through}" if through else attack
        highest[key] = max(highest.get(key, found), found)
    if not wanted:
        return [variant for _, variant in highest.values()]
    for name in wanted:
        if name not in highest and name not in variants:
            raise AdvbenchError(
                f"{name}: no such attack of it there; there are {', '.join(variants)}"
            )
    return [name if name in variants else highest[name][1] for name in wanted]
