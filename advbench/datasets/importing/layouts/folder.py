"""A folder of images and masks as it lies, in two usual layouts or by globs."""

from __future__ import annotations

from pathlib import Path

from advbench.datasets.importing.importing import Imported, check_name, import_found
from advbench.datasets.importing.layouts.layout import Candidate, Found, Layout
from advbench.datasets.importing.problems import Problem
from advbench.datasets.importing.walking import IMAGE_SUFFIXES, existing_folder, is_clutter
from advbench.datasets.manifest import Split
from advbench.errors import AdvbenchError
from advbench.progress import CountProgress
from advbench.texts import same_name

LAYOUT = Layout(name="folder", title="a folder of images and masks")
# Pairs of folder names, as users and IMDLBenCo have them; compared without case.
LAYOUTS = (("tp", "gt"), ("images", "masks"))
_MASK_SUFFIXES = ("", "_gt", "_mask")


def import_folder(
    path: Path,
    folder: Path,
    name: str,
    images: str | None = None,
    *,
    masks: str | None = None,
    split: Split = "test",
    allow_exclude: bool = False,
    progress: CountProgress = lambda done, total: None,
) -> Imported:
    """:func:`find`, then :func:`import_found`: a manifest of ``path`` written into ``folder``."""
    check_name(name)
    found = find(path, images, masks)
    return import_found(found, folder, name, split, allow_exclude=allow_exclude, progress=progress)


def find(
    path: Path, images: str | None = None, masks: str | None = None, suffix: str | None = None
) -> Found:
    """Images of folder Tp with masks of Gt, of images with masks, or of two globs.

    Args:
        images, masks: globs relative to ``path``; both or neither.
        suffix: what a mask's stem has more than its image's, beside none, ``_gt`` and ``_mask``.

    Raises:
        AdvbenchError: no such folder, no images, one glob alone or one that leaves the folder.
    """
    if bool(images) != bool(masks):
        raise AdvbenchError("--images and --masks belong together; give both")
    root = existing_folder(path)
    image_files, mask_files = _find(root, images, masks)
    by_stem: dict[str, list[Path]] = {}
    for mask in mask_files:
        by_stem.setdefault(same_name(mask.stem), []).append(mask)
    suffixes = tuple(dict.fromkeys((*_MASK_SUFFIXES, *([suffix] if suffix else []))))
    candidates = tuple(_candidate(image, by_stem, suffixes) for image in image_files)
    used = {mask for candidate in candidates for mask in candidate.masks} | set(image_files)
    left = [mask for mask in mask_files if mask not in used]
    orphans = tuple(mask for mask in left if mask.suffix.lower() in IMAGE_SUFFIXES)
    ignored = tuple((file, "no image by its name") for file in left if file not in orphans)
    return Found(LAYOUT, root, candidates, len(mask_files) - len(ignored), orphans, ignored)


def _candidate(image: Path, by_stem: dict[str, list[Path]], suffixes: tuple[str, ...]) -> Candidate:
    found = [
        mask
        for suffix in suffixes
        for mask in by_stem.get(same_name(image.stem + suffix), [])
        if mask != image
    ]
    problem = None
    if not found:
        wanted = [f"{image.stem}{suffix}" for suffix in suffixes]
        value = f"no mask named {', '.join(wanted[:-1])} or {wanted[-1]}"
        problem = Problem("no-mask", value, "add its mask, or give --mask-suffix")
    elif len(found) > 1:
        names = ", ".join(mask.name for mask in found)
        problem = Problem("two-masks", f"more than one mask ({names})", "keep one of them")
    return Candidate(image, tuple(found), problem=problem)


def _find(root: Path, images: str | None, masks: str | None) -> tuple[list[Path], list[Path]]:
    if images and masks:
        found = _files(root, images), _files(root, masks)
        for glob, files in zip((images, masks), found, strict=True):
            if not files:
                raise AdvbenchError(f"{root}: no file matches {glob!r}")
        return found
    folders = {entry.name.lower(): entry.name for entry in root.iterdir() if entry.is_dir()}
    for tampered, truth in LAYOUTS:
        if tampered in folders and truth in folders:
            found = _files(root, f"{folders[tampered]}/*"), _files(root, f"{folders[truth]}/*")
            if found[0]:
                return found
            raise AdvbenchError(f"{root / folders[tampered]}: no images there")
    raise AdvbenchError(
        f"{root}: holds neither Tp and Gt nor images and masks; say where they are with "
        "--images GLOB --masks GLOB"
    )


def _files(root: Path, glob: str) -> list[Path]:
    if glob.startswith("/") or ".." in Path(glob).parts:
        raise AdvbenchError(f"glob {glob!r} leaves the folder; give one relative to {root}")
    try:
        found = list(root.glob(glob))
    except (ValueError, IndexError, NotImplementedError) as error:
        raise AdvbenchError(f"{glob!r} is no glob; give one such as 'images/*.png'") from error
    return sorted(file for file in found if file.is_file() and not is_clutter(file.name))
