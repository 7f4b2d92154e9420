"""The Ray engine: units on one machine or a cluster; Ray schedules, and repeats what was lost.

A unit is a Ray task, so a worker or a node may be lost at any time: its tasks are done elsewhere.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from advbench.engines.units import Work, WorkUnit, not_sent, once_each
from advbench.errors import AdvbenchError, first_line
from advbench.progress import TaskProgress

T = TypeVar("T")
R = TypeVar("R")

RETRIES = 20  # of a unit whose worker dies; what it had written whole is not lost with it


@dataclass(frozen=True)
class Ray:
    """Units as Ray tasks.

    Attributes:
        address: of a cluster, ``auto`` for the one this machine belongs to; None starts one here
            that ends with the run.
        workers: how many units at once, where one is started here; as many as there are cores by
            default.
        cpus, gpus, memory: what each unit asks for; memory in bytes.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1
    gpus: float = 0
    memory: int | None = None

    def run(
        self, work: Work[T, R], units: Sequence[WorkUnit[T]], progress: TaskProgress
    ) -> Iterator[R]:
        """See :class:`advbench.engines.units.Engine`."""
        ray = self._started()
        pending = once_each(units)
        if pending:
            self._check_nodes(ray)
        total, done = sum(unit.cost for unit in pending), 0
        try:
            shared = ray.put(work)
        except TypeError as error:
            raise not_sent(
                error.__cause__ if isinstance(error.__cause__, TypeError) else error
            ) from error
        asked: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        if self.memory:
            asked["memory"] = self.memory
        task = ray.remote(_do).options(max_retries=RETRIES, **asked)
        waiting = {task.remote([shared], unit.payload): unit for unit in pending}
        try:
            while waiting:
                (reference,), _ = ray.wait(list(waiting), num_returns=1)
                unit = waiting.pop(reference)
                result = self._result(ray, reference, unit)
                done += unit.cost
                progress(unit.name, done, total)
                yield result
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def _started(self) -> Any:
        try:
            import ray
        except ImportError as error:
            raise AdvbenchError("--engine ray needs Ray: pip install 'advbench[ray]'") from error
        if ray.is_initialized():
            return ray
        try:
            _reach(self.address)
            # A cluster has its own number; with none given Ray counts this machine's cores.
            cores = math.ceil(self.workers * self.cpus) if self.workers else None
            ray.init(
                address=self.address or "local",
                num_cpus=cores,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # Ray's own may be no more than that
            if self.address is None:
                raise AdvbenchError(
                    f"Ray does not start on this machine ({first_line(error)}); take --engine "
                    "local, or give the --address of a cluster"
                ) from error
            raise AdvbenchError(
                f"--address {self.address}: no Ray cluster there ({first_line(error)}); start one "
                "with ray start --head, or leave the option out"
            ) from error
        return ray

    def _check_nodes(self, ray: Any) -> None:
        """Ray itself waits for ever, without a word, for a node that can do a unit.

        Raises:
            AdvbenchError: none of those that are up can.
        """
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        options = (
            ("--unit-gpus", "GPU", self.gpus, 1),
            ("--unit-memory", "memory", self.memory, 1e9),
        )
        asked = [(option, kind, number, scale) for option, kind, number, scale in options if number]
        if any(all(node.get(kind, 0) >= number for _, kind, number, _ in asked) for node in nodes):
            return
        lacks = []
        for option, kind, number, scale in asked:
            most = max((node.get(kind, 0) for node in nodes), default=0) / scale
            # Rounded down, so that it can be asked for.
            lacks.append(f"{option} {number / scale:g} (at most {math.floor(10 * most) / 10:g})")
        raise AdvbenchError(
            f"no node of Ray has {' and '.join(lacks)}; ask for less, or add such a node first"
        )

    def _result(self, ray: Any, reference: Any, unit: WorkUnit[Any]) -> Any:
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise AdvbenchError(
                f"{unit.name}: its worker died {RETRIES + 1} times ({first_line(error)}); give "
                "each unit more --memory (what is finished stays)"
            ) from error


def _reach(address: str | None) -> None:
    """Fail at once where nobody listens; Ray itself tries for minutes."""
    host, separator, port = (address or "").removeprefix("ray://").rpartition(":")
    if separator:
        socket.create_connection((host, int(port)), timeout=10).close()


_loaded: tuple[Any, Work[Any, Any]] | None = None


def _do(shared: list[Any], payload: Any) -> Any:
    """In a worker: the work is fetched once for all units of a run."""
    global _loaded  # noqa: PLW0603
    (reference,) = shared
    if _loaded is None or _loaded[0] != reference:
        import ray

        _loaded = None  # the victim of the run before, first
        try:
            _loaded = reference, ray.get(reference)
        except ray.exceptions.RaySystemError as error:
            # Of unpickling it: Ray keeps the fault itself inside.
            raise (error.client_exc if isinstance(error.client_exc, Exception) else error) from None
    return _loaded[1](payload, lambda cost: None)
