"""The pitfalls of section 1.6 of the specification, a test for every line of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms, ImageFile

from advbench.datasets import decoding
from advbench.datasets.dataset import open_folder
from advbench.datasets.importing import check
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.datasets.importing.problems import Fault, ImportRefusedError
from advbench.errors import AdvbenchError

from .pictures import forged_folder, one_line, picture, save, truth
from .test_decoding_refusals import png_of_size
from .trees import blob, columbia, misd, opened, report_of, run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two sound images beside the one under test, ``x``."""
    root = forged_folder(tmp_path / "s")
    save(root / "Tp/x.png", picture(9, 48, 72))
    save(root / "Gt/x.png", blob(9))
    return root


def taken(source: Path, mask: np.ndarray[Any, Any] | None = None) -> dict[str, Any]:
    """Import everything; ``x`` has this mask; what its row and the report say."""
    folder = source.with_name("m")
    report = import_folder(source, folder, "mine").report
    data = open_folder(folder)
    assert [row.name for row in data.rows] == ["a", "b", "x"]
    expected = blob(9) if mask is None else mask
    assert np.array_equal(data.mask(data.rows[2]), expected)
    return {"row": data.rows[2], "image": data.image(data.rows[2]), "report": report}


def refused(source: Path) -> Fault:
    """The one fault of a strict import; nothing is written, and the rest can go on without it."""
    folder = source.with_name("m")
    with pytest.raises(ImportRefusedError) as caught:
        import_folder(source, folder, "mine")
    one_line(caught.value)
    assert not folder.exists()
    (fault,) = caught.value.faults
    assert fault.file.startswith("Tp/x.")
    assert fault.problem.fix
    import_folder(source, folder, "mine", allow_exclude=True)
    assert [row.name for row in open_folder(folder).rows] == ["a", "b"]
    return fault


@pytest.mark.parametrize(
    "mask", [blob(9).T, blob(9)[1:], blob(9, 24, 36), blob(9, 96, 144)], ids=lambda m: str(m.shape)
)
def test_01_shapes_differ(source: Path, mask: np.ndarray[Any, Any]) -> None:
    """Transposed, cropped, half, double: never turned without a table, never resized."""
    save(source / "Gt/x.png", mask)
    fault = refused(source)
    assert fault.problem.check == "size-mismatch"
    assert f"{mask.shape[1]}×{mask.shape[0]}" in fault.problem.value
    assert ("turn the mask" in fault.problem.fix) == (mask.shape == (72, 48))


@pytest.mark.parametrize("how", ["JPEG", "blurred PNG"])
def test_02_masks_of_many_levels(source: Path, how: str) -> None:
    """A JPEG and an anti-aliased mask: above 127 is forged, and the levels are recorded."""
    gray = blob(9).astype(np.uint8) * 255
    if how == "JPEG":
        save(source / "Gt/x.png", gray, "JPEG", quality=75)
        expected = cv2.imread(str(source / "Gt/x.png"), cv2.IMREAD_GRAYSCALE)
    else:
        expected = cv2.GaussianBlur(gray, (0, 0), 1.2)
        save(source / "Gt/x.png", expected)
    found = taken(source, expected > 127)
    assert found["row"].flags == f"mask_levels_{len(np.unique(expected))}"
    assert found["report"]["flags"] == {found["row"].flags: 1}


def test_03_inverted_masks_warn_and_stay(source: Path) -> None:
    """More than half forged: a warning; forged up to the frame: a suspicion; never a flip."""
    save(source / "Gt/x.png", ~blob(9))
    found = taken(source, ~blob(9))
    (warning,) = found["report"]["warnings"]
    assert warning["image"] == "Tp/x.png"
    assert "may be inverted" in warning["warning"]
    inside = np.zeros((48, 72), dtype=bool)
    inside[4:-4, 4:-4] = True
    save(source / "Gt/x.png", inside)
    (warning,) = taken(source, inside)["report"]["warnings"]
    assert "covers 74.1%" in warning["warning"]
    assert "inverted" not in warning["warning"]


