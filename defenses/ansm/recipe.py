"""Everything that decides what comes out of an ANSM training run, with Table II as presets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from advbench.config import Config
from advbench.defenses.ansm.noise import Noise
from advbench.victims.base import Depth

Positive = Annotated[int, Field(ge=1)]
Epochs = Annotated[int, Field(ge=0)]
Upsampling = Literal["nearest", "subpixel"]
Rate = Annotated[float, Field(gt=0)]


class AnsmRecipe(Config):
    """Settings of one training run; the same recipe, pairs and victim give the same weights.

    Attributes:
        depth: which third of the victim's layers FFA aligns (Table IV).
        first: stage 1 by features (``ffa``) or by pixels (``pwr``, Table V).
        target: stage 2 towards the victim's own clean prediction M_o or the ground truth M_gt.
        epochs_first, epochs_mgr: lengths of the stages; 0 leaves one out (Table VI).
        eps: φ of the FGSM pairs, in grey levels.
        noise: what is suppressed: the ``stored`` FGSM images of the training split, as in the
            paper, or noise made on the fly (:mod:`advbench.defenses.ansm.noise`): of ``fgsm``
            alone, ``varied`` from it, or of ``several`` attacks.
        mask_weight: λ of eq. 14.
        soft_target: whether M_o is the victim's map as it is, not above or below its threshold.
        feature_weight: weight of FFA beside MgR in the second stage.
        fidelity: weight of the mean absolute change of originals in the second stage, in levels.
        crop: side of the random crops; at the victim's working side these are whole images.
        schedule: of the learning rate: ReduceLROnPlateau as in the paper, or in each stage a short
            warm-up and half a cosine.
        forged_share, crops_per_image: as in the recipe of victims.
        ema: decay of the moving average of the weights, which is validated and kept; 0 is none.
        upsampling: of the decoder: ``nearest`` or ``subpixel``.
        pretrained: start the encoder from ImageNet's weights (they are downloaded).
        precision: ``auto`` is mixed float16 on a GPU and float32 on a CPU.
    """

    seed: int = 0
    depth: Depth = "middle"
    first: Literal["ffa", "pwr"] = "ffa"
    target: Literal["prediction", "truth"] = "prediction"
    epochs_first: Epochs = 40
    epochs_mgr: Epochs = 15
    lr_first: Rate = 1e-3
    lr_mgr: Rate = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    eps: Rate = 3.0
    noise: Noise = "stored"
    mask_weight: Annotated[float, Field(ge=0, le=1)] = 0.3
    soft_target: bool = False
    feature_weight: Annotated[float, Field(ge=0)] = 0.0
    fidelity: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["plateau", "cosine"] = "plateau"
    crop: Annotated[int, Field(ge=32)] = 128
    batch: Positive = 8
    forged_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    crops_per_image: Positive = 1
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    upsampling: Upsampling = "nearest"
    pretrained: bool = False
    precision: Literal["auto", "fp32", "fp16"] = "auto"

    @field_validator("noise")
    @classmethod
    def _of_whole_levels(cls, noise: Noise, info: ValidationInfo) -> Noise:
        if noise != "stored" and info.data.get("eps", 1) % 1:
            raise ValueError("noise made on the fly has a whole number of grey levels")
        return noise

    @field_validator("epochs_mgr")
    @classmethod
    def _has_an_epoch(cls, epochs: int, info: ValidationInfo) -> int:
        if not epochs and not info.data.get("epochs_first"):
            raise ValueError("one of the two stages needs an epoch")
        return epochs

    @field_validator("batch")
    @classmethod
    def _can_be_normalised(cls, batch: int, info: ValidationInfo) -> int:
        # The encoder's last maps have a 32nd of the side, and one value has no deviation.
        if batch == 1 and info.data.get("crop") == 32:
            raise ValueError("a batch of 1 needs a crop above 32")
        return batch


# Table II of the ANSM paper; its batch size is not stated.
_PAPER: dict[str, dict[str, Any]] = {
    "ifosn": {"crop": 256, "epochs_first": 1000, "epochs_mgr": 20},
    "mvssnet": {"crop": 512, "epochs_first": 200, "epochs_mgr": 30},
    "hdfnet": {"crop": 256, "epochs_first": 200, "epochs_mgr": 10},
    "code": {"crop": 512, "epochs_first": 200, "epochs_mgr": 30},
}
# HDF-Net takes no other side.
_SMALL: dict[str, dict[str, Any]] = {"hdfnet": {"crop": 256}}


def preset(victim: str, size: str) -> dict[str, Any]:
    """Return what differs from the defaults: Table II for the full size of the paper's victims."""
    if size != "full":
        return _SMALL.get(victim, {})
    paper = {"lr_first": 5e-4, "lr_mgr": 1e-5, "ema": 0.0, "forged_share": 0.0}
    return {**paper, **_PAPER.get(victim, {})}
