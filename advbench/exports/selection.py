"""Select the shards to export: by dataset, victim and attack, in groups that are read together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from advbench.errors import AdvbenchError, did_you_mean
from advbench.shards.index import Row as IndexRow
from advbench.shards.reader import ShardEntry
from advbench.shards.schema import ADVERSARIAL, ORIGINALS, Settings
from advbench.shards.store import ShardStore

# Parts of paths and of tar members; WebDataset skips members below a folder named __so__.
_PART = re.compile(r"(?!__.*__$)[A-Za-z0-9_][A-Za-z0-9_.+=~-]*")


@dataclass(frozen=True)
class Group:
    """The images of one dataset and victim at one working size.

    Attributes:
        dataset: as in the shards, ``builtin`` or ``builtin-train``.
        variants: the shards of each variant.
        sample_ids: of all variants together, sorted.
    """

    dataset: str
    victim: str
    space: str
    originals: tuple[ShardEntry, ...]
    variants: dict[str, tuple[ShardEntry, ...]]
    sample_ids: tuple[str, ...]

    @property
    def dataset_id(self) -> str:
        """The id in the dataset's manifest."""
        return self.sample_ids[0].partition("/")[0]

    @property
    def split(self) -> str:
        """``test``, ``train``, ``validation``, or several joined by ``_``."""
        names = self.dataset.removeprefix(self.dataset_id).strip("-").split("-")
        return "_".join({"": "test", "val": "validation"}.get(name, name) for name in names)

    @property
    def images(self) -> int:
        """Count the adversarial images."""
        return sum(len(e.sample_ids) for entries in self.variants.values() for e in entries)


def select(
    root: Path, datasets: Sequence[str], victims: Sequence[str], attacks: Sequence[str]
) -> list[Group]:
    """The groups wanted, by dataset, victim and working size.

    Args:
        root: the folder of the shards.
        datasets, victims: names; empty or ``all`` for every one that there is.
        attacks: names of attacks or of variants, as in ``pgd`` and ``pgd-3``; likewise.

    Raises:
        AdvbenchError: no shards, an unknown name (told with the nearest), nothing that fits all.
        DamagedShardError: a shard cannot be read.
    """
    store = ShardStore(root)
    everything = store.entries()
    adversarial = [entry for entry in everything if entry.settings.kind == ADVERSARIAL]
    if not adversarial:
        raise AdvbenchError(f"{root}: no adversarial images there; make some: advbench generate")
    store.compare(lambda row: _is_wanted(row, adversarial, datasets, victims, attacks=attacks))

    for option, names, known in (
        ("dataset", datasets, {e.settings.dataset for e in adversarial}),
        ("victim", victims, {_victim(e.settings) for e in adversarial}),
        ("attack", attacks, {name for e in adversarial for name in _attack_names(e.settings)}),
    ):
        for name in names:
            if name != "all" and name not in known:
                raise AdvbenchError(_unknown(option, name, known, root))
    chosen = [
        entry
        for entry in adversarial
        if _wanted([entry.settings.dataset], datasets)
        and _wanted([_victim(entry.settings)], victims)
        and _wanted(_attack_names(entry.settings), attacks)
    ]
    if not chosen:
        there = sorted({str(entry.settings.folder) for entry in adversarial})
        raise AdvbenchError(
            f"{root}: no images of that dataset, victim and attack together; there are "
            f"{', '.join(there)}"
        )
    return _grouped(chosen, [entry for entry in everything if entry.settings.kind == ORIGINALS])


def _grouped(chosen: Iterable[ShardEntry], originals: Sequence[ShardEntry]) -> list[Group]:
    groups: dict[tuple[str, str, str], dict[str, list[ShardEntry]]] = {}
    for entry in chosen:
        _check(entry)
        settings = entry.settings
        key = (settings.dataset, _victim(settings), settings.space)
        groups.setdefault(key, {}).setdefault(settings.variant or "", []).append(entry)
    return [
        Group(
            *key,
            tuple(e for e in originals if (e.settings.dataset, e.settings.space) == key[::2]),
            {name: tuple(entries) for name, entries in sorted(variants.items())},
            tuple(sorted({i for part in variants.values() for e in part for i in e.sample_ids})),
        )
        for key, variants in sorted(groups.items())
    ]


def _check(entry: ShardEntry) -> None:
    """Names become paths: none may leave the folder or be hidden from a reader."""
    settings = entry.settings
    parts = (settings.dataset, _victim(settings), settings.variant or "", settings.space)
    for name in parts:
        if not _PART.fullmatch(name):
            raise AdvbenchError(
                f"{entry.path}: {name!r} cannot be the name of a file; only letters, digits and "
                "_.+=~- can be exported"
            )


def _is_wanted(
    row: IndexRow,
    adversarial: Sequence[ShardEntry],
    datasets: Sequence[str],
    victims: Sequence[str],
    *,
    attacks: Sequence[str],
) -> bool:
    """Tell whether the shard of a row of the index is exported, or one that is was made from it."""
    if not _wanted([row["dataset"]], datasets):
        return False
    if row["kind"] == ORIGINALS:
        return any(
            entry.settings.space == row["space"] and _wanted([_victim(entry.settings)], victims)
            for entry in adversarial
        )
    name = row["variant"]
    of_attack = any(name.startswith(f"{attack}-") for attack in attacks)
    return _wanted([row["victim"]], victims) and (of_attack or _wanted([name], attacks))


def _victim(settings: Settings) -> str:
    return (settings.victim or {}).get("name", "")


def _attack_names(settings: Settings) -> list[str]:
    return [str((settings.attack or {}).get("attack", "")), settings.variant or ""]


def _wanted(names: Sequence[str], wanted: Sequence[str]) -> bool:
    return not wanted or "all" in wanted or any(name in wanted for name in names)


def _unknown(option: str, name: str, known: set[str], root: Path) -> str:
    return f"--{option} {name!r}: no images of it in {root}; {did_you_mean(name, known)}"
