"""``advbench leaderboard site``: static pages that follow from records."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path

import pandas as pd
import pytest

from advbench.scores.floors import with_floors
from advbench.scores.leaderboard import leaderboard
from advbench.scores.records import read_records, write_merged
from advbench.scores.tables import as_csv
from tests.report.pages import Page, check_self_contained
from tests.scores.made import frame, record

PUBLISHED = Path(__file__).parents[2] / "manifests" / "leaderboards"


def test_the_published_ones(tmp_path, advbench_command):
    ran = advbench_command("leaderboard", "site", "--to", tmp_path)
    assert ran.code == 0, ran.err
    for name in (path.stem for path in PUBLISHED.glob("*.csv")):
        page = Page(tmp_path / f"{name}.html")
        check_self_contained(page)
        board = pd.read_csv(PUBLISHED / f"{name}.csv")
        records = read_records(PUBLISHED / f"{name}.parquet")
        text = (tmp_path / f"{name}.html").read_text()
        for file in (f"{name}.csv", f"{name}.parquet"):
            assert (tmp_path / file).read_bytes() == (PUBLISHED / file).read_bytes()
            assert hashlib.sha256((tmp_path / file).read_bytes()).hexdigest() in text
        anchors = {a.get("id") for _, a in page.elements}
        links = [a["href"] for a in page.all("a")]
        for link in links:
            if link.startswith("#"):
                assert link[1:] in anchors
            else:
                assert (tmp_path / link).is_file(), link
        counted = 0
        for row in board.to_dict("records"):
            assert row["content_sha256"] in text
        for number in range(1, len(board) + 1):
            own = pd.read_csv(tmp_path / name / f"row-{number}.csv")
            assert own.defense.nunique() == own.victim.nunique() == 1
            counted += len(own)
        assert counted == len(with_floors(records))
    check_self_contained(Page(tmp_path / "index.html"))


def test_a_csv_that_does_not_follow_is_refused(tmp_path, advbench_command):
    shutil.copytree(PUBLISHED, tmp_path / "boards")
    listed = tmp_path / "boards" / "builtin2.csv"
    text = listed.read_text()
    listed.write_text(text.replace(",PASS,", ",FAIL,", 1))
    assert listed.read_text() != text
    ran = advbench_command(
        "leaderboard", "site", "--from", tmp_path / "boards", "--to", tmp_path / "site"
    )
    assert ran.code == 2
    assert "builtin2.csv: does not follow from builtin2.parquet; build it again with" in ran.err


def test_nothing_to_show(tmp_path, advbench_command):
    ran = advbench_command("leaderboard", "site", "--from", tmp_path, "--to", tmp_path / "site")
    assert ran.code == 2
    assert "leaderboard build --with-records" in ran.err


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "=1+1", '"><img onerror=a>'])
def test_hostile_names(name, tmp_path, advbench_command):
    about = {"victim": name, "weights": name, "kind": name, "defense_spec": name, "version": name}
    records = frame([record(f"{name}{i}", **about) for i in range(3)])
    source = tmp_path / "boards"
    write_merged(source / "mine.parquet", records)
    (source / "mine.csv").write_bytes(as_csv(leaderboard(read_records(source / "mine.parquet"))))
    to = tmp_path / "site"
    ran = advbench_command("leaderboard", "site", "--from", source, "--to", to)
    assert ran.code == 0, ran.err
    page = Page(to / "mine.html")
    check_self_contained(page)
    assert len(page.all("script")) == 1
    own = pd.read_csv(io.BytesIO((to / "mine" / "row-1.csv").read_bytes()))
    assert set(own.victim) == {f"'{name}" if name.startswith("=") else name}
