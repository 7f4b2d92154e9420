"""One picture of the whole story: image, mask, noise, predictions before and after."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from advbench.defenses.base import Defense
from advbench.files import write_atomically
from advbench.images import Image, to_tensor, to_unit
from advbench.pipelines.scoring import Cell, predict
from advbench.shards.reader import Originals, Shard, list_shards
from advbench.shards.schema import ADVERSARIAL
from advbench.victims.base import Victim


def draw(
    out: Path, dataset: str, victim: Victim, sample_id: str, defenses: Sequence[Defense], path: Path
) -> None:
    """Draw one image under each attack at its highest intensity and each defense's first strength.

    Rows: the original, then the attacks. Columns: image, noise (×20 around grey), the prediction
    undefended and behind each defense; the mask stands first.
    """
    entries = [e for e in list_shards(out / "shards", dataset) if e.settings.space == victim.space]
    originals = Originals(entries)
    original, truth = originals.get(sample_id)
    images: dict[str, tuple[float, str, Image]] = {}
    for entry in entries:
        settings = entry.settings
        if settings.kind != ADVERSARIAL or sample_id not in entry.sample_ids:
            continue
        assert settings.attack is not None
        assert settings.variant is not None
        name = settings.attack["attack"]
        intensity = settings.intensity or 0.0
        if intensity >= images.get(name, (-1.0, "", original))[0]:
            with Shard(entry.path) as shard:
                image = shard.adversarial(entry.sample_ids.index(sample_id), original)
            images[name] = intensity, settings.variant, image
    rows = [("original", original)] + [(variant, image) for _, variant, image in images.values()]
    cells = [Cell(defense, defense.strengths[0]) for defense in defenses]
    titles = ["mask", "image", "noise ×20"] + [
        "prediction" if cell.defense.name == "none" else cell.name for cell in cells
    ]
    figure = Figure(figsize=(1.6 * len(titles), 1.7 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, (name, image) in zip(axes, rows, strict=True):
        noise = np.clip(128 + 20.0 * (image.astype(np.int16) - original), 0, 255).astype(np.uint8)
        x = to_unit(to_tensor(image).to(victim.device))
        maps = [predict(victim, cell, x, sample_id, 0) for cell in cells]
        for axis, panel in zip(line, [truth, image, noise, *maps], strict=True):
            axis.imshow(panel, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, fontsize=9)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, buffer.getvalue())
