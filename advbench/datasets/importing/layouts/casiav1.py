"""CASIA v1 as it is downloaded, with the masks of N. T. Pham; found by names, in any folders."""

from __future__ import annotations

from pathlib import Path

from advbench.datasets.importing.layouts.casia import find_casia
from advbench.datasets.importing.layouts.layout import Found, Layout

LAYOUT = Layout(
    name="casiav1",
    title="CASIA v1",
    images="tampered images Sp_*.jpg (CASIA1/Tp)",
    masks="masks Sp_*_gt.png ('CASIA 1.0 groundtruth')",
    source="https://github.com/namtpham/casia1groundtruth",
    published={"forged": 921, "masks": 920, "authentic": 800},
    licence={"id": "research and teaching", "redistribution": "no"},
    citation="J. Dong, W. Wang, T. Tan: CASIA image tampering detection evaluation database, "
    "ChinaSIP 2013; masks: N. T. Pham et al.: Hybrid image-retrieval method for image-splicing "
    "validation, Symmetry 11(1), 2019",
    homepage="https://github.com/namtpham/casia1groundtruth",
    known_issues=(
        "one tampered image has no mask: it is the same picture as Au_cha_0011.jpg",
        "one mask lies on its side",
        "three masks cover more than half of their image",
    ),
)


def find(path: Path) -> Found:
    """Pair images and masks by name; running numbers are not unique here and decide nothing.

    Raises:
        AdvbenchError: no such folder, or one half of the dataset is not there.
    """
    return find_casia(LAYOUT, path, prefix="sp_")
