"""Checkpoint files: bytes → state_dict, running nothing that a file holds."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from warnings import catch_warnings, simplefilter

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from advbench.errors import AdvbenchError
from advbench.victims.archives import check_pickles, unpacked

# Where training scripts put the weights among episode, optimizer and settings; a moving average is
# taken where there is nothing else.
_NESTED_UNDER = (
    *("state_dict", "model", "model_state_dict", "net", "network", "module"),
    *("ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema_model"),
)
_DEEPEST = 3
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_SAFETENSORS_HEADER_LIMIT = 100_000_000


def read_checkpoint(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The sha256 of a file's bytes and its tensors on the CPU, their keys as they are in the file.

    The format is told by the content: safetensors, or what any ``torch.save`` wrote. The file is
    opened once, so the tensors are those of the sum.

    Raises:
        AdvbenchError: it cannot be read, would need code to be run, or holds no state_dict.
    """
    remedy = "give --weights the path of a checkpoint"
    try:
        if not path.is_file():
            fault = "is a folder" if path.is_dir() else "is a pipe or a device"
            fault = f"{fault}, not a weights file" if path.exists() else "no such weights file"
            raise AdvbenchError(f"{path}: {fault}; {remedy}")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            content = _content(path, file)
    except OSError as error:
        raise AdvbenchError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    return sha256, _state(path, content)


def refuse_diverged(path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Complain of values that are not finite at the precision of the network's ``own``.

    Raises:
        AdvbenchError: a tensor holds NaN or infinity.
    """
    for key, value in state.items():
        if not value.to(own[key].dtype).isfinite().all():
            raise AdvbenchError(
                f"{path}: {key} holds NaN or infinity; give weights whose training did not diverge"
            )


def _content(path: Path, file: BinaryIO) -> Any:
    try:
        file = unpacked(file)
        head = file.read(24)
        file.seek(0)
        # Asked first: the length that a safetensors file begins with may look like a pickle.
        if _is_safetensors(head):
            return load_safetensors(file.read())
        if head.startswith((_ZIP, _PICKLE)):
            check_pickles(file)
            # CoDE's file holds its settings in a Namespace: allowed here, and looked at nowhere.
            with torch.serialization.safe_globals([argparse.Namespace]), catch_warnings():
                simplefilter("ignore")  # torch's remarks on old formats
                return torch.load(file, map_location="cpu", weights_only=True)
        fault = f"it begins with {head!r}" if head else "it is empty"
    except AdvbenchError as error:
        fault = str(error)
    except Exception as error:  # damaged bytes make the parsers raise errors of many types
        needed = re.search(r"GLOBAL (\S{1,80})", str(error))
        if needed:
            raise AdvbenchError(
                f"{path}: needs the global {needed[1]}, which is not loaded since it could run "
                "code; re-save the weights as a plain state_dict"
            ) from error
        fault = _reason(error)
    raise AdvbenchError(
        f"{path}: not a weights file that can be read ({fault}); give one that torch.save or "
        "safetensors wrote"
    )


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _SAFETENSORS_HEADER_LIMIT


def _reason(error: Exception) -> str:
    """Say what the parser found, without torch's advice to read the file unsafely."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    text = re.sub(r"^(Weights only load failed\.|\[enforce fail[^]]*\] \.) ", "", text)
    return re.split(r"\. |\n", text)[0][:120] or type(error).__name__


def _state(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, dict):
        for _ in range(_DEEPEST):
            nested = (content.get(key) for key in _NESTED_UNDER)
            content = next((value for value in nested if isinstance(value, dict)), content)
    fault = _fault(content)
    if fault:
        raise AdvbenchError(
            f"{path}: holds no state_dict ({fault}); give a file of network weights"
        )
    return dict(content)


def _fault(content: Any) -> str | None:
    """Say why this is no state_dict, None where it is one."""
    if not isinstance(content, dict):
        return f"its content is of type {type(content).__name__}"
    if not content:
        return "it is empty"
    for key, value in content.items():
        if not isinstance(key, str):
            return f"key {key!r:.80} is no text"
        if not isinstance(value, Tensor):
            return f"{key!r:.80} is of type {type(value).__name__}"
        if value.layout != torch.strided or value.is_nested or value.is_meta:
            return f"{key!r:.80} is no dense tensor"
        if value.is_quantized or value.is_complex():
            return f"{key!r:.80} is quantized or complex"
    return None
