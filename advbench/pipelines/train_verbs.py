"""Run ``train victim``, ``train ansm`` and ``train relocalise`` from their configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from advbench.config import Config
from advbench.defenses.ansm.recipe import AnsmRecipe, preset
from advbench.defenses.ansm.training import Start
from advbench.defenses.relocalise.training import RelocaliseRecipe
from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.inference.devices import torch_device
from advbench.pipelines import train, train_ansm
from advbench.pipelines.config import (
    TrainAnsmConfig,
    TrainingConfig,
    TrainRelocaliseConfig,
    TrainVictimConfig,
)
from advbench.pipelines.load import load_dataset
from advbench.pipelines.train_relocalise import train_relocalise
from advbench.progress import Feedback, Silent
from advbench.registry import VICTIMS
from advbench.training.loggers import check_loggers, loggers
from advbench.training.loop import TrainingRun
from advbench.training.recipe import Recipe
from advbench.training.task import Epoch
from advbench.victims.base import Victim


def train_victim(
    config: TrainVictimConfig,
    feedback: Feedback | None = None,
    processes: Processes | None = None,
) -> Path:
    """Train a victim, or resume after the last finished epoch; the weights' path.

    Raises:
        AdvbenchError: an unknown name or field, no training or no validation split, weights that
            do not fit.
    """
    feedback, processes, device = _begun(config, feedback, processes)
    cls = VICTIMS.get(config.victim)
    recipe = Recipe.parse("recipe", cls.recipes.get(config.size, {}) | config.recipe)
    start = (
        cls.load(size=config.size, weights=config.start, device=device) if config.start else None
    )
    data = load_dataset(config.dataset, config.out, "train", feedback)

    def told(epoch: Epoch) -> str:
        return (
            f"epoch {epoch.epoch + 1}/{recipe.epochs}: loss {epoch.loss:.4f}, "
            f"validation F1 {epoch.scores['val_f1']:.4f}"
        )

    name = f"{config.victim}-{config.size}-{data.id}"
    with _run(config, recipe, name, told, feedback=feedback, processes=processes) as run:
        return train.train_victim(
            cls,
            config.size,
            data,
            recipe,
            run=run,
            fresh=config.fresh or 0,
            photographs=config.photographs,
            device=device,
            start=start,
        )


def train_ansm_for(
    config: TrainAnsmConfig, feedback: Feedback | None = None, processes: Processes | None = None
) -> Path:
    """Train ANSM for a victim, or resume after the last finished epoch; the weights' path.

    Raises:
        AdvbenchError: as :func:`train_victim`.
    """
    feedback, processes, device = _begun(config, feedback, processes)
    victim = config.choice.load(config.victim, device)
    recipe = AnsmRecipe.parse("recipe", preset(config.victim, victim.size) | config.recipe)
    size = config.size or victim.size
    start = Start.read(config.start, size, recipe.upsampling) if config.start else None
    data = load_dataset(config.dataset, config.out, "train", feedback)
    epochs = recipe.epochs_first + recipe.epochs_mgr

    def told(epoch: Epoch) -> str:
        return (
            f"epoch {epoch.epoch + 1}/{epochs} ({epoch.stage}): loss {epoch.loss:.4g}, "
            f"validation RP {epoch.scores['val_rp_original']:.1f} on originals, "
            f"{epoch.scores['val_rp_fgsm']:.1f} on FGSM"
        )

    name = f"ansm-{config.victim}-{size}-{data.id}"
    with _run(config, recipe, name, told, feedback=feedback, processes=processes) as run:
        return train_ansm.train_ansm(
            victim,
            size,
            data,
            recipe,
            run=run,
            shards=config.out / "shards",
            limit=config.limit,
            fresh=config.fresh or 0,
            photographs=config.photographs,
            progress=feedback.counting("FGSM pairs", "images"),
            start=start,
        )


def train_relocalise_for(
    config: TrainRelocaliseConfig,
    feedback: Feedback | None = None,
    processes: Processes | None = None,
) -> Path:
    """Train relocalise for a victim, or resume after the last finished epoch; the weights' path.

    Raises:
        AdvbenchError: as :func:`train_victim`, or the localizer is the victim or is not shipped.
    """
    feedback, processes, device = _begun(config, feedback, processes)
    victim = config.choice.load(config.victim, device)
    localizer = _localizer(config, victim)
    sides = {key: side for key, side in preset(victim.name, victim.size).items() if key == "crop"}
    recipe = RelocaliseRecipe.parse("recipe", sides | config.recipe)
    data = load_dataset(config.dataset, config.out, "train", feedback)

    def told(epoch: Epoch) -> str:
        return (
            f"epoch {epoch.epoch + 1}/{recipe.epochs}: loss {epoch.loss:.4f}, "
            f"agreement with {localizer.name} {epoch.scores['val_agreement']:.4f}"
        )

    name = f"relocalise-{config.victim}-{victim.size}-{data.id}"
    with _run(config, recipe, name, told, feedback=feedback, processes=processes) as run:
        return train_relocalise(
            victim,
            localizer,
            data,
            recipe,
            run=run,
            fresh=config.fresh or 0,
            photographs=config.photographs,
        )


def _localizer(config: TrainRelocaliseConfig, victim: Victim) -> Victim:
    """Load the localizer whose map is drawn, with its shipped weights."""
    name = config.localizer or ("ifosn" if victim.name == "mvssnet" else "mvssnet")
    localizer: Victim = VICTIMS.get(name).load(device=str(victim.device))
    if localizer.weights.sha256 == victim.weights.sha256:
        raise AdvbenchError(f"--localizer {name}: the victim itself; give another victim")
    return localizer


def _begun(
    config: TrainingConfig, feedback: Feedback | None, processes: Processes | None
) -> tuple[Feedback, Processes, str]:
    """Check what every training is given, and fill in what was left out; with its device."""
    if config.photographs and not config.fresh:
        raise AdvbenchError("--photographs is an option of --fresh; add --fresh 600")
    check_loggers(config.log)
    processes = processes or Processes()
    return feedback or Silent(), processes, processes.device or torch_device(config.device)


@contextmanager
def _run(
    config: TrainingConfig,
    recipe: Config,
    name: str,
    told: Callable[[Epoch], str],
    *,
    feedback: Feedback,
    processes: Processes,
) -> Iterator[TrainingRun]:
    """Open the loggers of a run, which tells each epoch to them and to the user.

    Args:
        name: of the run's folder below ``runs``, where the configuration names none.
        told: the line of an epoch, but for its seconds.
    """
    folder = config.to or Path("runs") / name
    # Of several processes only the first has loggers.
    with loggers(() if processes.rank else config.log, folder, recipe.model_dump()) as log:

        def report(epoch: Epoch) -> None:
            log(epoch)
            feedback.note(f"{told(epoch)}, {epoch.seconds:.0f} s")

        yield TrainingRun(
            folder,
            report,
            feedback.counting("training", "steps"),
            feedback.counting("calibrating", "images"),
            processes,
        )
