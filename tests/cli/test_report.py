"""``advbench report``: one page from records and shards."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess

import pandas as pd
import pytest
from PIL import Image

from advbench.report.tables import attack_seconds, shard_rows
from advbench.scores.records import read_records
from advbench.shards.store import ShardStore
from tests.report.pages import Page, check_self_contained


@pytest.fixture
def scored(toy, imported, advbench_command):
    data = ("--dataset", "mine", "--out", imported)
    assert advbench_command("generate", "--attack", "fgsm", "--eps", "1,3", *data, *toy).code == 0
    command = ("evaluate", "--defense", "median", "--kernel", "3,5", *toy[:2], "--out", imported)
    assert advbench_command(*command).code == 0
    return imported


def test_a_report_of_everything(scored, toy, advbench_command):
    ran = advbench_command("report", "--out", scored, *toy[:2], "--json")
    assert ran.code == 0, ran.err
    path = scored / "report" / "index.html"
    told = json.loads(ran.out)
    assert told == {
        "path": str(path),
        "bytes": path.stat().st_size,
        "records": 5 * 3 * 3,
        "notes": [],
    }
    page = Page(path)
    check_self_contained(page)

    rows = json.loads(page.texts["script"][[s.get("id") for s in page.all("script")].index("rows")])
    records = read_records(scored / "records")
    table = pd.DataFrame(dict(zip([*rows["text"], *rows["number"]], rows["columns"], strict=True)))
    assert len(table) == len(records)
    assert table["F1"].sum() == pytest.approx(records.f1.sum(), abs=1e-2)
    names = {rows["texts"][code] for code in table["sample"]}
    assert names == set(records.sample_id)

    long = pd.read_csv(scored / "tables" / "long.csv")
    printed = [float(n) for n in re.findall(r"\d+\.\d", " ".join(page.texts["td"]))]
    own = long[long.defense.isin(records.defense)]
    for row in own[own.attack == "original"].to_dict("records"):
        assert any(abs(row["rp"] - number) < 0.06 for number in printed)

    pictures = [a["src"] for a in page.all("img") if "src" in a]
    assert pictures
    for address in pictures:
        data = base64.b64decode(address.partition(",")[2])
        assert Image.open(io.BytesIO(data)).format == "WEBP"

    before = path.read_bytes()
    assert advbench_command("report", "--out", scored, *toy[:2]).code == 0
    assert path.read_bytes() == before


def test_maps_score_as_recorded(scored, toy, advbench_command):
    """F1 under each map of the gallery is that of the image's record."""
    assert advbench_command("report", "--out", scored, *toy[:2]).code == 0
    text = (scored / "report" / "index.html").read_text()
    records = read_records(scored / "records")
    shown = re.search(
        r"<summary><bdi>toy</bdi>.*?: <bdi>(fgsm-\d)</bdi>, behind <bdi>(.*?)</bdi>", text
    )
    variant, defense = shown[1], shown[2]
    examples = re.findall(r'<article class="example">(.*?)</article>', text, re.S)
    assert examples
    for example in examples:
        sample = re.search(r"<h3><bdi>(.*?)</bdi>", example)[1]
        found = [float(f) for f in re.findall(r"<br>F1 ([\d.]+)", example)]
        of = records[records.sample_id == sample]
        strength = float(defense.split()[1])
        expected = [
            of[(of.variant == "original") & (of.defense == "none")].f1.item(),
            of[(of.variant == variant) & (of.defense == "none")].f1.item(),
            of[(of.variant == variant) & (of.strength == strength)].f1.item(),
        ]
        assert found == pytest.approx(expected, abs=6e-4)


def test_without_pictures_or_maps(scored, toy, advbench_command):
    ran = advbench_command("report", "--out", scored, "--megabytes", 0, *toy[:2])
    assert ran.code == 0, ran.err
    assert "the page's limit of bytes is reached" in ran.out
    assert not [a for a in Page(scored / "report" / "index.html").all("img") if "src" in a]

    ran = advbench_command("report", "--out", scored, "--no-maps")
    assert "no maps: they were not asked for" in ran.out

    shutil.rmtree(scored / "shards")
    ran = advbench_command("report", "--out", scored)
    assert ran.code == 0, ran.err
    assert "No shards are here" in (scored / "report" / "index.html").read_text()


def test_a_run_of_two_intensities_is_timed_once(scored):
    shards = shard_rows(ShardStore(scored / "shards").entries())
    assert [row["variant"] for row in shards] == ["fgsm-1", "fgsm-3"]
    assert shards[0]["seconds"] == shards[1]["seconds"] > 0
    assert attack_seconds(shards) == shards[0]["seconds"]


def test_what_it_lacks_is_named(scored, tmp_path, toy, advbench_command):
    ran = advbench_command("report", "--out", scored, "--victim", "code", "--no-maps")
    assert ran.code == 2
    assert "no records of victim 'code'; there are toy" in ran.err
    ran = advbench_command("report", "--out", tmp_path / "nothing")
    assert ran.code == 2
    assert "make some with advbench evaluate" in ran.err


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_in_a_browser(scored, toy, tmp_path, advbench_command):
    """The script runs under the page's own policy, from a file."""
    assert advbench_command("report", "--out", scored, *toy[:2]).code == 0
    address = (scored / "report" / "index.html").as_uri()
    shown = chromium(tmp_path, "--dump-dom", address)
    assert "45 of 45 rows, page 1 of 1" in shown
    assert shown.count("aria-sort") > 15


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("chromium") or not shutil.which("pdftotext"),
    reason="needs chromium and pdftotext",
)
def test_printed(scored, toy, tmp_path, advbench_command):
    """The tables keep their headings, which are buttons on a screen."""
    assert advbench_command("report", "--out", scored, *toy[:2], "--no-maps").code == 0
    pdf = tmp_path / "report.pdf"
    chromium(tmp_path, f"--print-to-pdf={pdf}", (scored / "report" / "index.html").as_uri())
    text = subprocess.run(
        ["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"defense +victim +weights", text)
    assert re.search(r"variant +dataset +victim", text)
    assert "Previous" not in text


def chromium(profile, *arguments):
    """What headless Chromium prints to its output."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", f"--user-data-dir={profile / 'profile'}", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