def test_03_a_whole_inverted_dataset(source: Path) -> None:
    """Where most masks are, one line says so."""
    for seed, name in enumerate("ab"):
        save(source / f"Gt/{name}.png", ~truth(seed))
    texts = [one["warning"] for one in taken(source)["report"]["warnings"] if not one["image"]]
    assert texts == ["2 of 3 masks cover more than half: is white forged here?"]


@pytest.mark.parametrize(
    ("level", "check", "says"),
    [(0, "empty-mask", "level 0"), (1, "empty-mask", "level 1 "), (255, "full-mask", "full")],
)
def test_04_empty_and_full(source: Path, level: int, check: str, says: str) -> None:
    """Nothing forged (masks of 0 and 1 too), or everything."""
    gray = np.full((48, 72), level, dtype=np.uint8)
    if level == 1:
        gray = blob(9).astype(np.uint8)
    save(source / "Gt/x.png", gray)
    fault = refused(source)
    assert fault.problem.check == check
    assert says in fault.problem.value


def test_05_missing_and_orphan(source: Path) -> None:
    """An image without mask is a fault; a mask without image is told, and shifts nothing."""
    save(source / "Gt/aa.png", truth(7))
    assert taken(source)["report"]["orphan_masks"] == ["Gt/aa.png"]
    (source / "Gt/x.png").unlink()
    (source.with_name("m")).rename(source.with_name("old"))
    assert refused(source).problem.check == "no-mask"


def test_06_several_masks(tmp_path: Path) -> None:
    """MISD: their union."""
    expected = misd(tmp_path / "s")
    run("misd", tmp_path / "s", tmp_path / "m")
    opened(tmp_path / "m", expected)


def test_07_colour_coded(tmp_path: Path) -> None:
    """Columbia: green is forged."""
    expected = columbia(tmp_path / "s")
    run("columbia", tmp_path / "s", tmp_path / "m")
    opened(tmp_path / "m", expected)


def palette(path: Path) -> str:
    PillowImage.fromarray(picture(9, 48, 72)).quantize(16).save(path, "PNG")
    return "palette"


def gray_and_alpha(path: Path) -> str:
    save(path, picture(9, 48, 72)[..., :2])
    return "alpha_composited"


def sixteen_bits(path: Path) -> str:
    save(path, picture(9, 48, 72)[..., 0].astype(np.uint16) * 257, "TIFF")
    return "depth_16"


def inks(path: Path) -> str:
    four = np.dstack([picture(9, 48, 72), picture(10, 48, 72)[..., :1]])
    PillowImage.fromarray(four, "CMYK").save(path, "JPEG", quality=95)
    return ""


def one_channel(path: Path) -> str:
    save(path, picture(9, 48, 72)[..., 0])
    return "gray_to_rgb"


@pytest.mark.parametrize(
    "write", [palette, gray_and_alpha, sixteen_bits, inks, one_channel], ids=lambda w: w.__name__
)
def test_08_modes(source: Path, write: Callable[[Path], str]) -> None:
    """Palette, grey with alpha, 16 bits, CMYK, one channel: RGB in one way, and on record."""
    flag = write(source / "Tp/x.png")
    found = taken(source)
    assert found["row"].flags == flag
    assert found["image"].shape == (48, 72, 3)
    with PillowImage.open(source / "Tp/x.png") as image:
        assert found["row"].orig_mode == image.mode


def test_09_alpha(source: Path) -> None:
    """Over white, not dropped."""
    alpha = np.full((48, 72), 255, dtype=np.uint8)
    alpha[30:] = 0
    save(source / "Tp/x.png", np.dstack([picture(9, 48, 72), alpha]))
    found = taken(source)
    assert (found["image"][30:] == 255).all()
    assert np.array_equal(found["image"][:30], picture(9, 48, 72)[:30])


