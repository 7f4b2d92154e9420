"""``advbench show``: pictures of stored images and of one's own files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from advbench.report import picture as drawing


@pytest.fixture
def attacked(toy, imported, advbench_command):
    data = ("--dataset", "mine", "--out", imported)
    assert advbench_command("generate", "--attack", "fgsm", "--eps", "1,3", *data, *toy).code == 0
    return imported


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: the figures, as they are saved."""
    figures = []
    save = drawing.save

    def keep(figure, path):
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(drawing, "save", keep)
    return figures


def test_stored_images(attacked, toy, tmp_path, advbench_command, *, drawn):
    common = ("--dataset", "mine", "--out", attacked, *toy)
    to = tmp_path / "a.png"
    command = ("show", "photo0", "mine/photo1", "--defense", "jpeg-70,median-3", "--to", to)
    ran = advbench_command(*command, *common)
    assert ran.code == 0, ran.err
    assert Image.open(to).size[0] > 600
    axes = np.reshape(drawn[0].axes, (4, 6))
    titles = [axis.get_title() for axis in axes[0]]
    assert titles[3:] == ["undefended", "behind jpeg-70", "behind median-3"]
    labels = [axis.get_ylabel() for axis in axes[:, 0]]
    assert labels == ["photo0\noriginal", "fgsm-3", "photo1\noriginal", "fgsm-3"]
    noise = axes[1, 2].get_images()[0].get_array()
    assert set(np.unique(noise)) <= {68, 88, 108, 128, 148, 168, 188}

    before = to.read_bytes()
    assert advbench_command(*command, *common).code == 0
    assert to.read_bytes() == before


def test_f1_under_a_map_is_that_of_its_record(attacked, toy, advbench_command, drawn):
    import pandas as pd

    from advbench.scores.records import read_records

    assert advbench_command("evaluate", *toy[:2], "--out", attacked).code == 0
    common = ("--dataset", "mine", "--out", attacked, *toy)
    assert advbench_command("show", "photo2", "--attack", "fgsm-1", *common).code == 0
    records = read_records(attacked / "records").set_index(["sample_id", "variant"]).f1
    axes = np.reshape(drawn[0].axes, (2, -1))
    for row, variant in enumerate(("original", "fgsm-1")):
        f1 = records["mine/photo2", variant]
        assert axes[row, 3].get_xlabel() == ("F1 undefined" if pd.isna(f1) else f"F1 {f1:.3f}")


def test_files_of_ones_own(pictures, toy, tmp_path, advbench_command):
    image, mask = (pictures / kind / "photo0.png" for kind in ("images", "masks"))
    odd = tmp_path / "$x_{1}$ [b] \u202e.png"
    odd.write_bytes(image.read_bytes())
    to = tmp_path / "own.pdf"
    ran = advbench_command(
        "show", odd, "--mask", mask, "--attack", "bim", "--eps", 2, "--defense", "none",
        "--to", to, *toy,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert to.read_bytes().startswith(b"%PDF")
    without = advbench_command(
        "show", image, "--attack", "fgsm", "--defense", "none", "--to", tmp_path / "b.png", *toy
    )
    assert without.code == 0, without.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing.png",), "neither a file nor an attacked image of mine"),
        (
            ("photo0", "--attack", "pgd"),
            "pgd: no such attack of it there; there are fgsm-1, fgsm-3",
        ),
        (("photo0", "--to", "x.gif"), "pictures end in .png or .pdf"),
        (("photo0", "--mask", "m.png"), "--mask: 1 for 0 image files"),
        (("photo0", "--eps", "3"), "name a stored variant"),
        (("photo0", "--defense", "jpg"), "did you mean jpeg"),
        (("photo0", "--defense", "jpeg-many"), "'many' is not a number"),
        (("photo0", "--defense", "none-3"), "takes no strength"),
    ],
)
def test_what_cannot_be_drawn(attacked, toy, advbench_command, arguments, *, told):
    ran = advbench_command("show", *arguments, "--dataset", "mine", "--out", attacked, *toy)
    assert ran.code == 2
    assert told in ran.err
    assert not (attacked / "show.png").exists()


def test_no_network_by_default_is_told(attacked, toy, advbench_command):
    common = ("--dataset", "mine", "--out", attacked, *toy)
    ran = advbench_command("show", *common)
    assert ran.code == 0
    assert "left out: defense ansm" in ran.err
    assert advbench_command("show", "--defense", "ansm", *common).code == 2
