"""Checkpoint files: what is read, what is refused in one line, and that nothing runs."""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors
from torch import nn

from advbench.errors import AdvbenchError
from advbench.victims import checkpoints
from advbench.victims.checkpoints import read_checkpoint

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([0.5, -2])}
SETTINGS = argparse.Namespace(lr=1e-4, gpu="0")
OPTIMIZER = {"state": {0: {"step": 7, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]}


def saved(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def legacy(content: object) -> bytes:
    return saved(content, _use_new_zipfile_serialization=False)


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return buffer.getvalue()


def zip_of(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_pickle(content: bytes) -> bytes:
    """A file of torch.save whose pickle is another."""
    with zipfile.ZipFile(io.BytesIO(saved(STATE))) as archive:
        there = {member.filename: archive.read(member) for member in archive.infolist()}
    return zip_of({n: content if n.endswith("data.pkl") else c for n, c in there.items()})


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(nn.ReLU()), buffer)
    return buffer.getvalue()


def refusal(path: Path) -> str:
    with pytest.raises(AdvbenchError) as refused:
        read_checkpoint(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message.removeprefix(str(path))) < 300
    return message


FORMATS = {
    "zip": lambda: saved(STATE),
    "legacy": lambda: legacy(STATE),
    "safetensors": lambda: save_safetensors(STATE),
    "code": lambda: saved(
        {"episode": 3, "state_dict": STATE, "optimizer": OPTIMIZER, "args": SETTINGS}
    ),
    "code, legacy": lambda: legacy({"state_dict": STATE, "args": SETTINGS}),
    "imdlbenco": lambda: saved({"model": STATE, "optimizer": OPTIMIZER, "args": SETTINGS}),
    "common name": lambda: saved({"model_state_dict": STATE, "loss": 0.25}),
    "moving average": lambda: saved({"ema": {"module": STATE}, "epoch": 3}),
    "nested twice": lambda: saved({"state_dict": {"state_dict": STATE}}),
    "in a zip": lambda: zip_of({"best.pth": saved(STATE)}),
    "legacy in a zip": lambda: zip_of({"run/best.pth": legacy(STATE)}),
}


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
@pytest.mark.parametrize("form", FORMATS)
def test_formats_are_told_by_content(tmp_path, form, name):
    path = tmp_path / name
    path.write_bytes(FORMATS[form]())
    sha256, state = read_checkpoint(path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


def test_allow_list_is_as_before(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(FORMATS["code"]())
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(path)
    assert set(torch.serialization.get_safe_globals()) == before
    assert argparse.Namespace not in before


class MakesFolder:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize(
    "write",
    [
        saved,
        legacy,
        lambda trap: saved({"state_dict": STATE, "epoch": trap}),
        lambda trap: legacy({"state_dict": STATE, "epoch": trap}),
        lambda trap: saved({"state_dict": STATE, "args": argparse.Namespace(x=trap)}),
        lambda trap: pickle.dumps(trap, protocol=2),
    ],
)
def test_nothing_runs(tmp_path, write):
    made = tmp_path / "made"
    path = tmp_path / "w.pth"
    path.write_bytes(write(MakesFolder(made)))
    assert f"needs the global {os.mkdir.__module__}.mkdir, which is not loaded" in refusal(path)
    assert not made.exists()
    pickle.loads(pickle.dumps(MakesFolder(made)))
    assert made.exists(), "the trap is one"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Path("runs"), "pathlib"),
        (np.float64(0.5), ".multiarray.scalar"),
        (nn.Conv2d(1, 1, 1), "torch.nn.modules.conv.Conv2d"),
    ],
)
def test_other_globals_are_named(tmp_path, value, name):
    path = tmp_path / "w.pth"
    path.write_bytes(saved({"state_dict": STATE, "best": value}))
    message = refusal(path)
    assert "needs the global " in message
    assert name in message
    assert message.endswith("re-save the weights as a plain state_dict")


# Reasons in the words of torch and safetensors, which change, are left out.
UNREADABLE = {
    "empty": (lambda: b"", "it is empty"),
    "text": (lambda: b"not weights", "it begins with b'not weights'"),
    "web page": (lambda: b"<!DOCTYPE html>", "it begins with b'<!DOCTYPE html>'"),
    "binary": (lambda: bytes(range(1, 200)), "it begins with"),
    "braces": (lambda: b"version {a text}", "it begins with"),
    "truncated zip": (lambda: saved(STATE)[:-40], ""),
    "start of a zip": (lambda: saved(STATE)[:4], ""),
    "truncated legacy": (lambda: legacy(STATE)[:-10], ""),
    "start of a legacy": (lambda: legacy(STATE)[:60], ""),
    "truncated safetensors": (lambda: save_safetensors(STATE)[:-4], ""),
    "start of a safetensors": (lambda: save_safetensors(STATE)[:20], ""),
    "zip without pickle": (lambda: zipped("w/readme.txt"), "a zip archive of 1 files"),
    "zip of a flat file": (lambda: zipped("readme.txt"), "a zip archive of 1 files"),
    "zip of two weights files": (
        lambda: zip_of({"a.pth": saved(STATE), "b.pth": saved(STATE)}),
        "a zip archive of 2 files, none of them the content of a torch.save; unpack it",
    ),
    "zip that grows": (lambda: zip_of({"a.pth": bytes(50 << 20)}), "that holds 52,428,800"),
    "global with a long name": (
        lambda: with_pickle(b"\x80\x02c" + b"a" * 200_000 + b"\nb\nq\x00."),
        "its pickle holds a text of 200,002 characters",
    ),
    "legacy global with a long name": (
        lambda: b"\x80\x02c" + b"a" * 200_000 + b"\nb\nq\x00.",
        "its pickle holds a text of 200,002 characters",
    ),
    "pickle of absurd size": (lambda: with_pickle(bytes(70 << 20)), "that holds"),
    "empty zip": (zipped, "a zip archive of 0 files"),
    "pickle of another protocol": (lambda: pickle.dumps({"a": 1}, protocol=4), ""),
    "script": (scripted, "TorchScript"),
}
NO_STATE = {
    "list": (lambda: saved([1, 2]), "its content is of type list"),
    "tensor": (lambda: saved(torch.ones(2)), "its content is of type Tensor"),
    "settings alone": (lambda: saved(SETTINGS), "its content is of type Namespace"),
    "empty": (lambda: saved({}), "it is empty"),
    "empty safetensors": (lambda: save_safetensors({}), "it is empty"),
    "empty inside": (lambda: saved({"state_dict": {}, "episode": 1}), "it is empty"),
    "nested four times": (
        lambda: saved({"model": {"model": {"model": {"model": STATE}}}}),
        "'model' is of type dict",
    ),
    "under another key": (lambda: saved({"weights": STATE}), "'weights' is of type dict"),
    "number": (lambda: saved(STATE | {"step": 1}), "'step' is of type int"),
    "no name": (lambda: saved({0: torch.ones(1)}), "key 0 is no text"),
    "sparse": (lambda: saved({"a": torch.eye(3).to_sparse()}), "'a' is no dense tensor"),
    "meta": (lambda: saved({"a": torch.ones(2, device="meta")}), "'a' is no dense tensor"),
    "complex": (lambda: saved({"a": torch.ones(2) * 1j}), "'a' is quantized or complex"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable(tmp_path, case):
    path = tmp_path / "w.pth"
    write, reason = UNREADABLE[case]
    path.write_bytes(write())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        message = refusal(path)
    assert not told
    assert "not a weights file that can be read (" in message
    assert reason in message
    assert "weights_only set to False" not in message


@pytest.mark.parametrize("case", NO_STATE)
def test_no_state_dict(tmp_path, case):
    path = tmp_path / "w.pth"
    write, reason = NO_STATE[case]
    path.write_bytes(write())
    assert f"holds no state_dict ({reason}); give a file of network weights" in refusal(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_damaged_bytes_are_read_or_refused(tmp_path, form):
    """200 files of which some bytes are others: no other error than ours."""
    generator = np.random.default_rng(0)
    whole = np.frombuffer(FORMATS[form](), np.uint8)
    path = tmp_path / "w.pth"
    refused = 0
    for _ in range(200):
        damaged = whole.copy()
        at = generator.integers(0, len(whole), 6)
        damaged[at] = generator.integers(0, 256, 6)
        path.write_bytes(damaged.tobytes())
        try:
            read_checkpoint(path)
        except AdvbenchError as error:
            refused += "\n" not in str(error)
    assert refused > 50


def test_paths(tmp_path):
    assert "is a folder, not a weights file" in refusal(tmp_path)
    assert "no such weights file; give --weights" in refusal(tmp_path / "nothing.pth")
    assert "File name too long" in refusal(tmp_path / ("n" * 300))
    assert "is a pipe or a device" in refusal(Path(os.devnull))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_file_without_permission(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(saved(STATE))
    path.chmod(0)
    assert "cannot be read (Permission denied)" in refusal(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_tensors_are_those_of_the_sum(tmp_path, monkeypatch, form):
    """Another file put in place after the sum was taken is not what is loaded."""
    path, other = tmp_path / "w.pth", tmp_path / "other.pth"
    path.write_bytes(FORMATS[form]())
    other.write_bytes(saved({"other": torch.ones(1)}))
    digest = hashlib.file_digest

    def replaced(file, name):
        found = digest(file, name)
        other.replace(path)
        return found

    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(checkpoints.hashlib, "file_digest", replaced)
    sha256, state = read_checkpoint(path)
    assert sha256 == expected
    assert state.keys() == STATE.keys()


def test_pipes_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    assert "is a pipe or a device, not a weights file" in refusal(tmp_path / "pipe.pth")
    assert "is a pipe or a device, not a weights file" in refusal(Path("/dev/zero"))
