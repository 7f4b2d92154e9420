"""Whatever runs the units: each is done once, faults arrive as they are, the dead are replaced."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from advbench.engines.local import TRIES, Local
from advbench.engines.ray import Ray
from advbench.errors import AdvbenchError


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of two workers on this machine."""
    import ray

    # Its workers import this folder's module by name.
    environment = {"env_vars": {"PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path])}}
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, runtime_env=environment)
    yield
    ray.shutdown()


@pytest.fixture(params=["here", "processes", "ray"])
def engine(request, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    if request.param == "ray":
        request.getfixturevalue("cluster")
    yield {"here": Local(), "processes": Local(workers=2), "ray": Ray()}[request.param]
    sys.modules.pop("work", None)


@pytest.fixture
def work(engine):
    """The module as the workers import it."""
    import work

    return work


def test_each_unit_is_done_once(engine, work, tmp_path):
    wanted = work.units(7)
    seen = []
    found = list(
        engine.run(work.Log(tmp_path), [*wanted, *wanted[:3]], lambda *what: seen.append(what))
    )
    assert sorted(found) == [n * n for n in range(7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}-0" for n in range(7)]
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert {total for _, _, total in seen} == {28}
    assert seen[-1][1] == 28


def test_no_units(engine, work, tmp_path):
    assert list(engine.run(work.Log(tmp_path), [], lambda *what: None)) == []


def test_a_fault_arrives_as_it_is(engine, work):
    with pytest.raises(AdvbenchError, match=r"^unit two: the disk is full; free some space$"):
        list(engine.run(work.Faulty(), work.units(4), lambda *what: None))


def test_a_worker_that_dies_is_replaced(engine, work, tmp_path):
    if engine == Local():
        pytest.skip("the one process that there is")
    found = engine.run(work.Log(tmp_path, {1: 1, 3: 1}), work.units(5), lambda *what: None)
    assert sorted(found) == [n * n for n in range(5)]
    assert len(list(tmp_path.glob("1-*"))) >= 2


def test_several_processes_take_part(engine, work, tmp_path):
    if engine == Local():
        pytest.skip("the one process that there is")
    assert all(engine.run(work.Together(tmp_path), work.units(2), lambda *what: None))


def test_a_unit_that_always_kills_is_told(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import work

    with pytest.raises(AdvbenchError, match=f"died {TRIES} times.*--workers"):
        list(Local(workers=2).run(work.Log(tmp_path, {1: 99}), work.units(3), lambda *what: None))


def test_no_cluster_at_an_address():
    pytest.importorskip("ray")
    import ray

    ray.shutdown()
    with pytest.raises(AdvbenchError, match=r"--address 127\.0\.0\.1:1: no Ray cluster"):
        list(Ray("127.0.0.1:1").run(print, [], lambda *what: None))
