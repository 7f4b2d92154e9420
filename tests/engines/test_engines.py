"""Whatever runs the units: each is done once, faults arrive as they are, the dead are replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from advbench.engines.local import TRIES, Local
from advbench.engines.ray import Ray
from advbench.engines.units import WorkUnit
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


def test_work_that_is_not_there_in_a_worker(engine, work):
    if engine == Local():
        pytest.skip("nothing is unpickled")
    with pytest.raises(AdvbenchError, match=r"^net\.pth: not the file .*; copy it here$"):
        list(engine.run(work.Elsewhere(), work.units(3), lambda *what: None))


def test_work_that_cannot_be_pickled(engine, work):
    if engine == Local():
        pytest.skip("nothing is pickled")
    with pytest.raises(AdvbenchError, match=r"cannot pickle.*lock.*--workers 1"):
        list(engine.run(work.Locked(), work.units(3), lambda *what: None))


def test_work_with_tensors(engine, work):
    found = engine.run(work.Weighted(), work.units(3), lambda *what: None)
    assert sorted(found) == [0, 1, 2]


def test_several_processes_take_part(engine, work, tmp_path):
    if engine == Local():
        pytest.skip("the one process that there is")
    assert all(engine.run(work.Together(tmp_path), work.units(2), lambda *what: None))


def test_a_unit_that_always_kills_is_told(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import work

    with pytest.raises(AdvbenchError, match=f"died {TRIES} times.*--workers"):
        list(Local(workers=2).run(work.Log(tmp_path, {1: 99}), work.units(3), lambda *what: None))


def test_units_that_each_lose_a_worker(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import work

    # Slow enough for one death to be noticed before the next.
    log = work.Log(tmp_path, dict.fromkeys(range(0, 2 * TRIES, 2), 1), seconds=0.5)
    found = Local(workers=2).run(log, work.units(2 * TRIES), lambda *what: None)
    assert sorted(found) == [n * n for n in range(2 * TRIES)]


def test_processes_share_the_threads(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import work

    threads = torch.get_num_threads()
    torch.set_num_threads(7)
    try:
        found = list(Local(workers=2).run(work.Threads(), work.units(2), lambda *what: None))
    finally:
        torch.set_num_threads(threads)
    assert found == [3, 3]


def _driver(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, Path(__file__).with_name("driver.py"), *arguments]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)


def _ended(driver: subprocess.Popen[str], folder: Path) -> str:
    """What it printed; its processes write to the same pipe, so that none of them is left."""
    try:
        return driver.communicate(timeout=90)[0]
    finally:
        driver.kill()
        for path in folder.iterdir():
            with suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("dies", [(), (1,)])
def test_a_run_of_fewer_units_than_workers_ends(tmp_path, dies):
    assert _ended(_driver(tmp_path, 2, 3, 0, *dies), tmp_path) == "[0, 1]\n"


def test_processes_end_with_a_killed_run(tmp_path):
    driver = _driver(tmp_path, 4, 2, 600)
    until = time.monotonic() + 90
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    driver.kill()
    assert _ended(driver, tmp_path) == ""
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("ray", "lacks"),
    [
        (Ray(gpus=64), r"--unit-gpus 64 \(at most \d+\); ask for less"),
        (Ray(memory=10**15), r"--unit-memory 1e\+06 \(at most [\d.]+\); ask for less"),
        (Ray(gpus=64, memory=10**9), r"--unit-gpus 64 .* and --unit-memory 1 \(at most"),
    ],
)
@pytest.mark.usefixtures("cluster")
def test_no_node_has_what_is_asked(ray, lacks):
    with pytest.raises(AdvbenchError, match=lacks):
        list(ray.run(print, [WorkUnit("unit", ("1",), 1, 1)], lambda *what: None))


def test_ray_does_not_start(monkeypatch):
    ray = pytest.importorskip("ray")
    ray.shutdown()

    def failing(**options):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", failing)
    with pytest.raises(AdvbenchError, match=r"^Ray does not start .*timed out.*--engine local"):
        list(Ray().run(print, [], lambda *what: None))


def test_no_cluster_at_an_address():
    pytest.importorskip("ray")
    import ray

    ray.shutdown()
    with pytest.raises(AdvbenchError, match=r"--address 127\.0\.0\.1:1: no Ray cluster"):
        list(Ray("127.0.0.1:1").run(print, [], lambda *what: None))
