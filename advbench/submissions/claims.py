"""Read what a submission says of itself: ``submission.json`` and ``shards.json``."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from advbench.errors import AdvbenchError, first_fault
from advbench.escaping import visible

T = TypeVar("T")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
Variant = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Claims(_Strict):
    """``submission.json``.

    Attributes:
        advbench: the version that packed it.
        title, reference, contact: of the defense: a line, a paper or address, whom to ask.
        specifications: the defense with all its settings, one for each network and strength.
        files: sha256 of the other files of the archive.
    """

    schema_: Literal["advbench.submission/1"] = Field(
        "advbench.submission/1", serialization_alias="schema", validation_alias="schema"
    )
    advbench: Line
    dataset: Name
    defense: Name
    protocol: Line
    title: Line = ""
    reference: Line = ""
    contact: Line = ""
    specifications: list[dict[str, Any]] = Field(min_length=1, max_length=1000)
    files: dict[str, Sha256]


class ShardClaim(_Strict):
    """One variant of one victim in ``shards.json``: what made its images.

    Attributes:
        settings: of the shards, the provenance key.
        content_sha256: of each shard.
        images: how many.
    """

    victim: Name
    variant: Variant
    settings: dict[str, Any]
    settings_sha256: Sha256
    content_sha256: list[Sha256] = Field(min_length=1, max_length=100_000)
    images: int = Field(ge=1)
    device: Line = ""
    advbench: Line = ""

    @property
    def is_hashed_rightly(self) -> bool:
        """Tell whether the hash is that of the settings."""
        text = json.dumps(self.settings, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest() == self.settings_sha256


CLAIMS = TypeAdapter(Claims)
SHARDS = TypeAdapter(Annotated[list[ShardClaim], Field(max_length=10_000)])


def parsed(adapter: TypeAdapter[T], name: str, data: bytes) -> T:
    """Read one of the two files.

    Raises:
        AdvbenchError: it is no JSON, or not of the schema; the first fault is named.
    """
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        text = f"{name}: {first_fault(error) or 'the file'}"
        raise AdvbenchError(visible(text[:300])) from error
