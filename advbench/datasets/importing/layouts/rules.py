"""Layouts that a few patterns describe: which files are forged, masks and authentic, and which
belong together."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from advbench.datasets.decoding import MASK_RULE
from advbench.datasets.importing.layouts.layout import Candidate, Found, Layout
from advbench.datasets.importing.problems import Problem
from advbench.datasets.importing.walking import existing_folder, walk
from advbench.datasets.manifest import Kind

Key = tuple[str, ...]


@dataclass(frozen=True)
class Rules:
    """Say by patterns where the files of a dataset lie.

    Patterns are regular expressions that the end of a file's path must match, folders with ``/``
    and the folder that was given included, whatever the case. What they capture is the key by
    which an image finds its mask, and which names the photograph.

    Attributes:
        forged, mask, authentic: patterns; without the last the dataset has no authentic images.
        others: patterns of image files that are none of these, with the reason to leave them out.
        kind: of all forgeries.
        mask_rule: what of a mask is forged.
        by_key: whether samples are named by their key, as stems stand in several folders; else by
            their stem. Authentic images that would bear a forgery's name end in ``_authentic``.
    """

    layout: Layout
    forged: str
    mask: str
    authentic: str = ""
    others: tuple[tuple[str, str], ...] = ()
    kind: Kind = "unknown"
    mask_rule: str = MASK_RULE
    by_key: bool = False

    def find(self, path: Path) -> Found:
        """Images and masks below ``path`` by the patterns.

        Raises:
            AdvbenchError: no such folder, or images or masks are not there at all.
        """
        root = existing_folder(path)
        walked = walk(root)
        forged: dict[Path, Key] = {}
        authentic: dict[Path, Key] = {}
        masks: dict[Key, list[Path]] = defaultdict(list)
        ignored = list(walked.ignored)
        for file in walked.images:
            where = f"/{root.name}/{file.relative_to(root).as_posix()}"
            if match := _end(self.mask, where):
                masks[_key(match)].append(file)
            elif match := _end(self.forged, where):
                forged[file] = _key(match)
            elif match := _end(self.authentic, where):
                authentic[file] = _key(match)
            else:
                ignored.append((file, self._why(where)))
        count = sum(map(len, masks.values()))
        self.layout.require(root, len(forged), count)
        names = {file: self._name(file, key) for file, key in forged.items()}
        candidates = [
            self._candidate(file, masks.get(key, []), names[file], key)
            for file, key in forged.items()
        ]
        taken = {name.casefold() for name in names.values()}
        for file, key in authentic.items():
            name = self._name(file, key)
            if name.casefold() in taken:
                name = f"{name}_authentic"
            sources = ("_".join(key),)
            candidates.append(
                Candidate(file, label=0, kind="none", name=name, sources=sources, matched="")
            )
        wanted = set(forged.values())
        orphans = [mask for key, files in masks.items() if key not in wanted for mask in files]
        return Found(
            self.layout, root, tuple(candidates), count, tuple(orphans), tuple(sorted(ignored))
        )

    def _candidate(self, file: Path, masks: list[Path], name: str, key: Key) -> Candidate:
        problem = None
        if not masks:
            problem = Problem("no-mask", f"no mask like {self.layout.masks}", "add its mask")
        elif len(masks) > 1:
            found = ", ".join(mask.name for mask in masks)
            problem = Problem("two-masks", f"more than one mask ({found})", "keep one of them")
        return Candidate(
            file,
            tuple(masks),
            kind=self.kind,
            name=name,
            sources=("_".join(key),),
            mask_rule=self.mask_rule,
            problem=problem,
        )

    def _name(self, file: Path, key: Key) -> str:
        return "_".join(key) if self.by_key else file.stem

    def _why(self, where: str) -> str:
        for pattern, reason in self.others:
            if _end(pattern, where):
                return reason
        return f"no place in {self.layout.title}"


def _end(pattern: str, where: str) -> re.Match[str] | None:
    return re.search(rf"/(?:{pattern})\Z", where, re.IGNORECASE) if pattern else None


def _key(match: re.Match[str]) -> Key:
    return tuple(text.lower() for text in match.groups())
