"""Score a random sample of a submission's records again, from shards."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError
from advbench.images import pixels_sha256
from advbench.inference.numerics import deterministic_mode
from advbench.pipelines.evaluate import LoadVictim
from advbench.report.panels import Stored, map_of, recorded_cell
from advbench.scores.protocols import protocol
from advbench.shards.store import ShardStore
from advbench.submissions.check import TOLERANCE, Checked

_IDENTITY = ["victim", "size", "weights_sha256", "weights"]


def rerun(
    checked: Checked,
    out: Path,
    count: int,
    load_victim: LoadVictim,
    *,
    given: Sequence[Defense] = (),
    seed: int | None = None,
) -> pd.DataFrame:
    """Decode, defend and score some of the defense's records again.

    Args:
        out: an output folder with shards of the same images.
        count: how many records; those of all victims and variants are drawn from.
        given: defenses with settings of their own, such as networks.
        seed: draws the sample; by default nobody knows it beforehand.

    Returns:
        the records that were drawn, with ``again``, their F1 here.

    Raises:
        AdvbenchError: an image or the defense is not here, or an F1 differs by more than
            ``TOLERANCE``.
    """
    own = checked.records[checked.records.defense == checked.claims.defense]
    drawn = own.sample(min(count, len(own)), random_state=seed or secrets.randbelow(1 << 32))
    entries = ShardStore(out / "shards").entries(checked.claims.dataset)
    found = []
    for key, part in drawn.groupby(_IDENTITY):
        values = (str(value) for value in key)
        identity = dict(zip(("name", "size", "weights_sha256", "weights"), values, strict=True))
        stored = Stored(entries, checked.claims.dataset, identity)
        victim = load_victim(identity)
        with deterministic_mode(victim.network):
            for row in part.to_dict("records"):
                cell = recorded_cell(row["defense_spec"], identity, given)
                image, truth = stored.originals.get(row["sample_id"])
                if row["variant"] != "original":
                    image = stored.adversarial(row["variant"], row["sample_id"])
                name = f"{row['sample_id']} under {row['variant']} before {row['victim']}"
                if pixels_sha256(image) != row["image_sha256"]:
                    raise AdvbenchError(f"{name}: another image than the one that was scored")
                rule = protocol(row["protocol"])
                probability = map_of(victim, cell, image, row["sample_id"])
                at_truth = rule.at_truth_size(probability, truth)
                f1 = rule.f1(rule.counts(at_truth, truth, victim.threshold))
                if not np.isclose(f1, row["f1"], rtol=0, atol=TOLERANCE, equal_nan=True):
                    raise AdvbenchError(
                        f"{name}: F1 behind {cell.name} is {f1:.4f} here, {row['f1']:.4f} there"
                    )
                found.append(row | {"again": f1})
    return pd.DataFrame(found)
