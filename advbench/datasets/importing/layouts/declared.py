"""Published datasets whose folders a few patterns describe."""

from __future__ import annotations

from advbench.datasets.importing.layouts.layout import Layout
from advbench.datasets.importing.layouts.rules import Rules
from advbench.datasets.importing.masks import BLACK, NOT_BLACK

_RESEARCH = {"id": "research", "redistribution": "no"}
_AUTOSPLICE = (
    "S. Jia et al.: AutoSplice: a text-prompt manipulated image dataset for media forensics, CVPR "
    "workshops 2023"
)


def _autosplice(quality: int) -> Rules:
    """One of its three JPEG qualities, which hold the same forgeries."""
    return Rules(
        Layout(
            name=f"autosplice{quality}",
            title=f"AutoSplice, JPEG {quality}",
            images=f"forgeries Forged_JPEG{quality}/<id>_<n>.jpg",
            masks="masks Mask/<id>_mask.png",
            source="https://github.com/shanface33/AutoSplice_Dataset",
            published={"forged": 3621, "authentic": 2273},
            licence=_RESEARCH,
            citation=_AUTOSPLICE,
            homepage="https://github.com/shanface33/AutoSplice_Dataset",
            known_issues=("several forgeries of one photograph, with one mask",),
        ),
        forged=rf"forged_jpeg{quality}/([^/_.]+)[^/]*\.jpe?g",
        mask=r"mask/([^/_.]+)_mask\.png",
        authentic=r"authentic/([^/_.]+)[^/]*\.jpe?g",
        others=((r"forged_jpeg\d+/[^/]*", "another JPEG quality"),),
        kind="splice",
    )


_RULES = (
    Rules(
        Layout(
            name="coverage",
            title="COVERAGE",
            images="forgeries image/<n>t.tif",
            masks="masks mask/<n>forged.tif",
            source="https://github.com/wenbihan/coverage",
            published={"forged": 100, "masks": 100, "authentic": 100},
            licence=_RESEARCH,
            citation="B. Wen et al.: COVERAGE: a novel database for copy-move forgery detection, "
            "ICIP 2016",
            homepage="https://github.com/wenbihan/coverage",
            known_issues=("some copies hold TIFF files whose names end in .png",),
        ),
        forged=r"image/(\d+)t\.\w+",
        mask=r"mask/(\d+)forged\.\w+",
        authentic=r"image/(\d+)\.\w+",
        others=((r"mask/\d+(copy|paste)\.\w+", "the copied region alone"),),
        kind="copymove",
    ),
    Rules(
        Layout(
            name="dso1",
            title="DSO-1",
            images="forgeries DSO-1/splicing-<n>.png",
            masks="masks DSO-1-Fake-Images-Masks/splicing-<n>.png",
            source="https://recodbr.wordpress.com/code-n-data/#dso1_dsi1",
            published={"forged": 100, "masks": 100, "authentic": 100},
            licence=_RESEARCH,
            citation="T. J. de Carvalho et al.: Exposing digital image forgeries by illumination "
            "color classification, IEEE TIFS 8(7), 2013",
            homepage="https://recodbr.wordpress.com/code-n-data/#dso1_dsi1",
            known_issues=("in its masks black is forged",),
        ),
        forged=r"dso-1/(splicing-\d+)\.png",
        mask=r"dso-1-fake-images-masks/(splicing-\d+)\.png",
        authentic=r"dso-1/(normal-\d+)\.png",
        kind="splice",
        mask_rule=BLACK,
    ),
    Rules(
        Layout(
            name="korus",
            title="Realistic Tampering (Korus)",
            images="forgeries <camera>/tampered-realistic/<name>.TIF",
            masks="masks <camera>/ground-truth/<name>.PNG",
            source="https://pkorus.pl/downloads/dataset-realistic-tampering",
            published={"forged": 220, "masks": 220, "authentic": 220},
            licence=_RESEARCH,
            citation="P. Korus, J. Huang: Multi-scale analysis strategies in PRNU-based tampering "
            "localization, IEEE TIFS 12(4), 2017",
            homepage="https://pkorus.pl/downloads/dataset-realistic-tampering",
            known_issues=("its masks have three levels: black alone is authentic",),
        ),
        forged=r"([^/]+)/tampered-realistic/([^/]+)\.tiff?",
        mask=r"([^/]+)/ground-truth/([^/]+)\.png",
        authentic=r"([^/]+)/pristine/([^/]+)\.tiff?",
        kind="mixed",
        mask_rule=NOT_BLACK,
        by_key=True,
    ),
    Rules(
        Layout(
            name="cocoglide",
            title="CocoGlide",
            images="forgeries fake/glide_inpainting_val2017_<id>_up.png",
            masks="masks mask/<class>_<id>_mask.png",
            source="https://grip-unina.github.io/TruFor",
            published={"forged": 512, "masks": 512, "authentic": 512},
            licence=_RESEARCH,
            citation="F. Guillaro et al.: TruFor: leveraging all-round clues for trustworthy image "
            "forgery detection and localization, CVPR 2023",
            homepage="https://grip-unina.github.io/TruFor",
            known_issues=(
                "images, masks and originals have different names: the number of the photograph "
                "in COCO joins them",
            ),
        ),
        forged=r"fake/[^/]*?(\d+)(?:_up)?\.png",
        mask=r"mask/[^/]*?(\d+)(?:_up)?(?:_mask)?\.png",
        authentic=r"real/[^/]*?(\d+)\.png",
    ),
    *(_autosplice(quality) for quality in (75, 90, 100)),
)
RULES = {rules.layout.name: rules for rules in _RULES}
