"""Settings and records of shards."""

from __future__ import annotations

import numpy as np

from advbench.shards.schema import (
    ADVERSARIAL,
    ORIGINALS,
    AdversarialRecord,
    Original,
    Provenance,
    Settings,
)

MADE = Provenance("0", "2000-01-01T00:00:00", {"torch": "0"}, "cpu")
VICTIM = {"name": "toy", "size": "small", "weights_sha256": "0" * 64, "weights": "random:0"}
ATTACKED, ORIGINAL = "data/toy/x-2/shard-000000.h5", "data/originals-native/shard-000000.h5"


def originals_settings() -> Settings:
    return Settings(ORIGINALS, "data", "native")


def adversarial_settings(budget: int | None, seed: int = 0) -> Settings:
    attack = {"attack": "x", "eps": 2}
    return Settings(ADVERSARIAL, "data", "native", VICTIM, "x-2", attack, budget, seed, "fp32")


def original(number: int, image: np.ndarray, **changes: str) -> Original:
    fields = {"kind": "splice", "source_group": f"g{number}"} | changes
    mask = image[..., 0] > 100
    return Original(
        f"data/{number}", image=image, mask=mask, source_sha256=f"{number:064x}", **fields
    )


def attacked(number: int, image: np.ndarray, **details: float) -> AdversarialRecord:
    return AdversarialRecord(f"data/{number}", image, near(image, 2, number), **details)


def near(image: np.ndarray, budget: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-budget, budget + 1, image.shape)
    return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)
