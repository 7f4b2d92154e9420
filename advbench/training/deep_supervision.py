"""Deep supervision: throw-away heads that let the inner layers of a decoder learn from masks.

A decoder without normalisation may pass on next to nothing at first, and its last layer learns to
mark nothing. A 1×1 head on each tapped map (Lee et al., "Deeply-Supervised Nets", AISTATS 2015)
asks it for the mask at its own size. The heads are dropped after training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.training.taps import show_black_image
from advbench.victims.base import Victim
from advbench.victims.objective import localization_loss


class DeepSupervision(nn.Module):
    """The heads, listening to the middle and topmost taps of a victim."""

    def __init__(self, victim: Victim, crop: int) -> None:
        super().__init__()
        self._maps: dict[str, Tensor] = {}
        for name, module in (victim.taps("middle") | victim.taps("topmost")).items():
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: self._maps.update({name: output})
            )
        show_black_image(victim, crop)
        self._names = [name for name, found in self._maps.items() if found.ndim == 4]
        self.heads = nn.ModuleList(
            [nn.Conv2d(self._maps[name].shape[1], 1, 1) for name in self._names]
        )

    def loss(self, masks: Tensor, dice_weight: float) -> Tensor:
        """Mean over the heads of what the objective asks of the last map, for the images that the
        victim saw last; masks N×1×H×W are averaged to each head's size."""
        losses = []
        for name, head in zip(self._names, self.heads, strict=True):
            logits = head(self._maps[name])
            at_size = F.adaptive_avg_pool2d(masks, (*logits.shape[2:],))
            losses.append(localization_loss(logits, at_size, dice_weight))
        return torch.stack(losses).mean()
