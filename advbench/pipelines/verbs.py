"""Run ``generate`` and ``evaluate`` from their configuration: names become objects here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from advbench.attacks.base import Attack
from advbench.defenses.base import Defense
from advbench.engines.units import Engine
from advbench.errors import AdvbenchError
from advbench.inference.devices import torch_device
from advbench.inference.fast import with_numerics
from advbench.pipelines import generate as making
from advbench.pipelines.config import OF_ANSM, EvaluateConfig, GenerateConfig
from advbench.pipelines.load import load_dataset
from advbench.pipelines.provenance import victim_identity
from advbench.progress import Feedback, Silent
from advbench.registry import VICTIMS
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim

if TYPE_CHECKING:
    from advbench.pipelines.evaluate import EvaluationCounts


@dataclass(frozen=True)
class Generated:
    """Hold what ``generate`` did before one victim.

    Attributes:
        dataset: its name in shards and records, such as ``builtin-val``.
        sample_ids: the images, in order.
        counts: adversarial images made and found, passes, seconds.
    """

    victim: Victim
    dataset: str
    sample_ids: tuple[str, ...]
    counts: making.GenerationCounts


def generate(
    config: GenerateConfig,
    *,
    victims: Sequence[Victim] = (),
    attacks: Sequence[Attack] = (),
    feedback: Feedback | None = None,
    engine: Engine | None = None,
) -> list[Generated]:
    """Make the adversarial images that are missing.

    Args:
        victims: loaded ones, beside those that the configuration names.
        attacks: specifications, beside those that the configuration names.

    Raises:
        AdvbenchError: no victim or no attack, weights given for several victims, no such images,
            and what :func:`advbench.pipelines.generate.generate` raises.
    """
    feedback = feedback or Silent()
    wanted = [*config.build_attacks(), *attacks]
    if not wanted or not (config.victims or victims):
        raise AdvbenchError("nothing to generate: give at least one victim and one attack")
    data = load_dataset(config.dataset, config.out, config.split, feedback)
    rows = config.rows(data)
    if not rows:
        raise AdvbenchError(f"dataset {config.dataset}: {config.no_rows}")
    networks = {"weights": config.ansm_weights} if config.ansm_weights else {}
    defended = dict.fromkeys(OF_ANSM, networks)
    device = torch_device(config.device)
    named = (choice.load(name, device) for name, choice in config.victims.items())
    found = []
    for victim in (*victims, *named):
        numeric = with_numerics(victim, config.numerics)
        job = making.GenerationJob(
            data,
            rows,
            numeric,
            config.made_against(wanted, numeric, defended),
            config.out,
            config.seed,
            config.shard_size,
            config.repair,
        )
        counts = making.generate(job, feedback.measured_in("passes"), engine)
        for warning in counts.warnings(victim.name):
            feedback.note(warning)
        names = tuple(row.sample_id for row in rows)
        found.append(Generated(victim, job.name, names, counts))
    return found


def evaluate(
    config: EvaluateConfig,
    *,
    victims: Sequence[Victim] = (),
    defenses: Sequence[Defense] = (),
    samples: frozenset[str] | None = None,
    variants: frozenset[str] | None = None,
    feedback: Feedback | None = None,
    engine: Engine | None = None,
) -> EvaluationCounts:
    """Score the cells that are missing.

    Args:
        victims: loaded ones, for shards that were made with their weights.
        defenses: specifications, beside those that the configuration names.
        samples, variants: only these images and attacks.

    Raises:
        AdvbenchError: what :func:`advbench.pipelines.evaluate.evaluate` raises.
    """
    # With pandas and pyarrow, which ``generate`` does without.
    from advbench.pipelines import evaluate as scoring

    job = scoring.EvaluationJob(
        config.out,
        [*config.build_defenses(), *defenses],
        protocol(config.protocol),
        config.victims or tuple(victim.name for victim in victims),
        config.datasets,
        config.limit,
        config.seed,
        samples,
        variants,
        where_possible=config.where_possible,
        metrics=config.metrics,
    )
    device = torch_device(config.device)

    def load(identity: dict[str, str]) -> Victim:
        for victim in victims:
            if victim_identity(victim) == identity:
                return victim
        return load_identified(identity, config.weights, device)

    report = (feedback or Silent()).measured_in("images × defenses")
    return scoring.evaluate(job, load, report, engine)


def load_identified(identity: dict[str, str], weights: str | None, device: str) -> Victim:
    """Load the victim that shards were made with.

    Raises:
        AdvbenchError: they were made with a user's own weights, and none are given.
    """
    label = identity["weights"]
    source: str | None = weights or "builtin"
    seed = 0
    if label.startswith("random:"):
        source, seed = None, int(label.removeprefix("random:"))
    elif not weights and label.startswith("file:"):
        raise AdvbenchError(
            f"victim {identity['name']}: the shards were made with a checkpoint whose sha256 "
            f"begins with {label.removeprefix('file:')}; give it with --weights PATH"
        )
    try:
        found = VICTIMS.get(identity["name"])
    except AdvbenchError as error:
        raise AdvbenchError(
            f"there are images made before victim {identity['name']!r}: {error}; give the --plugin "
            "that brings it, or name the victims to score with --victim"
        ) from error
    return found.load(size=identity["size"], weights=source, device=device, seed=seed)
