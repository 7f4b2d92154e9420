"""Define what ANSM minimises: FFA (eqs. 7 to 13), MgR (eqs. 14 to 18), and PwR, their rival in
Table V."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from advbench.overlap import dice

ALPHA = 1e-8
LAMBDA = 0.3


def ffa_loss(clean: Sequence[Tensor], processed: Sequence[Tensor]) -> Tensor:
    """Forgery-relevant features alignment: mean over layers of KL_C(D_pa ‖ D_o), eq. 13.

    Args:
        clean: features of the originals X_o, a map N×C×h×w for each layer.
        processed: of the processed adversarial images X_pa, of the same shapes.
    """
    pairs = zip(processed, clean, strict=True)
    return torch.stack([channel_divergence(m, q) for m, q in pairs]).mean()


def channel_divergence(m: Tensor, q: Tensor) -> Tensor:
    """KL of the channels' distributions over positions, averaged over positions, channels, images.

    Each channel is softmaxed over its h·w positions (eq. 9); KL(m‖q) = (1/N) Σ m log((m+α)/(q+α)).
    """
    of_m = torch.softmax(m.float().flatten(2), 2)
    of_q = torch.softmax(q.float().flatten(2), 2)
    return (of_m * ((of_m + ALPHA) / (of_q + ALPHA)).log()).mean()


def mask_loss(logits: Tensor, masks: Tensor, weight: float = LAMBDA) -> Tensor:
    """L_m = λ BCE + (1 - λ) Dice of the victim's map against a mask N×1×H×W in {0, 1}, eq. 14."""
    entropy = F.binary_cross_entropy_with_logits(logits.float(), masks)
    return weight * entropy + (1 - weight) * dice_loss(torch.sigmoid(logits.float()), masks)


def dice_loss(probability: Tensor, masks: Tensor) -> Tensor:
    """One minus 2ΣPM / (ΣP² + ΣM²) of each image, averaged (eq. 15 prints the coefficient)."""
    return (1 - dice(probability, masks)).mean()


def mgr_loss(
    logits_clean: Tensor, logits_adversarial: Tensor, masks: Tensor, weight: float = LAMBDA
) -> Tensor:
    """Mask-guided refinement: L_m(P_po, M_o) + L_m(P_pa, M_o), eq. 18."""
    return mask_loss(logits_clean, masks, weight) + mask_loss(logits_adversarial, masks, weight)


def pwr_loss(clean: Tensor, processed: Tensor) -> Tensor:
    """Pixel-wise reconstruction: mean |X_pa - X_o| (Table V)."""
    return F.l1_loss(processed, clean)
