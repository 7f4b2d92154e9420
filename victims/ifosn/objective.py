"""Train IF-OSN: localization of pictures that went through a simulated social network.

Wu, Zhou, Tian, Liu, "Robust Image Forgery Detection over Online Social Network Shared Images",
CVPR 2022: predictable noise (the platform's processing, ended by JPEG) and unseen noise ξ (the
detector's own gradient signs). The authors learn the platform's processing with a U-Net from pairs
of uploads and downloads; here it is JPEG at a random quality, which needs no such data.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from advbench.images import to_tensor, to_unit
from advbench.victims.base import Victim
from advbench.victims.objective import Objective, localization_loss

if TYPE_CHECKING:
    from advbench.training.recipe import Recipe

SHARE = 0.5
QUALITIES = (75, 98)
# 4/255 of the authors' range [-1, 1].
UNSEEN = 2 / 255
STORED = 5


class SocialNetwork(Objective):
    """Cross-entropy and soft Dice; half of the crops pass the simulated network.

    ξ is the sum of the gradient signs of up to five batches before, times 2/255, limited to
    ±2/255.

    The authors start from ImageNet's encoder. From random weights, JPEG hides what there is to be
    learnt, so ``warm_share`` of the epochs train on the crops as they are.
    """

    staged = True

    def __init__(self, victim: Victim, recipe: Recipe) -> None:
        super().__init__(victim, recipe)
        self._signs: deque[Tensor] = deque(maxlen=STORED)
        self._warm = False

    def start_epoch(self, number: int) -> None:
        # What a checkpoint does not hold must not reach into the next epoch.
        self._signs.clear()
        self._warm = not self.may_end(number)

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        shared = torch.rand(len(images)) < (0 if self._warm else SHARE)
        images = images.clone()
        images[shared] = recompressed(images[shared])
        images.requires_grad_()
        images.register_hook(self._store)  # type: ignore[no-untyped-call]
        noisy = (images + self._unseen(images) * shared.to(images)[:, None, None, None]).clamp(0, 1)
        self._seen = noisy.detach()
        return localization_loss(self.victim.logits(noisy), masks, self.recipe.dice)

    def seen(self, images: Tensor) -> Tensor:
        return self._seen

    def _store(self, gradient: Tensor) -> None:
        self._signs.append(gradient.sign())

    def _unseen(self, images: Tensor) -> Tensor:
        total = torch.zeros_like(images)
        for sign in self._signs:
            if sign.shape == images.shape:
                total = total + sign
        return (UNSEEN * total).clamp(-UNSEEN, UNSEEN)


def recompressed(images: Tensor) -> Tensor:
    """Each image through JPEG at a random quality (torch's global generator): [0, 1] → [0, 1]."""
    low, high = QUALITIES
    decoded = []
    for image in images:
        quality = int(torch.randint(low, high + 1, ()))
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        _, encoded = cv2.imencode(
            ".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
        pixels = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[..., ::-1]
        decoded.append(to_tensor(pixels))
    return to_unit(torch.cat(decoded)).to(images) if decoded else images
