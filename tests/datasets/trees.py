"""Small copies of the published datasets' folders, with what is known to be wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as PillowImage

from advbench.datasets.dataset import Dataset, open_folder
from advbench.datasets.importing.check import slug
from advbench.datasets.importing.importing import Imported, import_found
from advbench.datasets.importing.layouts.known import find

from .pictures import Pixels, Truth, picture, save

SHARED = Path(__file__).parents[3] / "shared" / "data"
CASIA_V1 = SHARED / "casiav1"

RED, GREEN, DARK_RED, DARK_GREEN = (255, 0, 0), (0, 255, 0), (200, 0, 0), (0, 200, 0)


def blob(seed: int, height: int = 48, width: int = 72) -> Truth:
    """An ellipse of its own that no turn and no mirror leaves as it is."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    cy, cx = rng.uniform(0.25, 0.4, 2) * (height, width)
    mask: Truth = ((y - cy) / (0.2 * height)) ** 2 + ((x - cx) / (0.15 * width)) ** 2 < 1
    mask[: height // 8, : width // 10] = True
    return mask


def edge_mask(mask: Truth) -> Pixels:
    """Columbia's: bright colours near the seam, dark ones elsewhere; green is forged."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
    outer = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) > 0
    coded = np.zeros((*mask.shape, 3), dtype=np.uint8)
    coded[~mask], coded[mask] = RED, GREEN
    coded[~outer], coded[inner] = DARK_RED, DARK_GREEN
    return coded


def rgba(mask: Truth) -> Pixels:
    """An opaque RGBA mask."""
    gray = mask.astype(np.uint8) * 255
    return np.dstack([gray, gray, gray, np.full_like(gray, 255)])


def pair(image: Path, mask: Path, seed: int, how: str = "JPEG") -> Truth:
    """Write an image and its mask; the mask as L, RGB or RGBA by turns, as CASIA mixes them."""
    drawn = blob(seed)
    save(image, picture(seed, *drawn.shape), how)
    gray = drawn.astype(np.uint8) * 255
    save(mask, [gray, np.dstack([gray] * 3), rgba(drawn)][seed % 3])
    return drawn


def run(layout: str, source: Path, folder: Path, **how: Any) -> Imported:
    """Find and import, under the layout's own name."""
    options = {key: how.pop(key) for key in ("images", "masks", "inverted") if key in how}
    return import_found(find(layout, source, **options), folder, how.pop("name", layout), **how)


def opened(folder: Path, expected: Mapping[str, Truth | None]) -> Dataset:
    """Open what was imported: these samples and no other, each with its own mask, bit by bit."""
    data = open_folder(folder)
    assert {row.name for row in data.rows} == set(expected)
    for row in data.rows:
        mask = expected[row.name]
        assert row.label == (mask is not None)
        with PillowImage.open(data.root / row.image) as image:
            stored = np.asarray(image.convert("RGB"))
        assert np.array_equal(data.image(row), stored)
        assert row.pixels_sha256 == hashlib.sha256(stored.tobytes()).hexdigest()
        if mask is not None:
            assert np.array_equal(data.mask(row), mask), row.name
            assert row.fg_fraction == round(float(np.mean(mask)), 6)
    return data


def state(root: Path) -> dict[str, tuple[bytes, int]]:
    """All names, bytes and times below a folder."""
    return {
        str(path): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in [root, *root.rglob("*")]
    }


def report_of(folder: Path) -> dict[str, Any]:
    """The report beside the manifest."""
    found: dict[str, Any] = json.loads((folder / "import_report.json").read_text())
    return found


# Image and mask stems of CASIA v1 in three generations of names, and what a pair is.
CASIA_V1_PAIRS: Sequence[tuple[str, str, str]] = (
    ("Sp_D_CND_A_pla0005_pla0023_0281", "Sp_D_CND_A_pla0005_pla0023_0281", "splice"),
    ("Sp_S_NNN_A_arc0020_arc0020_0014", "Sp_S_NNN_A_arc0020_arc0020_0014", "copymove"),
    # Source and target swapped; two more share the running number.
    ("Sp_D_NRN_A_cha0042_cha0011_0099", "Sp_D_NRN_A_cha0011_cha0042_0099", "splice"),
    ("Sp_D_CNN_C_ani0068_ani0045_0099", "Sp_D_CNN_C_ani0068_ani0045_0099", "splice"),
    ("Sp_S_NNN_A_nat0001_nat0001_0099", "Sp_S_NNN_A_nat0001_nat0001_0099", "copymove"),
    # Of the table of renames: D becomes S, S becomes D, and an id changes.
    ("Sp_D_NND_A_nat0054_nat0054_0189", "Sp_S_NND_A_nat0054_nat0054_0189", "copymove"),
    ("Sp_S_CRN_A_arc0007_arc0005_0228", "Sp_D_CRN_A_arc0007_arc0005_0228", "splice"),
    ("Sp_D_NNN_A_sec0049_sec0049_0117", "Sp_D_NNN_A_sec0049_sec0050_0117", "splice"),
    ("Sp_D_NNN_A_ani0099_ani0100.0288", "Sp_D_NNN_A_ani0099_ani0100.0288", "splice"),
)
TRANSPOSED = "Sp_D_CNN_A_sec0012_ani0007_0275"
ORPHAN = "Sp_D_NRN_A_sce0011_cha0011_0542"


def casia_v1(root: Path, tampered: str = "CASIA1/Tp") -> dict[str, Truth | None]:
    """CASIA v1 with a mask on its side and an image without one; expected masks by sample name.

    Args:
        tampered: the folder of tampered images; ``{kind}`` becomes CM or Sp.
    """
    expected: dict[str, Truth | None] = {}
    truth_folder = root / "CASIA 1.0 groundtruth"
    for seed, (image, mask, kind) in enumerate(CASIA_V1_PAIRS):
        was = "CM" if image.startswith("Sp_S") else "Sp"
        now = "CM" if kind == "copymove" else "Sp"
        folder = root / tampered.format(kind=was)
        expected[image] = pair(folder / f"{image}.jpg", truth_folder / now / f"{mask}_gt.png", seed)
    folder = root / tampered.format(kind="Sp")
    drawn = blob(50)
    save(folder / f"{TRANSPOSED}.jpg", picture(50, *drawn.shape), "JPEG")
    # Turned clockwise, so that turning it counter-clockwise gives it back.
    save(truth_folder / "Sp" / f"{TRANSPOSED}_gt.png", np.rot90(drawn, -1))
    expected[TRANSPOSED] = drawn
    save(folder / f"{ORPHAN}.jpg", picture(51, 48, 72), "JPEG")
    for seed, name in enumerate(("Au_ani_0045.jpg", "Au_cha_0011.JPG", "Au_obj_0001.jpg")):
        save(root / "CASIA1/Au" / name, picture(60 + seed, 48, 72), "JPEG")
        expected[name.partition(".")[0]] = None
    (truth_folder / "FileNameCorrection.xlsx").write_bytes(b"PK")
    return expected


def casia_v2(root: Path) -> dict[str, Truth | None]:
    """CASIA v2 with two generations of names, a mask on its side, one cropped and one corrected."""
    tampered, truth_folder = root / "CASIA2/Tp", root / "CASIA 2 Groundtruth"
    pairs = (
        ("Tp_D_CNN_M_N_ani00018_sec00096_00138.tif", "Tp_D_CNN_M_N_ani00018_sec00096_00138_gt"),
        ("Tp_S_NNN_S_N_art00010_art00010_11305.jpg", "Tp_S_NNN_S_N_art00010_art00010_11305_gt"),
        ("Tp_D_CND_S_N_ani00073_txt00006_00010.tif", "Tp_D_CND_S_N_txt00006_ani00073_00010_gt"),
        # Named S before the correction, and another donor: the number decides.
        ("Tp_S_CRN_S_N_cha00001_cha00002_00777.tif", "Tp_D_CRN_S_N_cha00001_cha00003_00777_gt"),
        ("Tp_D_NND_S_N_xxx00000_nat00001_20094.tif", "Tp_D_NND_S_N_xxx00000_nat00001_20094_gt3"),
        # In the table as cropped, but corrected by the user.
        ("Tp_D_NND_S_N_arc00001_nat00002_01654.tif", "Tp_D_NND_S_N_arc00001_nat00002_01654_gt"),
    )
    expected: dict[str, Truth | None] = {}
    for seed, (image, mask) in enumerate(pairs):
        how = "TIFF" if image.endswith("tif") else "JPEG"
        expected[image[:-4]] = pair(tampered / image, truth_folder / f"{mask}.png", seed, how)
    drawn = blob(50)
    save(tampered / "Tp_D_NNN_L_N_ani00001_ani00002_11227.tif", picture(50, *drawn.shape), "TIFF")
    turned = np.rot90(drawn, -1)
    save(truth_folder / "Tp_D_NNN_L_N_ani00001_ani00002_11227_gt.png", turned)
    expected["Tp_D_NNN_L_N_ani00001_ani00002_11227"] = drawn
    pair(
        tampered / "Tp_D_NND_S_N_arc00005_nat00006_01602.tif",
        truth_folder / "Tp_D_NND_S_N_arc00005_nat00006_01602_gt.png",
        7,
        "TIFF",
    )
    save(truth_folder / "Tp_D_NND_S_N_arc00005_nat00006_01602_gt.png", blob(7)[4:, 4:])
    for seed, name in enumerate(("Au_ani_00018.jpg", "Au_sec_00096.jpg", "Au_txt_00006.bmp")):
        how = "BMP" if name.endswith("bmp") else "JPEG"
        save(root / "CASIA2/Au" / name, picture(60 + seed, 48, 72), how)
        expected[name.partition(".")[0]] = None
    # The same photograph under two names, as in the published set.
    save(root / "CASIA2/Au/Au_ani_20016.jpg", picture(60, 48, 72), "JPEG")
    expected["Au_ani_20016"] = None
    (truth_folder / "_list.txt").write_text("stray")
    return expected


def columbia(root: Path, folder: str = "{name}") -> dict[str, Truth | None]:
    """Columbia with JPEG edge masks and their blue-banded twins."""
    expected: dict[str, Truth | None] = {}
    spliced = root / folder.format(name="4cam_splc")
    authentic = root / folder.format(name="4cam_auth")
    names = ("canong3_canonxt_sub_01", "canong3_canonxt_sub_02", "nikond70_kodakdcs330_sub_30")
    for seed, name in enumerate(names):
        drawn = blob(seed)
        suffix, how = (".bmp", "BMP") if seed == 1 else (".tif", "TIFF")
        save(spliced / f"{name}{suffix}", picture(seed, *drawn.shape), how)
        coded = edge_mask(drawn)
        masks = spliced / "edgemask"
        quality: dict[str, Any] = {"quality": 95, "subsampling": 0}
        save(masks / f"{name}_edgemask.jpg", coded, "JPEG", **quality)
        coded[20:28] = (0, 0, 255)
        save(masks / f"{name}_edgemask_3.jpg", coded, "JPEG", **quality)
        expected[name] = drawn
    for seed, name in enumerate(("canong3_02_sub_01", "canong3_02_sub_08", "nikond70_11_sub_03")):
        save(authentic / f"{name}.tif", picture(70 + seed, 48, 72), "TIFF")
        expected[name] = None
    save(authentic / "edgemask/canong3_02_sub_01_edgemask.jpg", edge_mask(blob(9)), "JPEG")
    (root / "README.txt").write_text("cite us")
    return expected


def imd20(root: Path) -> dict[str, Truth | None]:
    """IMD2020 with several forgeries of an original, equal names, and a mask that does not fit."""
    expected: dict[str, Truth | None] = {}
    forgeries = (
        ("1a3oag", "c8tt7fg_0.jpg", "JPEG", "1a3oag_c8tt7fg_0"),
        ("1a3oag", "c8tuq9k_0.png", "PNG", "1a3oag_c8tuq9k_0"),
        ("1b8r7b", "c94h7ly_0.jpg", "JPEG", "1b8r7b_c94h7ly_0"),
        ("z1", "00030_fake.jpg", "JPEG", "z1_00030_fake"),
        ("z4", "00030_fake_01.jpg", "JPEG", "z4_00030_fake_01"),
    )
    for seed, (folder, file, how, name) in enumerate(forgeries):
        mask = root / "IMD2020" / folder / f"{file[:-4]}_mask.png"
        expected[name] = pair(root / "IMD2020" / folder / file, mask, seed, how)
    for seed, (folder, file, name) in enumerate(
        (
            ("1a3oag", "1a3oag_orig.jpg", "1a3oag_orig"),
            ("1b8r7b", "1b8r7b_orig.jpg", "1b8r7b_orig"),
            ("z1", "00030_orig.jpg", "z1_00030_orig"),
            ("z4", "00030_orig.jpg", "z4_00030_orig"),
            ("z14", "00030_orig.jpg", "z14_00030_orig"),
        )
    ):
        save(root / "IMD2020" / folder / file, picture(60 + seed, 48, 72), "JPEG")
        expected[name] = None
    pair(root / "IMD2020/z14/00030_fake.jpg", root / "IMD2020/z14/00030_fake_mask.png", 9, "JPEG")
    save(root / "IMD2020/z14/00030_fake_mask.png", blob(9, 40, 60))
    return expected


def misd(root: Path) -> dict[str, Truth | None]:
    """MISD with a mask for each pasted object, blanks in names, and hidden colours."""
    expected: dict[str, Truth | None] = {}
    names = (
        "Sp_D_ani_00001_cha_00049_sec_00096_1",
        "Sp_D_ cha_00049_cha_0048_cha_0050_142",
        "SP_D_ani_0001_art_00002_149 ",
    )
    slugs = {}
    for seed, name in enumerate(names):
        folder = root / "Ground Truth Masks" / name
        image = picture(400 + seed, 48, 72)
        save(folder / "images" / f"{name}.png", image)
        parts = [blob(10 * seed + part) for part in range(2 if seed else 3)]
        if seed == 2:
            parts = parts[:1]
        for number, part in enumerate(parts, start=1):
            save(folder / "masks" / f"{name}_{number}.png", part)
        slugs[name] = np.logical_or.reduce(parts)
    expected |= {slug(name): mask for name, mask in slugs.items()}
    for seed, name in enumerate(("Au_ani_00001.jpg", "Au_cha_00049.JPG", "Au_sec_00096.bmp")):
        how = "BMP" if name.endswith("bmp") else "JPEG"
        save(root / "Au" / name, picture(460 + seed, 48, 72), how)
        expected[name.partition(".")[0]] = None
    save(root / "Sp/Sp_D_ani_00001_cha_00049_sec_00096_1.jpg", picture(0, 32, 48), "JPEG")
    return expected


def no_mask_in(root: Path) -> str:
    """One of MISD's pictures without any mask; its folder's name."""
    name = "Sp_D_nat_00001_nat_00002_230"
    save(root / "Ground Truth Masks" / name / "images" / f"{name}.png", picture(33, 48, 72))
    return name
