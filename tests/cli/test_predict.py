"""``advbench predict``: maps, overlays and masks of images alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image as PillowImage

import advbench
from advbench.images import to_tensor
from advbench.pipelines import sizes


@pytest.fixture
def photos(tmp_path):
    """Images of odd sizes, one of a single pixel."""
    rng = np.random.default_rng(3)
    paths = []
    for name, sides in {"a": (45, 62), "dot": (1, 1), "thin": (3, 70)}.items():
        paths.append(tmp_path / f"{name}.png")
        PillowImage.fromarray(rng.integers(0, 256, (*sides, 3), np.uint8)).save(paths[-1])
    return paths


def read(path):
    return np.asarray(PillowImage.open(path))


def test_files_show_the_victims_map(photos, tmp_path, advbench_command):
    to = tmp_path / "maps"
    ran = advbench_command("predict", *photos, "--to", to, "--json")
    rows = json.loads(ran.out)
    victim = advbench.load_victim("ifosn")
    for row, path in zip(rows, photos, strict=True):
        image = read(path)
        own = victim.probabilities(to_tensor(image) / 255)[0, 0].numpy()
        assert np.abs(read(row["map"]) / 255 - own).max() <= 0.5 / 255 + 1e-5
        assert np.array_equal(read(row["mask"]) > 0, own > victim.threshold)
        assert row["marked"] == pytest.approx((own > victim.threshold).mean())
        assert row["highest"] == pytest.approx(own.max(), abs=1e-5)
        p = own[..., None]
        expected = (1 - 0.6 * p) * image + 0.6 * p * np.array([255, 0, 0])
        assert np.abs(read(row["overlay"]) - expected).max() <= 0.51
    assert len(list(to.iterdir())) == 3 * len(photos)


@pytest.mark.parametrize("victim", ["mvssnet", "hdfnet", "code", "ifosn"])
def test_every_victim_takes_any_size(victim, photos, tmp_path, advbench_command):
    ran = advbench_command("predict", *photos, "--victim", victim, "--to", tmp_path / victim)
    assert ran.code == 0, ran.err
    sizes = [read(tmp_path / victim / f"{path.stem}-mask.png").shape for path in photos]
    assert sizes == [(45, 62), (1, 1), (3, 70)]


def test_a_defense_stands_before_the_victim(photos, tmp_path, advbench_command):
    plain, defended = tmp_path / "plain", tmp_path / "defended"
    advbench_command("predict", photos[0], "--to", plain)
    ran = advbench_command("predict", photos[0], "--to", defended, "--defense", "jpeg-30")
    assert ran.code == 0, ran.err
    assert not np.array_equal(read(plain / "a-map.png"), read(defended / "a-map.png"))


def test_bad_input_is_one_line(photos, tmp_path, advbench_command):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "a.png"
    twin.write_bytes(photos[0].read_bytes())
    (tmp_path / "text.png").write_text("no image")
    to = ("--to", tmp_path / "maps")
    for arguments, said in (
        ((), "give the path of an image"),
        ((tmp_path / "nothing.png",), "nothing.png"),
        ((tmp_path / "text.png",), "text.png"),
        ((photos[0], twin), "another image is called a"),
        ((photos[0], "--victim", "ifosm"), "did you mean ifosn"),
        ((photos[0], "--defense", "jpg"), "unknown defense 'jpg'"),
    ):
        ran = advbench_command("predict", *arguments, *to)
        assert ran.code == 2
        assert said in ran.err
        assert ran.err.count("\n") == 1


def test_what_memory_cannot_hold_is_refused(photos, tmp_path, advbench_command, monkeypatch):
    monkeypatch.setattr(sizes, "LARGE", 2000)
    monkeypatch.setattr(sizes, "device_memory", lambda device: 1000)
    ran = advbench_command("predict", *photos[::-1], "--to", tmp_path / "maps")
    assert ran.code == 2
    assert f"victim ifosn: {photos[0]} of 62×45 whole, about" in ran.err
    assert ran.err.splitlines()[-1].endswith("or tiles (wrap has side= and tile=)")
    assert not list((tmp_path / "maps").glob("a-*"))
