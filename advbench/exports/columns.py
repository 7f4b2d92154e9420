"""Describe every exported image: columns of ``metadata.csv``, Parquet and Croissant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Row = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Column:
    """A column: its name, its type and what it means, in a line."""

    name: str
    type: Literal["text", "integer", "number"]
    meaning: str


COLUMNS = (
    Column("sample_id", "text", "the photograph, as in the dataset's manifest"),
    Column("dataset", "text", "the dataset, with its split where that is not the test split"),
    Column("split", "text", "test, train or validation"),
    Column("victim", "text", "the localizer that was attacked"),
    Column("victim_size", "text", "small or full"),
    Column("weights", "text", "where its weights come from; builtin ones know built-in data only"),
    Column("weights_sha256", "text", "sha256 of these weights"),
    Column("attack", "text", "name of the attack"),
    Column("intensity", "number", "its intensity: φ in grey levels, or steps for cw"),
    Column("variant", "text", "attack and intensity, as in pgd-3"),
    Column("attack_spec", "text", "all settings of the attack, as JSON"),
    Column("seed", "integer", "seed of the per-image random streams"),
    Column("precision", "text", "fp32 of exact numerics, else fast or bf16"),
    Column("space", "text", "rule of the working size; native means the photograph's own"),
    Column("kind", "text", "kind of forgery"),
    Column("source_group", "text", "photographs with a common original share it"),
    Column("height", "integer", "of the adversarial image, in pixels"),
    Column("width", "integer", "of the adversarial image, in pixels"),
    Column("mask_height", "integer", "of the mask at its native size, in pixels"),
    Column("mask_width", "integer", "of the mask at its native size, in pixels"),
    Column("linf", "integer", "largest difference from the original, in grey levels"),
    Column("psnr", "number", "in dB against the original; empty where nothing differs"),
    Column("image_sha256", "text", "sha256 of the adversarial image's decoded uint8 RGB pixels"),
    Column("original_sha256", "text", "sha256 of the original's pixels at the working size"),
    Column("source_sha256", "text", "sha256 of the pixels of the dataset's own file"),
    Column("mask_sha256", "text", "sha256 of the native mask's bits, packed eight to a byte"),
    Column("settings_sha256", "text", "sha256 of all settings behind the image"),
    Column("shard_sha256", "text", "sha256 of the content of the shard it comes from"),
)
