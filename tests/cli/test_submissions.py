"""Submissions: an honest one holds and is merged; each doctored one is refused with its reason."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from advbench.errors import AdvbenchError
from advbench.scores.leaderboard import leaderboard
from advbench.scores.records import read_records, write_merged
from advbench.scores.tables import as_csv
from advbench.submissions import records as records_file
from advbench.submissions.check import check
from advbench.submissions.pack import SubmissionJob, submit
from tests.cli.doctored import DOCTORED, Files, adaptive, better, repacked, unpacked, with_records


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An output folder scored with two defenses, a leaderboard of the one and an archive of the
    other, attacked through itself too; by the command line."""
    import sys

    from advbench.cli.main import main
    from advbench.registry import VICTIMS

    base = tmp_path_factory.mktemp("submission")
    pictures = base / "pictures"
    rng = np.random.default_rng(3)
    from PIL import Image

    for folder in ("images", "masks"):
        (pictures / folder).mkdir(parents=True)
    for number in range(4):
        image = np.kron(rng.integers(40, 216, (5, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        mask = np.zeros((40, 48), np.uint8)
        mask[8 : 20 + number, 10:28] = 255
        Image.fromarray(image).save(pictures / "images" / f"photo{number}.png")
        Image.fromarray(mask).save(pictures / "masks" / f"photo{number}.png")
    out = base / "out"
    toy = ("--plugin", "toy_victim:ToyVictim", "--victim", "toy")
    common = ("--out", out, *toy)
    sys.path.insert(0, str(Path(__file__).parent))
    argv = sys.argv
    try:
        for line in (
            ("dataset", "import", "folder", pictures, "--name", "mine", "--out", out),
            ("generate", "--attack", "fgsm", "--eps", "1,3", "--dataset", "mine", "--weights",
             "random", *common),
            ("evaluate", "--defense", "jpeg,median", "--quality", 80, "--kernel", 3, *common),
        ):  # fmt: skip
            sys.argv = ["advbench", *map(str, line)]
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code
    finally:
        sys.argv = argv
        sys.path.remove(str(Path(__file__).parent))
        sys.modules.pop("toy_victim", None)
        VICTIMS.entries.pop("toy", None)
    records = read_records(out / "records")
    boards = base / "boards"
    ranked = records[records.defense.isin(["none", "jpeg"])]
    for name in ("mine", "mine-static"):
        write_merged(boards / f"{name}.parquet", ranked)
        (boards / f"{name}.csv").write_bytes(as_csv(leaderboard(ranked)))
    return out, boards


@pytest.fixture(scope="module")
def archive(made) -> Path:
    """What ``submit`` packs of the median."""
    path = made[0].parent / "median.zip"
    submit(SubmissionJob(made[0], path, "mine", "median", "a filter"))
    return path


@pytest.fixture(scope="module")
def files(archive) -> Files:
    """The same with attacks through the median, as a leaderboard asks for."""
    return adaptive(unpacked(archive))


def test_an_honest_one_holds_and_is_merged(made, archive, files, tmp_path, *, advbench_command):
    out, boards = made
    again = tmp_path / "again.zip"
    command = ("submit", "median", "--dataset", "mine", "--title", "a filter", "--to", again)
    assert advbench_command(*command, "--out", out).code == 0
    assert archive.read_bytes() == again.read_bytes()

    path = repacked(tmp_path / "adaptive.zip", files)
    ran = advbench_command("leaderboard", "check", path, "--against", boards)
    assert ran.code == 0, ran.err
    assert "holds; median on mine" in ran.out
    assert "threat models adaptive, static" in ran.out

    to = tmp_path / "boards"
    shutil.copytree(boards, to)
    assert advbench_command("leaderboard", "add", path, "--to", to).code == 0
    board = pd.read_csv(to / "mine.csv")
    assert set(board.defense) >= {"none", "jpeg", "median"}
    rebuilt = tmp_path / "rebuilt"
    command = ("leaderboard", "build", "--records", to / "mine.parquet", "--to", rebuilt)
    assert advbench_command(*command).code == 0
    assert (rebuilt / "mine.csv").read_bytes() == (to / "mine.csv").read_bytes()

    ran = advbench_command("leaderboard", "add", path, "--to", to)
    assert ran.code == 2
    assert "median before toy is there already" in ran.err


def test_a_static_one_is_taken_as_such(made, archive, tmp_path, advbench_command):
    ran = advbench_command("leaderboard", "check", archive, "--against", made[1])
    assert ran.code == 2
    assert "no adaptive attack" in ran.err
    ran = advbench_command("leaderboard", "check", archive, "--against", made[1], "--static")
    assert ran.code == 0, ran.err
    to = tmp_path / "boards"
    to.mkdir()
    shutil.copy(made[1] / "mine-static.parquet", to)
    ran = advbench_command("leaderboard", "add", archive, "--to", to)
    assert ran.code == 2
    assert "there is no leaderboard mine of it" in ran.err
    assert "there is a static one: --static" in ran.err
    assert advbench_command("leaderboard", "add", archive, "--to", to, "--static").code == 0
    assert set(pd.read_csv(to / "mine-static.csv").defense) >= {"none", "jpeg", "median"}


@pytest.mark.parametrize("kind", DOCTORED)
def test_doctored_records_and_claims(kind, made, files, tmp_path):
    change, reason = DOCTORED[kind]
    path = repacked(tmp_path / "doctored.zip", change(files))
    with pytest.raises(AdvbenchError) as refused:
        check(path, made[1])
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def _written(path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)


def _link() -> zipfile.ZipInfo:
    about = zipfile.ZipInfo("shards.json")
    about.external_attr = (stat.S_IFLNK | 0o777) << 16
    return about


ARCHIVES = {
    "a path outside": (lambda m: [*m, ("../../evil.py", b"")], "holds '../../evil.py'"),
    "an absolute path": (lambda m: [*m, ("/etc/cron.d/x", b"")], "holds '/etc/cron.d/x'"),
    "a pickle": (lambda m: [*m, ("weights.pkl", b"cos\nsystem\n")], "holds 'weights.pkl'"),
    "escape codes": (lambda m: [*m, ("\x1b[2J", b"")], "holds '\\\\x1b[2J'"),
    "a link": (lambda m: [*m[:3], (_link(), b"/etc/passwd")], "no plain file but a link"),
    "a file twice": (lambda m: [*m, m[0]], "holds more than one"),
    "a file less": (lambda m: m[:3], "lacks shards.json"),
    "a bomb": (
        lambda m: [*m[:3], ("shards.json", b"0" * (17 << 20))],
        "shards.json unpacks to 17825792 bytes",
    ),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ARCHIVES)
def test_doctored_archives(kind, made, archive, tmp_path):
    change, reason = ARCHIVES[kind]
    path = tmp_path / "doctored.zip"
    _written(path, change(sorted(unpacked(archive).items(), key=lambda m: m[0] == "shards.json")))
    with pytest.raises(AdvbenchError) as refused:
        check(path, made[1])
    assert reason in str(refused.value)


def test_damaged_records_are_refused_or_harmless(files):
    """A flipped bit is found, or lies where it says nothing: no other record comes of it."""
    data = files["records.parquet"]
    whole = records_file.read(data)
    refused = 0
    for place in range(3, len(data), len(data) // 150):
        flipped = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
        try:
            pd.testing.assert_frame_equal(records_file.read(flipped), whole)
        except AdvbenchError:
            refused += 1
    assert refused > 40


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_no_archive(data, made, tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    with pytest.raises(AdvbenchError, match=r"no whole ZIP|lacks submission"):
        check(path, made[1])


def test_a_size_that_lies(made, archive, tmp_path):
    """The head of a member says that it is small; what is read is bounded all the same."""
    data = bytearray(archive.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = (5).to_bytes(4, "little")
    path = tmp_path / "x.zip"
    path.write_bytes(bytes(data))
    with pytest.raises(AdvbenchError):
        check(path, made[1])


def test_hashes_that_are_not_those_of_the_files(made, archive, tmp_path):
    files = unpacked(archive)
    files["leaderboard.csv"] += b"\n"
    path = tmp_path / "x.zip"
    _written(path, list(files.items()))
    with pytest.raises(AdvbenchError, match=r"its sha256 is not the one in submission\.json"):
        check(path, made[1])


def test_scored_again(made, archive, tmp_path, toy, *, advbench_command):
    """Consistent lies are found by scoring a sample again."""
    out, boards = made
    command = ("leaderboard", "check", "--against", boards, "--static", "--out", out, *toy[:2])
    ran = advbench_command(*command, archive, "--rerun", 12)
    assert ran.code == 0, ran.err
    assert "12 records scored again, to the same F1" in ran.out

    path = repacked(tmp_path / "lies.zip", with_records(unpacked(archive), better))
    ran = advbench_command(*command, path)
    assert ran.code == 0, "nothing in it contradicts anything else"
    ran = advbench_command(*command, path, "--rerun", 12)
    assert ran.code == 2
    assert "F1 behind median-3 is" in ran.err


def test_nothing_to_submit(made, tmp_path, advbench_command):
    command = ("submit", "ansm", "--dataset", "mine", "--to", tmp_path / "a.zip", "--out", made[0])
    ran = advbench_command(*command)
    assert ran.code == 2
    assert "advbench evaluate --defense ansm" in ran.err
    assert not (tmp_path / "a.zip").exists()
