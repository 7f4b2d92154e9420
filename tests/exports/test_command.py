"""``advbench export`` on the command line: what it chooses, refuses and leaves behind."""

from __future__ import annotations

import filecmp
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from advbench.errors import AdvbenchError
from advbench.exports import photographs, target
from advbench.shards.store import ShardStore

KINDS = ("png", "webdataset", "huggingface")


def complaint(ran) -> str:
    """The one line of a refusal."""
    assert ran.code == 2, (ran.code, ran.err)
    assert "Traceback" not in ran.err
    (line,) = [line for line in ran.err.splitlines() if line.startswith("advbench: error: ")]
    return line


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_twice(kind, store, tmp_path, advbench_command):
    store.manifest()
    for name in ("one", "two"):
        ran = advbench_command("export", kind, "--to", tmp_path / name, "--out", store.out)
        assert ran.code == 0, ran.err
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert not list(tmp_path.glob(".*tmp-*"))


def test_what_is_printed(store, tmp_path, advbench_command):
    """The content's sum is the one that verify prints."""
    ran = advbench_command("export", "png", "--to", tmp_path / "a", "--out", store.out)
    verified = advbench_command("verify", "--out", store.out).out.splitlines()[-1]
    assert ran.out.splitlines()[-1] == verified
    assert verified.removeprefix("content sha256 ") in (tmp_path / "a" / "README.md").read_text()
    ran = advbench_command("export", "png", "--to", tmp_path / "b", "--out", store.out, "--json")
    found = json.loads(ran.out)
    assert (found["images"], found["photographs"], found["files"]) == (12, 3, 16)


@pytest.mark.parametrize(
    ("options", "variants"),
    [
        ("--victim ifosn", {"ifosn/pgd-1", "ifosn/pgd-2.5", "ifosn/cw-50"}),
        ("--attack pgd", {"ifosn/pgd-1", "ifosn/pgd-2.5", "code/pgd-1"}),
        ("--attack pgd-2.5,cw", {"ifosn/pgd-2.5", "ifosn/cw-50"}),
        ("--attack cw --attack pgd-1 --victim ifosn", {"ifosn/cw-50", "ifosn/pgd-1"}),
        ("--dataset all --victim code --attack all", {"code/pgd-1"}),
    ],
)
def test_choosing(options, variants, store, tmp_path, *, advbench_command):
    ran = advbench_command(
        "export", "png", "--to", tmp_path / "a", "--out", store.out, *options.split()
    )
    assert ran.code == 0, ran.err
    found = {"/".join(path.parts[-4:-2]) for path in (tmp_path / "a").rglob("residual/*.png")}
    assert found == variants


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--victim ifson", "--victim 'ifson': no images of it in {out}/shards; did you mean ifosn"),
        ("--attack pgdd", "--attack 'pgdd': no images of it in {out}/shards; did you mean pgd"),
        ("--attack zzz", "there are cw, cw-50, pgd, pgd-1, pgd-2.5"),
        ("--dataset dat", "--dataset 'dat': no images of it in {out}/shards; did you mean data"),
        ("--victim code --attack cw", "no images of that dataset, victim and attack together"),
        ("--shard-bytes 5", "--shard-bytes is no option of png"),
        ("--out {out}/none", "{out}/none/shards: no adversarial images there; make some"),
        ("--to {out}", "--to {out}: is not empty; give a new or an empty folder"),
        ("--to {out}/shards/index.csv", "a file stands there; give a new or an empty folder"),
        ("--to {out}/shards/index.csv/a", "give another path"),
    ],
)
def test_refusals(arguments, expected, store, tmp_path, *, advbench_command):
    before = tree(store.out)
    options = ["--to", tmp_path / "a", "--out", store.out]
    given = arguments.format(out=store.out).split()
    line = complaint(advbench_command("export", "png", *options, *given))
    assert expected.format(out=store.out) in line
    assert not (tmp_path / "a").exists()
    assert tree(store.out) == before


def test_an_unknown_format_is_told_the_known_ones(tmp_path, advbench_command):
    line = complaint(advbench_command("export", "pgn", "--to", tmp_path / "a"))
    assert "'png', 'webdataset', 'huggingface'" in line


def test_another_export_is_never_touched(store, tmp_path, advbench_command):
    run = ("export", "webdataset", "--to", tmp_path / "a", "--out", store.out)
    assert advbench_command(*run).code == 0
    before = tree(tmp_path / "a")
    assert "holds another export" in complaint(advbench_command(*run))
    assert tree(tmp_path / "a") == before


