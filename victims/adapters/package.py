"""Victims whose networks another package builds: ``PREFIX:NAME``."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from advbench.errors import AdvbenchError, first_line
from advbench.plugins import import_package
from advbench.registry import VICTIMS
from advbench.victims.adapters.module import ModuleVictim
from advbench.victims.base import Size
from advbench.victims.weights import load_network_weights


class PackageVictim(ModuleVictim):
    """A localizer of a package that the user has installed; the package is imported when used.

    Attributes:
        package: what is imported.
        installation: how a user gets it, in a phrase.
    """

    package: ClassVar[str]
    installation: ClassVar[str]

    @classmethod
    @abstractmethod
    def build(cls) -> nn.Module:
        """Build the network with random weights; downloads nothing."""

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        """Build the one size there is.

        Raises:
            AdvbenchError: another size, or the package is missing or cannot build it.
        """
        if size != "full":
            raise AdvbenchError(f"victim {cls.name}: has the full size only")
        try:
            return cls.build()
        except AdvbenchError:
            raise
        except Exception as error:  # of a stranger's code
            raise AdvbenchError(
                f"victim {cls.name}: {cls.package} cannot build it "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error

    @classmethod
    def load(
        cls,
        size: Size | None = None,
        weights: str | None = "builtin",
        device: str = "cpu",
        seed: int = 0,
    ) -> Self:
        """Build the network and load a checkpoint of the package, or random weights for None.

        Raises:
            AdvbenchError: as :meth:`build_network`; no weights were given, or they do not fit.
        """
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = cls.build_network(size or "full")
        described = load_network_weights(
            network, cls.name, "full", weights, seed=seed, dead_keys=cls.dead_keys
        )
        network = network.to(device)
        for module in network.modules():
            # Some keep the device that they saw when they were built.
            if isinstance(getattr(module, "device", None), torch.device):
                vars(module)["device"] = torch.device(device)
        victim = cls(network, described)
        named = weights if weights is None else str(Path(weights).resolve())
        # By name: the class of a name is made on the spot.
        victim._remake = (load_again, (cls.name, ("full", named, seed), described.sha256))
        return victim

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._remake is None:
            raise TypeError(f"victim {self.name}: a changed copy cannot be pickled")
        return self._remake

    @classmethod
    def imported(cls, module: str) -> Any:
        """A module of the package.

        Raises:
            AdvbenchError: it is missing, or something that it needs is.
        """
        hint = f"{cls.installation}; see docs/other-localizers.md"
        return import_package(module, f"victim {cls.name}", hint)


def load_again(name: str, source: tuple[Size, str | None, int], sha256: str) -> Any:
    from advbench.victims.base import _load_again as load_class

    return load_class(VICTIMS.get(name), source, sha256)