def turned_by_exif(path: Path) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    save(path, picture(9, 48, 72), exif=exif)


def test_10_exif_orientation(source: Path) -> None:
    """Not applied, and told; a mask that fits the turned picture alone is told as that."""
    turned_by_exif(source / "Tp/x.png")
    found = taken(source)
    assert np.array_equal(found["image"], picture(9, 48, 72))
    assert found["row"].flags == "exif_orientation"
    assert "orientation" in found["report"]["warnings"][0]["warning"]
    save(source / "Gt/x.png", blob(9, 72, 48))
    (source.with_name("m")).rename(source.with_name("old"))
    fault = refused(source)
    assert "EXIF orientation" in fault.problem.value
    assert "upright" in fault.problem.fix


def test_11_colour_profile(source: Path) -> None:
    """Ignored, on record."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    save(source / "Tp/x.png", picture(9, 48, 72), icc_profile=profile)
    found = taken(source)
    assert np.array_equal(found["image"], picture(9, 48, 72))
    assert found["report"]["flags"] == {"icc": 1}


@pytest.mark.parametrize("how", ["JPEG", "PNG"])
@pytest.mark.parametrize("part", ["Tp", "Gt"])
def test_12_truncated(source: Path, how: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, also where another program lets Pillow fill such files up with grey."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = source / part / "x.png"
    save(path, picture(9, 48, 72) if part == "Tp" else blob(9), how)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    fault = refused(source)
    assert fault.problem.check == "unreadable"
    assert str(source) not in fault.problem.reason
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize(("part", "seed"), [("Tp", 9), ("Gt", None)])
def test_13_suffixes_that_lie(source: Path, part: str, seed: int | None) -> None:
    """A TIFF named .png is read as what it is; of an image it is told."""
    pixels = blob(9) if seed is None else picture(seed, 48, 72)
    save(source / part / "x.png", pixels, "TIFF")
    found = taken(source)
    told = ["is TIFF, whatever its suffix says"] if part == "Tp" else []
    assert [one["warning"] for one in found["report"]["warnings"]] == told
    assert found["row"].orig_format == ("TIFF" if part == "Tp" else "PNG")


@pytest.mark.parametrize("twin", ["X.png", "x.PNG", "x.jpg"])
def test_14_names_that_differ_in_case(source: Path, twin: str) -> None:
    """They would share an id, and a file on other disks: both are named in one line."""
    save(source / f"Tp/{twin}", picture(8))
    save(source / f"Gt/{Path(twin).stem}.png", truth(8))
    if len(list((source / "Tp").iterdir())) < 4:
        pytest.skip("this disk does not tell case apart")
    with pytest.raises(AdvbenchError) as caught:
        import_folder(source, source.with_name("m"), "mine", allow_exclude=True)
    assert f"Tp/{twin}" in one_line(caught.value)
    assert "Tp/x.png" in str(caught.value)


@pytest.mark.parametrize("stem", [" blank ", "Früh stück", "图像", "a  b", "-r", "x,y;z"])
@pytest.mark.parametrize("layout", ["folder", "casiav1"])
def test_15_blanks_and_other_scripts(tmp_path: Path, stem: str, layout: str) -> None:
    """In files and in folders above them."""
    root = tmp_path / "mes données"
    if layout == "folder":
        forged_folder(root, (stem,))
        run("folder", root, tmp_path / "m", name="mine")
    else:
        name = f"Sp_D_{stem}_ani0001_ani0002_0001"
        save(root / stem / f"{name}.jpg", picture(0), "JPEG")
        save(root / "ground truth" / f"{name}_gt.png", truth(0))
        run("casiav1", root, tmp_path / "m")
    data = open_folder(tmp_path / "m")
    assert len(data.rows) == 1
    assert stem in data.rows[0].orig_name
    assert np.array_equal(data.mask(data.rows[0]), truth(0))


CLUTTER = ("Thumbs.db", ".DS_Store", "_list.txt", "desktop.ini", "._x.png")


def test_16_clutter(source: Path) -> None:
    """What systems and converters leave among the files."""
    for folder in ("Tp", "Gt"):
        for name in CLUTTER:
            (source / folder / name).write_bytes(b"\0")
        save(source / folder / "0jpg/x.png", picture(5))
        save(source / folder / "__MACOSX/x.png", picture(5))
    (source / "Tp/_list.txt").unlink()
    report = taken(source)["report"]
    assert [one["file"] for one in report["ignored"]] == ["Gt/_list.txt"]


def test_16_clutter_of_named_layouts(tmp_path: Path) -> None:
    """The same in a folder that is searched through."""
    expected = misd(tmp_path / "s")
    for folder in ("Ground Truth Masks", "Au", "."):
        for name in CLUTTER:
            (tmp_path / "s" / folder / name).write_bytes(b"\0")
        save(tmp_path / "s" / folder / "0jpg/images/x.png", picture(5))
        save(tmp_path / "s" / folder / "__MACOSX/images/x.png", picture(5))
    run("misd", tmp_path / "s", tmp_path / "m")
    opened(tmp_path / "m", expected)
    ignored = {os.path.basename(one["file"]) for one in report_of(tmp_path / "m")["ignored"]}
    assert ignored == {"_list.txt", "Sp_D_ani_00001_cha_00049_sec_00096_1.jpg"}


def test_17_duplicates_inside(source: Path) -> None:
    """Equal bytes, and equal pixels in another format; across datasets: test_import_overlaps."""
    for name, how in (("y", "PNG"), ("z", "TIFF")):
        save(source / f"Tp/{name}.png", picture(9, 48, 72), how)
        save(source / f"Gt/{name}.png", blob(9))
    report = import_folder(source, source.with_name("m"), "mine").report
    assert report["duplicates"] == [["mine/x", "mine/y", "mine/z"]]
    rows = {row.name: row.source_group for row in open_folder(source.with_name("m")).rows}
    assert rows["x"] == rows["y"] == rows["z"] != rows["a"]


def test_18_decompression_bombs(source: Path) -> None:
    """Counted by the header, not decoded."""
    (source / "Tp/x.png").write_bytes(png_of_size(20_000, 10_001))
    fault = refused(source)
    assert fault.problem.check == "bomb"
    assert "20000×10001" in fault.problem.value


def test_18_a_very_large_image_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the limit it is read, without Pillow's warning, and named in one line."""
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(check, "LARGE", 1000)
    (warning,) = taken(source)["report"]["warnings"]
    assert warning == {"image": "Tp/x.png", "warning": "has 0 million pixels"}


def test_18_alpha_of_a_large_image_in_strips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However an image is cut for it, the pixels are the same."""
    path = save(tmp_path / "x.png", np.dstack([picture(3, 50, 7), picture(4, 50, 7)[..., :1]]))
    whole = decoding.decode_image(path).pixels
    for strip in (1, 7, 20, 349):
        monkeypatch.setattr(decoding, "_STRIP", strip)
        assert np.array_equal(decoding.decode_image(path).pixels, whole)


def test_19_the_sum_is_of_decoded_pixels(source: Path) -> None:
    """By another decoder: whoever reads the same pixels gets the same identity."""
    save(source / "Tp/x.png", picture(9, 48, 72), "TIFF")
    found = taken(source)
    read = cv2.imread(str(source / "Tp/x.png"))[..., ::-1]
    assert found["row"].pixels_sha256 == hashlib.sha256(read.tobytes()).hexdigest()
    bits = np.packbits(blob(9).ravel().astype(np.uint8))
    assert found["row"].maskbits_sha256 == hashlib.sha256(bits.tobytes()).hexdigest()