def test_what_came_there_meanwhile_stays(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(AdvbenchError, match="meanwhile"), target.whole_folder(tmp_path / "a"):
        (tmp_path / "a" / "b").write_text("somebody else's")
    assert tree(tmp_path) == {"a/b": b"somebody else's"}


def test_a_read_only_place(store, tmp_path, advbench_command, monkeypatch):
    """As the operating system tells it; a superuser's tests cannot make a folder read-only."""

    def refuse(self, *arguments, **options):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    line = complaint(advbench_command("export", "png", "--to", tmp_path / "a", "--out", store.out))
    assert "read-only file system; give a writable --to" in line


def test_an_empty_folder_is_taken(store, tmp_path, advbench_command):
    (tmp_path / "a").mkdir()
    assert advbench_command("export", "png", "--to", tmp_path / "a", "--out", store.out).code == 0
    assert (tmp_path / "a" / "README.md").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_shard_leaves_nothing_behind(kind, store, tmp_path, advbench_command):
    """The last image of the last shard: most is written when it is found."""
    path = store.out / "shards" / "data" / "ifosn" / "pgd-2.5" / "shard-000002.h5"
    with h5py.File(path) as file:
        offset = file["records/000000/residual"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 9] ^= 4
    path.write_bytes(bytes(data))
    line = complaint(advbench_command("export", kind, "--to", tmp_path / "a", "--out", store.out))
    assert f"{path}: damaged" in line
    assert line.endswith("run the same generate command with --repair")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("name", ["originals-native/shard-000002", "ifosn/pgd-1/shard-000000"])
def test_a_lost_shard_is_named(name, store, tmp_path, advbench_command):
    """Unless it is given up, or belongs to what is not exported."""
    run = ("export", "png", "--out", store.out, "--to")
    (store.out / "shards/data" / f"{name}.h5").unlink()
    line = complaint(advbench_command(*run, tmp_path / "a"))
    assert f"shards that index.csv lists are missing (data/{name}.h5), with" in line
    assert "run the generate command that made them again" in line
    assert not (tmp_path / "a").exists()
    assert advbench_command(*run, tmp_path / "b", "--victim", "code").code == 0


def test_a_missing_original(store, tmp_path, advbench_command):
    """Nothing can be exported without it, given up or not."""
    (store.out / "shards/data/originals-native/shard-000002.h5").unlink()
    ShardStore(store.out / "shards").write_index(anew=True)
    line = complaint(advbench_command("export", "png", "--to", tmp_path / "a", "--out", store.out))
    assert "the original of data/photo_2 is missing; run the same generate command again" in line


def test_an_invalid_manifest_is_not_taken_for_none(store, tmp_path, advbench_command):
    store.manifest()
    path = store.out / "datasets" / "data" / "dataset.json"
    path.write_text(path.read_text().replace('"title"', '"titel"'))
    line = complaint(advbench_command("export", "png", "--to", tmp_path / "a", "--out", store.out))
    assert f"{path}: " in line


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(kind, store, tmp_path, advbench_command):
    """A real failure of write(2): the process may not let files grow beyond 2 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        ran = advbench_command("export", kind, "--to", tmp_path / "a", "--out", store.out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    line = complaint(ran)
    assert f"--to {tmp_path / 'a'}: the disk is full" in line
    assert "nothing was exported; free some space" in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_a_stop_leaves_nothing_behind(store, tmp_path, advbench_command, monkeypatch):
    def stop(group):
        yield next(photographs.photographs(group))
        raise KeyboardInterrupt

    monkeypatch.setattr("advbench.exports.export.photographs", stop)
    ran = advbench_command("export", "png", "--to", tmp_path / "a", "--out", store.out)
    assert ran.code == 130
    assert "nothing was exported" in ran.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_a_kill_leaves_no_export_and_the_next_one_clears_up(store, tmp_path, advbench_command):
    """SIGKILL while the folder is written: its place stays empty, and what lies beside goes."""
    code = (
        "import sys, time, advbench.exports.export as e, advbench.exports.photographs as p\n"
        "def slow(group):\n"
        "    for photograph in p.photographs(group): yield photograph; time.sleep(60)\n"
        "e.photographs = slow\n"
        "from pathlib import Path\n"
        "e.export(e.ExportJob('png', Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(store.out), str(tmp_path / "a")])
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".a.tmp-*/data")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(tmp_path.glob(".a.tmp-*/data"))) == 1
    assert not (tmp_path / "a").exists()
    assert advbench_command("export", "png", "--to", tmp_path / "a", "--out", store.out).code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "out"]


def test_it_is_flushed_before_it_gets_its_name(store, tmp_path, monkeypatch):
    states = []
    monkeypatch.setattr(os, "sync", lambda: states.append((tmp_path / "a").exists()))
    store.export("png", tmp_path / "a")
    assert states == [False]
    assert target.os is os


def test_shared_originals_are_one_file(store, tmp_path):
    """Two exports of overlapping variants hold equal originals: nothing depends on the choice."""
    store.manifest()
    store.export("png", tmp_path / "a", attacks=["pgd-1"], victims=["ifosn"])
    store.export("png", tmp_path / "b", attacks=["cw"])
    compared = filecmp.dircmp(
        tmp_path / "a/data/originals-native/Tp", tmp_path / "b/data/originals-native/Tp"
    )
    assert compared.left_only == compared.right_only == compared.diff_files == []


def test_exporting_imports_no_torch_and_its_help_nothing_heavy(store, tmp_path):
    code = (
        "import sys; from advbench.cli.main import main\n"
        "given = sys.argv[1:]\n"
        "def run(*arguments):\n"
        "    sys.argv = ['advbench', 'export', *arguments]\n"
        "    try: main()\n"
        "    except SystemExit as ended: assert not ended.code\n"
        "run('--help')\n"
        "assert not {'torch', 'numpy', 'pyarrow', 'jinja2'} & set(sys.modules)\n"
        "run(*given)\n"
        "assert not {'torch', 'datasets', 'mlcroissant', 'webdataset'} & set(sys.modules)"
    )
    command = ["huggingface", "--to", str(tmp_path / "a"), "--out", str(store.out)]
    subprocess.run([sys.executable, "-c", code, *command], capture_output=True, check=True)
    assert (tmp_path / "a" / "README.md").is_file()
