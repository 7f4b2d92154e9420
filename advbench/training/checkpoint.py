"""The state of a training run on disk: written whole after every epoch, read back to resume."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from advbench.errors import AdvbenchError
from advbench.files import write_atomically
from advbench.victims.weights import CARD_SUM, card_sha256

_MAGIC = b"advbench checkpoint 1\n"


class Checkpoint:
    """``checkpoint.pt`` and ``curve.csv`` in the folder of a run.

    Args:
        key: names all that decides the result; a checkpoint of another key is refused.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def save(self, state: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]) -> None:
        """Write the state behind its checksum, then the lines of the curve."""
        buffer = io.BytesIO()
        torch.save({"key": self.key, **state}, buffer)
        data = buffer.getvalue()
        head = _MAGIC + hashlib.sha256(data).hexdigest().encode() + b"\n"
        write_atomically(self.folder / "checkpoint.pt", head + data)
        self.write_curve(curve)

    def write_curve(self, curve: Sequence[Mapping[str, Any]]) -> None:
        """Write the lines of the curve; also on resuming, since a kill may have come before it."""
        write_atomically(self.folder / "curve.csv", curve_csv(curve))

    def load(self) -> dict[str, Any] | None:
        """The state, or None where nothing was trained yet.

        Raises:
            AdvbenchError: not the bytes that were written, or of another recipe, dataset, victim
                or size.
        """
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return None
        state = read_state(path)
        if state.get("key") != self.key:
            raise AdvbenchError(
                f"{path}: belongs to another recipe, dataset, victim or size; "
                "give another --to, or remove it"
            )
        return state


def read_state(path: Path) -> dict[str, Any]:
    """Read what :meth:`Checkpoint.save` wrote, its checksum first.

    Raises:
        AdvbenchError: one bit or more differs from what was written, or something is missing.
    """
    content = path.read_bytes()
    head, data = content[: len(_MAGIC) + 65], content[len(_MAGIC) + 65 :]
    if head != _MAGIC + hashlib.sha256(data).hexdigest().encode() + b"\n":
        raise AdvbenchError(f"{path}: damaged; remove it to train from the beginning")
    state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state


def write_weights(
    path: Path,
    state: Mapping[str, Tensor],
    card: Mapping[str, Any],
    curve: Sequence[Mapping[str, Any]],
) -> Path:
    """Write safetensors to ``path``, and beside them the card, completed by what follows from the
    state and by its own checksum, and the curve."""
    data = save({key: value.contiguous() for key, value in state.items()})
    complete = {
        **card,
        "sha256": hashlib.sha256(data).hexdigest(),
        "seconds": round(sum(line["seconds"] for line in curve)),
        "torch": torch.__version__.partition("+")[0],
    }
    complete[CARD_SUM] = card_sha256(complete)
    write_atomically(path, data)
    write_atomically(path.with_suffix(".json"), (json.dumps(complete, indent=2) + "\n").encode())
    write_atomically(path.with_suffix(".curve.csv"), curve_csv(curve))
    return path


def curve_csv(curve: Sequence[Mapping[str, Any]]) -> bytes:
    """The lines of a training curve, numbers at five significant digits."""
    buffer = io.StringIO()
    if curve:
        writer = csv.DictWriter(buffer, list(curve[0]), lineterminator="\n")
        writer.writeheader()
        for line in curve:
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in line.items()})
    return buffer.getvalue().encode()
