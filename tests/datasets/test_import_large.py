"""A picture of 144 million pixels, as MISD has one: read in bounded memory, told in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as PillowImage

SIDE = 12_000
CODE = """
import json, resource, sys
from pathlib import Path
from advbench.datasets.importing.layouts.folder import import_folder
report = import_folder(Path(sys.argv[1]), Path(sys.argv[2]), "big").report
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"warnings": report["warnings"], "mib": peak / 1024}))
"""


@pytest.mark.slow
def test_144_megapixels_with_alpha(tmp_path: Path) -> None:
    """The decoded picture is 549 MiB in Pillow and 412 MiB as an array; not much is added."""
    image = PillowImage.new("RGBA", (SIDE, SIDE), (10, 200, 30, 255))
    image.paste((1, 2, 3, 0), (0, 0, SIDE // 4, SIDE))
    mask = PillowImage.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (100, 100, 2000, 2000))
    for name, picture in (("images", image), ("masks", mask)):
        (tmp_path / name).mkdir()
        picture.save(tmp_path / name / "big.png", compress_level=1)
    command = [sys.executable, "-c", CODE, str(tmp_path), str(tmp_path / "m")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    found = json.loads(ran.stdout)
    assert found["warnings"] == [{"image": "images/big.png", "warning": "has 144 million pixels"}]
    assert found["mib"] < 1400
