"""Toy victims whose gradients are known, small pictures, and attacks with small settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import HealthCheck, settings
from torch import Tensor, nn

from advbench.attacks.apgd import APGD
from advbench.attacks.base import Attack
from advbench.attacks.batch import Result
from advbench.attacks.bim import BIM
from advbench.attacks.cw import CW
from advbench.attacks.fgsm import FGSM
from advbench.attacks.gradient import InputGradient
from advbench.attacks.mifgsm import MIFGSM
from advbench.attacks.pgd import PGD
from advbench.attacks.pgn import PGN
from advbench.inference.runner import BatchRunner
from advbench.victims.base import Depth, Size, Victim
from advbench.victims.weights import Weights

LINEAR_WEIGHTS = (0.9, -0.7, 0.4)

# For hypothesis on a busy machine.
patient = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


class Toy(Victim):
    """A victim that is its network alone; ``watch`` is shown each stack of images first."""

    name = "toy"

    def __init__(
        self,
        network: nn.Module,
        watch: Callable[[Tensor], None] | None = None,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(network, Weights("0" * 64, "toy"), "small")
        self.watch = watch
        self.reentrant = watch is None
        self.threshold = threshold

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        raise NotImplementedError

    def logits(self, images: Tensor) -> Tensor:
        if self.watch:
            self.watch(images)
        return self.network(images)

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        return {}


class Flat(nn.Module):
    """Logits that hang on the image in the graph, and on nothing in value."""

    def forward(self, images: Tensor) -> Tensor:
        return images.sum(1, keepdim=True) * 0


def linear(bias: float = 0.1, scale: float = 1.0) -> nn.Module:
    """z = scale·w·x + bias at each pixel."""
    network = nn.Conv2d(3, 1, 1)
    with torch.no_grad():
        network.weight.copy_(scale * torch.tensor(LINEAR_WEIGHTS).view(1, 3, 1, 1))
        network.bias.fill_(bias)
    return network


class Sine(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.sin()


def wavy_net(seed: int = 0) -> nn.Sequential:
    """A smooth convolutional network with fixed random weights, logits of about ±2, and gradients
    that change sign within a grey level or two."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), Sine(), nn.Conv2d(6, 1, 3, padding=1, bias=False)
        )
        network[0].weight.data.normal_(0, 20)
        network[2].weight.data.normal_(0, 0.4)
    return network


def linear_sign() -> Tensor:
    """sign(w) of :func:`linear`, 1×3×1×1."""
    return torch.tensor(LINEAR_WEIGHTS).sign().view(1, 3, 1, 1)


class GivenGradient(InputGradient):
    """A gradient that a test computes."""

    def __init__(self, function: Callable[[Tensor], Tensor], y: Tensor | None = None) -> None:
        super().__init__(Toy(linear()), torch.zeros(1, 1, 1, 1) if y is None else y)
        self._function = function

    def __call__(self, x: Tensor) -> Tensor:
        return self._function(x)


@dataclass(frozen=True)
class Pictures:
    """uint8 images with black and white columns, random masks, and names."""

    images: Tensor
    masks: Tensor
    ids: list[str]

    @property
    def x(self) -> Tensor:
        return self.images.float() / 255

    @property
    def y(self) -> Tensor:
        return self.masks[:, None].float()

    def take(self, index: list[int]) -> Pictures:
        return Pictures(self.images[index], self.masks[index], [self.ids[i] for i in index])

    def attacked(self, attack: Attack, victim: Victim, **settings: int) -> dict[str, Result]:
        return attack.run(victim, self.images, self.masks, self.ids, **settings)


def sized(batch: int) -> BatchRunner:
    """A runner that starts with so many rows at once."""
    return BatchRunner(torch.device("cpu")).sized("a test", batch)


def pictures(count: int = 3, height: int = 7, width: int = 11, seed: int = 0) -> Pictures:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, height, width), generator=stream)
    images[..., 0], images[..., -1] = 0, 255
    masks = torch.rand((count, height, width), generator=stream) < 0.5
    return Pictures(images.byte(), masks, [f"picture-{index}" for index in range(count)])


def floats(result: Result) -> Tensor:
    """The images before they were put on the grid."""
    return torch.stack([item.float_image for item in result.details])


BOUNDED: dict[str, Attack] = {
    "fgsm": FGSM(eps=(1, 3)),
    "bim": BIM(eps=(1, 3), iterations=4),
    "pgd": PGD(eps=(1, 3), iterations=4, alpha="eps/8"),
    "pgd-grid": PGD(eps=(1, 3), iterations=4, alpha="eps/8", random_start="grid"),
    "mifgsm": MIFGSM(eps=(1, 3), iterations=4),
    "pgd-dice": PGD(eps=(1, 3), iterations=3, loss="dice", restarts=2),
    "pgd-forged": PGD(eps=(1, 3), iterations=3, region="forged"),
    "apgd": APGD(eps=(1, 3), iterations=6, restarts=2),
    "pgn": PGN(eps=(1, 3), iterations=3, neighbours=3, alpha="eps/T", zeta=20),
}
OPTIMISED: dict[str, Attack] = {
    "cw": CW(steps=(4, 12), lr=2e-3),
    "cw-gd": CW(steps=(4, 12), lr=5e-5, optimizer="gd", project="final"),
    "cw-hinge": CW(steps=(4, 12), lr=2e-3, variant="hinge"),
}
ALL = BOUNDED | OPTIMISED
