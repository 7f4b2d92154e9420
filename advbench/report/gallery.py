"""The gallery of a report: telling images of each victim, as WebP within a limit of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image as PillowImage

from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError
from advbench.images import fit_mask, noise_picture
from advbench.pipelines.cells import Cell
from advbench.pipelines.evaluate import LoadVictim
from advbench.report.curves import best_strengths
from advbench.report.panels import Stored, map_of, recorded_cell
from advbench.scores.cells import defense_label
from advbench.scores.protocols import protocol
from advbench.shards.reader import ShardEntry
from advbench.victims.base import Victim

SIDE = 384  # pixels; larger images are shown smaller
_QUALITY = {"image": 80, "noise": 45, "map": 70}  # WebP quality


@dataclass
class Budget:
    """Count the bytes of pictures that a page may still take."""

    left: int

    def take(self, count: int) -> bool:
        """Spend bytes, or say that they are not there."""
        if count > self.left:
            return False
        self.left -= count
        return True


@dataclass(frozen=True)
class Picture:
    """A picture as a data address; empty where the page's bytes were spent."""

    address: str
    width: int
    height: int


@dataclass
class Example:
    """One image: why it is shown, its pictures, and the F1 under each map (None without maps)."""

    sample_id: str
    kind: str
    why: str
    original: Picture
    adversarial: Picture
    mask: Picture
    noise: Picture
    maps: list[tuple[str, Picture, float]] = field(default_factory=list)


@dataclass
class Gallery:
    """Examples of one victim on one dataset under its strongest attack.

    Attributes:
        note: what is not shown and why; empty where nothing is missing.
    """

    dataset: str
    victim: str
    weights: str
    variant: str
    defense: str
    examples: list[Example] = field(default_factory=list)
    note: str = ""


def gallery(
    scored: pd.DataFrame,
    cells: pd.DataFrame,
    entries: Sequence[ShardEntry],
    load_victim: LoadVictim | None,
    *,
    given: Sequence[Defense],
    budget: Budget,
) -> Gallery | None:
    """The gallery of one victim on one dataset; None where nothing was attacked.

    Args:
        scored: its records, with :func:`advbench.report.measures.with_clean`.
        load_victim: for the maps; without it there are none.
        given: defenses with settings of their own, such as networks.
    """
    static = cells[(cells.threat == "static") & (cells.attack != "original")]
    undefended = static[static.defense == "none"]
    if undefended.empty:
        return None
    variant = str(undefended.sort_values("f1").iloc[0].variant)
    row = scored.iloc[0]
    identity = {
        "name": str(row.victim),
        "size": str(row["size"]),
        "weights_sha256": str(row.weights_sha256),
        "weights": str(row.weights),
    }
    best = best_strengths(cells)
    best = best[best.defense != "none"]
    defended = best.iloc[0] if len(best) else None
    chosen, shown = _chosen(scored[scored.threat == "static"], variant, defended)
    found = Gallery(row.dataset, row.victim, row.weights, variant, shown)
    stored = Stored(entries, str(row.dataset), identity)
    victim: Victim | None = None
    cells_shown: list[Cell] = []
    if load_victim is None:
        found.note = "no maps: they were not asked for"
    else:
        try:
            victim = load_victim(identity)
            specifications = ['{"defense": "none"}', *({c.defense_spec for c in chosen} - {""})]
            cells_shown = [recorded_cell(text, identity, given) for text in specifications]
        except AdvbenchError as error:
            found.note = f"no maps: {error}"
    for choice in chosen:
        try:
            example = _example(choice, stored, variant, budget)
            if victim is not None:
                _add_maps(
                    example,
                    choice,
                    stored,
                    variant,
                    victim=victim,
                    cells=cells_shown,
                    protocol_id=str(row.protocol),
                    budget=budget,
                )
        except AdvbenchError as error:
            found.note = f"{choice.sample_id} is not shown: {error}"
        else:
            found.examples.append(example)
    if any(not e.original.address or not e.noise.address for e in found.examples):
        found.note = "some pictures are left out: the page's limit of bytes is reached"
    return found


