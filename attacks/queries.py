"""Attacks that see nothing of a victim but its output map, at a stated number of queries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import BoundedAttack
from advbench.attacks.losses import dice
from advbench.attacks.strength import damage
from advbench.rng import torch_stream

Keys = Sequence[tuple[object, ...]]


class QueryAttack(BoundedAttack):
    """The loop: propose noise, ask, keep it in the rows where the score rises.

    Attributes:
        queries: maps that are asked for, per image and φ.
    """

    needs_gradients: ClassVar[bool] = False

    queries: Annotated[int, Field(ge=1, le=1_000_000)] = 100

    def brief(self, steps: int = 1) -> Self:
        return super().brief().model_copy(update={"queries": steps})

    def passes(self) -> int:
        return len(self.eps) * self.queries

    @abstractmethod
    def score(self, logits: Tensor, y: Tensor, threshold: float) -> Tensor:
        """Say how well each row is attacked, R values; larger is better for the attacker."""

    @abstractmethod
    def propose(self, signs: Tensor, number: int, streams: Sequence[torch.Generator]) -> Tensor:
        """Give the signs R×3×H×W of the next query.

        Args:
            signs: the best so far; anything at the first query.
            number: of the query, from 0.
            streams: one a row.
        """

    def perturb_rows(self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Keys) -> Tensor:
        streams = [torch_stream(*key, "queries") for key in keys]
        best = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
        signs = torch.zeros_like(x)
        for number in range(self.queries):
            gradient.runner.check_cancelled()
            proposed = self.propose(signs, number, streams)
            images = gradient.kept_in_region((x + eps * proposed).clamp(0, 1), x)
            with torch.no_grad():
                logits = gradient.victim.logits_for(images, [(*key, number) for key in keys])
                score = self.score(logits, gradient.y, gradient.victim.threshold).double().to(best)
            better = score > best
            signs = torch.where(better.view(-1, 1, 1, 1), proposed, signs)
            best = torch.where(better, score, best)
            if number == 0:
                gradient.loss_first = score.float()
        gradient.loss_last = best.float()
        return gradient.kept_in_region((x + eps * signs).clamp(0, 1), x)


class Square(QueryAttack):
    """Square attack (Andriushchenko et al., ECCV 2020) on 1 − soft F1: squares of one colour of
    noise at random places, ever smaller, kept where the score rises.

    Attributes:
        share: part of the image that the first squares cover.
    """

    name: ClassVar[str] = "square"

    queries: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    share: Annotated[float, Field(gt=0, le=1)] = 0.8

    def score(self, logits: Tensor, y: Tensor, threshold: float) -> Tensor:
        return dice(logits, y, threshold, 0.0)

    def propose(self, signs: Tensor, number: int, streams: Sequence[torch.Generator]) -> Tensor:
        height, width = signs.shape[2:]
        if number == 0:
            stripes = [_signs((3, 1, width), stream) for stream in streams]
            return torch.stack(stripes).expand(-1, -1, height, -1).to(signs).contiguous()
        area = self._share_at(number) * height * width
        side = min(max(round(area**0.5), 1), height, width)
        proposed = signs.clone()
        for row, stream in enumerate(streams):
            top = int(torch.randint(0, height - side + 1, (1,), generator=stream))
            left = int(torch.randint(0, width - side + 1, (1,), generator=stream))
            colour = _signs((3, 1, 1), stream).to(signs)
            proposed[row, :, top : top + side, left : left + side] = colour
        return proposed

    def _share_at(self, number: int) -> float:
        """Halved at the numbers of queries of the paper, for a budget of 10,000 scaled to ours."""
        at = 10_000 * number / self.queries
        halvings = sum(at > bound for bound in (10, 50, 200, 1000, 2000, 4000, 6000, 8000))
        return self.share / 2**halvings


class Stripes(QueryAttack):
    """A decision-based attack after the idea of discrete linear noise: it sees the binary map.

    A fifth of the queries tries random stripes along rows and along columns in turn; the rest flips
    the sign of blocks of lines of the best pattern, the whole, halves, quarters and so on, and
    keeps a flip where F1 + MCC at the threshold falls.
    """

    name: ClassVar[str] = "stripes"

    def score(self, logits: Tensor, y: Tensor, threshold: float) -> Tensor:
        return damage(logits, y, threshold)

    def propose(self, signs: Tensor, number: int, streams: Sequence[torch.Generator]) -> Tensor:
        height, width = signs.shape[2:]
        tries = max(1, self.queries // 5)
        if number < tries:
            shape = (3, height, 1) if number % 2 else (3, 1, width)
            drawn = torch.stack([_signs(shape, stream) for stream in streams])
            return drawn.expand(-1, -1, height, width).to(signs).contiguous()
        flip = number - tries
        along_rows, place = flip % 2 == 0, flip // 2
        lines = height if along_rows else width
        parts = 1
        while place >= parts:  # 1 block, then 2, 4, …, up to one a line
            place -= parts
            parts = 2 * parts if 2 * parts <= lines else 1
        start, stop = place * lines // parts, (place + 1) * lines // parts
        proposed = signs.clone()
        block = (
            (slice(start, stop), slice(None)) if along_rows else (slice(None), slice(start, stop))
        )
        proposed[:, :, *block] *= -1
        return proposed


def _signs(shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=stream).float() * 2 - 1
