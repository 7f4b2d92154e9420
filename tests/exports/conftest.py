"""Fixtures: a small store, exported; and no way to the network."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.exports.stores import Store, add_dataset

# Before `datasets` is imported: it reads them once.
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a test of exports wants to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing the disks of a busy machine takes longer than all else."""
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs; four variants; shards of two; one difference that does not fit in int8."""
    out = tmp_path_factory.mktemp("made") / "out"
    add_dataset(out, "data")
    return out


@pytest.fixture
def store(made_once: Path, tmp_path: Path) -> Store:
    """A copy of it, without a manifest."""
    shutil.copytree(made_once, tmp_path / "out")
    return Store(tmp_path / "out")


@pytest.fixture
def exported(store: Store, tmp_path: Path) -> Callable[..., Path]:
    """``exported(format, name, **options)``: images are allowed; returns the folder."""
    store.manifest()

    def run(kind: str, name: str = "export", **options: object) -> Path:
        store.export(kind, tmp_path / name, **options)
        return tmp_path / name

    return run
