"""CASIA v2 with the masks of N. T. Pham, in any of its three releases."""

from __future__ import annotations

from pathlib import Path

from advbench.datasets.importing.layouts.casia import find_casia
from advbench.datasets.importing.layouts.layout import Found, Layout

LAYOUT = Layout(
    name="casiav2",
    title="CASIA v2",
    images="tampered images Tp_*.tif and Tp_*.jpg (CASIA2/Tp)",
    masks="masks Tp_*_gt.png ('CASIA 2 Groundtruth')",
    source="https://github.com/namtpham/casia2groundtruth",
    published={"forged": 5123, "masks": 5123, "authentic": 7491},
    licence={"id": "research and teaching", "redistribution": "no"},
    citation="J. Dong, W. Wang, T. Tan: CASIA image tampering detection evaluation database, "
    "ChinaSIP 2013; masks: N. T. Pham et al.: Hybrid image-retrieval method for image-splicing "
    "validation, Symmetry 11(1), 2019",
    homepage="https://github.com/namtpham/casia2groundtruth",
    known_issues=(
        "five masks lie on their side, twelve are cropped or scaled",
        "releases differ: 5125 images and 5079 masks before 2019, 5123 and 5123 since",
        "some authentic images stand in it twice, and many are CASIA v1's and MISD's",
    ),
    parts=(0.9, 0.1),
)


def find(path: Path) -> Found:
    """Pair images and masks by name, then by running number, which is unique here.

    Raises:
        AdvbenchError: no such folder, or one half of the dataset is not there.
    """
    return find_casia(LAYOUT, path, prefix="tp_", unique_numbers=True)
