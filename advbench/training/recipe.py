"""Everything that decides what weights come out of a training run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from advbench.config import Config


class Recipe(Config):
    """Settings of one training run; the same recipe and data give the same weights on one machine.

    Attributes:
        objective: name of one of the victim's objectives; its own one where empty.
        crop: side of the square training crops, in pixels.
        forged_share: part of the crops that are placed to hold forged pixels.
        crops_per_image: crops drawn from each image in an epoch.
        augment: whether crops pass :mod:`advbench.training.augmentation`.
        augment_ramp: part of the epochs over which its probabilities grow from nothing.
        dice: weight of the soft Dice term beside binary cross-entropy.
        guidance: weight of the noise guidance (:mod:`advbench.training.guidance`).
        residual_start: share of the first filters that start as residuals of the image
            (:mod:`advbench.training.starts`).
        full_scale_start: draw convolutions so that ReLUs keep the scale of what they are given.
        start_keeps: of the weights to start from those whose names begin so; the others are drawn
            anew. All of them where empty.
        frozen_norms: batch normalisations keep the statistics that they start with: with small
            batches, a network may learn to need those of its batch, which inference does not have.
        deep_supervision: weight of heads on inner maps (:mod:`advbench.training.deep_supervision`).
        warm_share: part of the epochs that an objective in stages gives to its first stage.
        patience: epochs without a better validation F1 after which training ends; 0 for never.
        precision: ``auto`` is mixed float16 on a GPU and float32 on a CPU.
        calibrate: at the end, shift the bias of the output to where validation F1 less the share
            marked on authentic images is highest (:mod:`advbench.training.calibration`).
        ema: decay of the moving average of the weights, which is what is saved.
    """

    seed: int = 0
    objective: str = ""
    epochs: Annotated[int, Field(ge=1)] = 75
    crop: Annotated[int, Field(ge=32)] = 128
    forged_share: Annotated[float, Field(ge=0, le=1)] = 0.7
    crops_per_image: Annotated[int, Field(ge=1)] = 1
    batch: Annotated[int, Field(ge=1)] = 8
    augment: bool = False
    augment_ramp: Annotated[float, Field(ge=0, le=1)] = 0.0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    dice: Annotated[float, Field(ge=0)] = 0.5
    guidance: Annotated[float, Field(ge=0)] = 1.0
    residual_start: Annotated[float, Field(ge=0, le=1)] = 0.5
    full_scale_start: bool = False
    start_keeps: str = ""
    frozen_norms: bool = False
    deep_supervision: Annotated[float, Field(ge=0)] = 0.0
    warm_share: Annotated[float, Field(ge=0, lt=1)] = 2 / 3
    patience: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "fp32", "fp16"] = "auto"
    calibrate: bool = False
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998
