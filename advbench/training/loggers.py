"""Send the training curve to TensorBoard or Weights & Biases, where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from advbench.errors import AdvbenchError
from advbench.files import write_atomically

if TYPE_CHECKING:
    from advbench.training.task import Epoch

Logger = Literal["tensorboard", "wandb"]
Log = Callable[["Epoch"], None]


def check_loggers(names: Sequence[Logger]) -> None:
    """Complain of a logger that is not installed.

    Raises:
        AdvbenchError: it is not; the message says how to install it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise AdvbenchError(f"--log {name} needs the package {name}: pip install {name}")


@contextmanager
def loggers(names: Sequence[Logger], folder: Path, settings: Mapping[str, Any]) -> Iterator[Log]:
    """Open loggers; the function takes each epoch, and they are closed at the end.

    Args:
        folder: of the training run. TensorBoard's files go into ``tensorboard`` there; the id by
            which Weights & Biases goes on with a resumed run into ``wandb-id``.
        settings: what the run was started with.
    """
    check_loggers(names)
    with ExitStack() as stack:
        logs = [stack.enter_context(_LOGGERS[name](folder, settings)) for name in names]

        def log(epoch: Epoch) -> None:
            values = {"loss": epoch.loss, **epoch.scores, "learning_rate": epoch.learning_rate}
            for each in logs:
                each(values, epoch.epoch + 1)

        yield log


_Write = Callable[[Mapping[str, float], int], None]


@contextmanager
def _tensorboard(folder: Path, settings: Mapping[str, Any]) -> Iterator[_Write]:
    module = importlib.import_module("torch.utils.tensorboard")  # untyped, where it is there
    with module.SummaryWriter(folder / "tensorboard") as writer:

        def write(values: Mapping[str, float], number: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, number)
            writer.flush()

        yield write


@contextmanager
def _wandb(folder: Path, settings: Mapping[str, Any]) -> Iterator[_Write]:
    import wandb

    noted = folder / "wandb-id"
    if not noted.is_file():
        write_atomically(noted, secrets.token_hex(4).encode())
    with wandb.init(
        project="advbench",
        name=folder.name,
        id=noted.read_text(),
        resume="allow",
        dir=folder,
        config=dict(settings),
    ) as run:
        yield lambda values, number: run.log(dict(values), step=number)


_LOGGERS = {"tensorboard": _tensorboard, "wandb": _wandb}