@dataclass
class _Choice:
    sample_id: str
    kind: str
    why: list[str]
    f1: tuple[float, float, float]  # undefended on the original, attacked, defended
    defense_spec: str


def _chosen(
    records: pd.DataFrame, variant: str, defended: pd.Series | None
) -> tuple[list[_Choice], str]:
    """The best, median and worst image behind the defense, and the most damaged by the attack."""
    attacked = records[records.variant == variant]
    table = attacked[attacked.defense == "none"].set_index("sample_id")
    table = table[table.f1.notna() & table.clean.notna()]
    table = table.assign(defended=table.f1, spec="")
    name = "undefended"
    if defended is not None:
        same = attacked[attacked.defense == defended.defense]
        if not np.isnan(defended.strength):
            same = same[same.strength == defended.strength]
        behind = same.set_index("sample_id")
        table = table.assign(defended=behind.f1, spec=behind.defense_spec).dropna(subset="defended")
        name = defense_label(str(defended.defense), float(defended.strength))
    if table.empty:
        return [], name
    ordered = table.sort_values("defended", ascending=False, kind="stable")
    damage = (table.clean - table.f1).sort_values(ascending=False, kind="stable")
    picks = [
        ("best behind the defense", ordered.index[0]),
        ("median", ordered.index[len(ordered) // 2]),
        ("worst behind the defense", ordered.index[-1]),
        ("most damaged by the attack", damage.index[0]),
    ]
    found: dict[str, _Choice] = {}
    for why, sample_id in picks:
        row = table.loc[sample_id]
        scores = (float(row.clean), float(row.f1), float(row.defended))
        made = _Choice(str(sample_id), str(row.kind), [], scores, str(row.spec))
        found.setdefault(str(sample_id), made).why.append(why)
    return list(found.values()), name


def _example(choice: _Choice, stored: Stored, variant: str, budget: Budget) -> Example:
    original, truth = stored.originals.get(choice.sample_id)
    adversarial = stored.adversarial(variant, choice.sample_id)
    mask = fit_mask(truth, original).astype(np.uint8) * 255
    return Example(
        choice.sample_id,
        choice.kind,
        ", ".join(choice.why),
        _picture(original, "image", budget),
        _picture(adversarial, "image", budget),
        _picture(mask, "map", budget),
        _picture(noise_picture(adversarial, original), "noise", budget),
    )


def _add_maps(
    example: Example,
    choice: _Choice,
    stored: Stored,
    variant: str,
    *,
    victim: Victim,
    cells: Sequence[Cell],
    protocol_id: str,
    budget: Budget,
) -> None:
    original, truth = stored.originals.get(choice.sample_id)
    adversarial = stored.adversarial(variant, choice.sample_id)
    rule = protocol(protocol_id)
    shown = [
        ("map of the original", cells[0], original),
        ("map after the attack", cells[0], adversarial),
    ]
    shown += [(f"map behind {cell.name}", cell, adversarial) for cell in cells[1:]]
    for title, cell, image in shown:
        probability = map_of(victim, cell, image, choice.sample_id)
        f1 = rule.f1_of_map(probability, truth, victim.threshold)
        levels = (255 * probability).round().astype(np.uint8)
        example.maps.append((title, _picture(levels, "map", budget), f1))


def _picture(levels: npt.NDArray[np.uint8], kind: str, budget: Budget) -> Picture:
    height, width = levels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(levels, size, interpolation=cv2.INTER_AREA) if scale < 1 else levels
    buffer = io.BytesIO()
    PillowImage.fromarray(small).convert("RGB").save(
        buffer, "WEBP", quality=_QUALITY[kind], method=4
    )
    text = base64.b64encode(buffer.getvalue()).decode()
    address = f"data:image/webp;base64,{text}"
    return Picture(address if budget.take(len(address)) else "", *size)
