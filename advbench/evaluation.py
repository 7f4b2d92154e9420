"""The result of an evaluation in Python: records, tables and pictures of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from advbench.defenses.base import Defense
from advbench.inference.devices import torch_device
from advbench.pipelines.cells import cells_before
from advbench.pipelines.config import EvaluateConfig
from advbench.pipelines.evaluation_job import EvaluationCounts
from advbench.pipelines.provenance import victim_identity
from advbench.pipelines.verbs import load_identified
from advbench.scores.protocols import protocol
from advbench.scores.records import read_records
from advbench.scores.tables import long_table, wide_table
from advbench.victims.base import Victim

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Evaluation:
    """Give the records, tables and pictures of what :func:`advbench.evaluate` scored.

    Attributes:
        config: what was asked for.
        counts: how many cells were scored, reused and left out.
    """

    def __init__(
        self,
        config: EvaluateConfig,
        defenses: Sequence[Defense],
        victims: Sequence[Victim],
        counts: EvaluationCounts,
        *,
        samples: frozenset[str] | None = None,
        variants: frozenset[str] | None = None,
    ) -> None:
        self.config, self.counts = config, counts
        self._defenses = [*config.build_defenses(), *defenses]
        self._victims = list(victims)
        self._samples, self._variants = samples, variants

    def __repr__(self) -> str:
        return (
            f"Evaluation({self.counts.scored} scored, {self.counts.reused} were there; "
            f".records, .table(), .show(i), .figure())"
        )

    def __str__(self) -> str:
        """Give the tables as ``advbench evaluate`` prints them: F1, below it RP."""
        from advbench.cli.tables import tables_of

        return tables_of(self.records).text()

    @property
    def records(self) -> pd.DataFrame:
        """One row an image × victim × variant × defense, as ``records/`` holds them."""
        found = read_records(self.config.out / "records")
        cells = {"none"} | {d.variant_name(s) for d in self._defenses for s in d.strengths}
        named = found.defense.where(
            found.strength.isna(), found.defense + "-" + found.strength.map("{:g}".format)
        )
        kept = named.isin(cells)
        for column, wanted in (
            ("victim", self.config.victims),
            ("dataset", self.config.datasets),
            ("sample_id", self._samples),
            ("variant", self._variants and self._variants | {"original"}),
        ):
            if wanted:
                kept &= found[column].isin(wanted)
        if self._victims:
            kept &= found.weights_sha256.isin({v.weights.sha256 for v in self._victims})
        return found[kept].reset_index(drop=True)

    def table(self) -> pd.DataFrame:
        """F1 and RP (%) by victim and defense: attacks across, each the mean over intensities."""
        return wide_table(self.records)

    def show(self, image: int | str = 0) -> Figure:
        """Draw an image under each attack at its highest intensity: mask, noise and maps, with F1.

        Args:
            image: a number in the order of sample ids, or a sample id.

        Raises:
            IndexError: there is no image of that number.
            AdvbenchError: no such image.
        """
        from advbench.report.picture import picture, stored_subjects

        records = self.records
        names = sorted(records.sample_id.unique())
        sample_id = names[image] if isinstance(image, int) else image
        one = records[records.sample_id == sample_id].iloc[0] if len(records) else None
        victim = self._victim(records)
        dataset = str(one.dataset) if one is not None else ""
        subjects = stored_subjects(self.config.out, dataset, victim, [sample_id])
        rule = protocol(self.config.protocol)
        cells = cells_before(self._defenses, victim_identity(victim))
        return picture(subjects, victim, cells, rule, seed=self.config.seed)

    def figure(self) -> Figure:
        """Draw RP by attack, a bar for each defense, the mean over intensities."""
        from matplotlib.figure import Figure

        long = long_table(self.records)
        attacked = long[long.attack != "original"]
        strengths = attacked.strength.map("{:g}".format).where(attacked.strength.notna(), "")
        label = (attacked.defense + " " + strengths).str.strip()
        bars = attacked.assign(label=label).pivot_table("rp", "attack", "label", "mean", sort=False)
        figure = Figure(figsize=(1.2 * len(bars) + 3, 3.2), layout="constrained")
        axes = figure.subplots()
        bars.plot.bar(ax=axes, width=0.8, rot=0)
        axes.axhline(100, color="0.6", linewidth=0.8)
        axes.set(ylabel="RP (%)", xlabel="")
        axes.legend(title="defense", fontsize=8)
        return figure

    def _victim(self, records: pd.DataFrame) -> Victim:
        if self._victims:
            return self._victims[0]
        first = records.iloc[0]
        identity = {
            "name": str(first.victim),
            "size": str(first["size"]),
            "weights": str(first.weights),
        }
        return load_identified(identity, self.config.weights, torch_device(self.config.device))
