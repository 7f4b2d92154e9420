"""Bad input: one line that names the thing and the remedy, exit code 2, no traceback."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from advbench.cli import main

from .conftest import columns


def complaint(ran) -> str:
    """The one line of a refusal."""
    lines = [line for line in ran.err.splitlines() if line.startswith("advbench: error: ")]
    assert ran.code == 2, (ran.code, ran.err)
    assert len(lines) == 1
    assert "Traceback" not in ran.err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("generate --attack pgdd", "unknown attack 'pgdd'; did you mean pgd"),
        ("generate --attack pgd --victim ifson", "unknown victim 'ifson'; did you mean ifosn"),
        (
            "generate --attack pgd --victim code --size full --dataset {mine}",
            "code (full): no builtin weights of that size; give --weights PATH",
        ),
        ("generate --attack cw --eps 3", "eps: no setting of cw; there are c, early_stop, kappa"),
        ("generate --attack cw --eps 3", "variant; the intensity is steps"),
        ("generate --attack cw --eps 4", "eps: no setting of cw; there are c, early_stop, kappa"),
        (
            "generate --attack pgd --steps 20",
            "target; the intensity is eps, gradient steps are iterations=20",
        ),
        ("generate --attack pgd --eps x", "'x' is not a number"),
        ("generate --attack pgd --eps 1_0", "'1_0' is not a number"),
        ("generate --attack pgd --eps -1", "eps: input should be greater than or equal to 0"),
        ("generate --attack pgd --eps 1,1.0 --set alpha=eps/0", "alpha: must be grey levels above"),
        ("generate --attack cw --steps 2.5", "steps: input should be a valid integer"),
        ("generate --attack bim --set decay=1", "decay: no setting of bim; there are alpha"),
        ("generate --attack bim --set decay", "not of the form key=value"),
        ("generate --attack bim --profile fast", "unknown profile 'fast'; there are default"),
        ("generate --attack pgd --dataset nowhere", "unknown dataset 'nowhere'; "),
        ("generate --attack pgd --dataset casiav1", "advbench dataset import casiav1 PATH"),
        ("generate --attack pgd --device gpu9", "--device gpu9"),
        (
            "generate --attack pgd --weights nothing.pt --dataset {mine}",
            "nothing.pt: no such weights",
        ),
        ("generate --attack pgd --limit 0", "--limit"),
        ("generate", "Missing option '--attack'"),
        ("generate --attack pgd --plugin nothing:here", "cannot import nothing"),
        (
            "evaluate --defense jpeg --ansm-weights x",
            "ansm-weights: no setting of jpeg; there are quality",
        ),
        ("evaluate --defense ansm --sigma 2", "sigma: no setting of ansm; there are ansm-weights"),
        ("evaluate --defense jpg", "unknown defense 'jpg'; did you mean jpeg"),
        ("evaluate --defense jpeg --kernel 3", "kernel: no setting of jpeg; there are quality"),
        ("evaluate --defense jpeg --quality 0", "quality: input should be greater than or equal"),
        ("evaluate --defense median --kernel 4", "a kernel has an odd side"),
        ("evaluate --protocol f1/v9", "unknown protocol 'f1/v9'; there is f1/v1"),
        ("evaluate --out {empty}", "no shards there; make some with advbench generate"),
        ("verify --out {empty}", "no shards there; make some with advbench generate"),
        ("train victim coded", "unknown victim 'coded'; did you mean code"),
        ("train victim ifosn --set epochs=0", "recipe: epochs: input should be greater than"),
        ("train victim ifosn --dataset {mine}", "has no train split to train with"),
        ("train ansm --victim code --victim-size full", "code (full): no builtin weights"),
        (
            "train ansm --victim ifosn --set epoch=3",
            "recipe: epoch: unknown; there are seed, depth",
        ),
        ("train ansm --victim ifosn --start hdfmet", "hdfmet: no such file"),
        ("train ansm --victim ifosn --set depth=deep", "recipe: depth: input should be 'shallow'"),
        (
            "train ansm --victim ifosn --set epochs_first=0 --set epochs_mgr=0",
            "recipe: epochs_mgr: one of the two stages needs an epoch",
        ),
        (
            "train ansm --victim ifosn --set crop=32 --set batch=1",
            "recipe: batch: a batch of 1 needs a crop above 32",
        ),
        ("train ansm --victim ifosn --dataset {mine}", "has no train split to train with"),
        (
            "train relocalise --victim ifosn --localizer ifosn",
            "--localizer ifosn: the victim itself; give another victim",
        ),
        ("train relocalise --victim ifosn --localizer mvsnet", "did you mean mvssnet"),
        ("train relocalise --victim ifosn --set tile=0", "recipe: tile: input should be greater"),
        ("train relocalise --victim ifosn --dataset {mine}", "has no train split to train with"),
        ("evaluate --defense jpeg --relocalise-weights x", "relocalise-weights: no setting of jp"),
        ("dataset import casiav1 {empty}", "{empty}: holds no part of CASIA v1: neither tampered"),
        ("dataset import casiav1 x", "x: no such folder"),
        ("dataset import casia1 x", "unknown layout 'casia1'; did you mean casiav1"),
        ("dataset import zzz x", "there are autosplice100, autosplice75, autosplice90, casiav1"),
        ("dataset import folder {empty}", "layout folder needs a name for the dataset; add --name"),
        ("dataset import imdlbenco {empty} --name y", "no such file; layout imdlbenco takes a JSO"),
        (
            "dataset import misd x --images a",
            "--images and --masks are options of folder and huggingface, not of misd",
        ),
        ("dataset import misd x --inverted a", "--inverted is an option of columbia"),
        ("dataset import folder {empty}/none --name y", "no such folder"),
        ("dataset import folder {empty} --name Y-y", "use a-z, 0-9, - and _"),
        ("dataset build columbia", "only builtin, builtin1, builtin2 and open"),
        ("dataset build open", "dataset open needs --photographs ROOT"),
        ("dataset build open --photographs {empty}", "unpack Debian's endless-sky-data, mate-ba"),
        ("dataset synthesize {empty} --name y", "0 different photographs in it"),
        ("dataset synthesize {empty} --name open", "one of advbench's own datasets"),
        ("train victim ifosn --photographs {empty}", "--photographs is an option of --fresh"),
        ("dataset check open", "build it with: advbench dataset build open"),
        ("plan quik", "quik: no such file; unknown suite 'quik'; did you mean quick?"),
        ("run none.toml", "none.toml: no such file; unknown suite"),
        ("reproduce table3 --dataset {mine} --profile fast", "unknown profile 'fast'; there are"),
        ("report", "no records there; make some with advbench evaluate"),
        ("lisst", "no such command 'lisst'; did you mean list, quickstart?"),
    ],
)
def test_refusals(arguments, expected, imported, tmp_path, *, advbench_command):
    (tmp_path / "empty").mkdir()
    text = arguments.format(mine=imported / "datasets" / "mine", empty=tmp_path / "empty")
    found = complaint(advbench_command(*text.split()))
    assert expected.format(empty=tmp_path / "empty") in found


def test_debug_shows_the_traceback(advbench_command):
    ran = advbench_command("generate", "--attack", "pgdd", "--debug")
    assert ran.code == 2
    assert "Traceback" in ran.err


def generate(advbench_command, out: Path, toy, *more: object):
    attack = ("--attack", "fgsm", "--dataset", "mine", "--out", out)
    return advbench_command("generate", *attack, *toy, *more)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_unreadable_image(content, pictures, imported, toy, *, advbench_command):
    """Zero bytes, text, and a file cut in the middle; what was made before stays."""
    assert generate(advbench_command, imported, toy, "--limit", 2).code == 0
    path = pictures / "images" / "photo3.png"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    assert f"{path}: " in complaint(generate(advbench_command, imported, toy))
    assert advbench_command("verify", "--out", imported).code == 0


def test_changed_image(pictures, imported, toy, advbench_command):
    (pictures / "images" / "photo0.png").write_bytes(
        (pictures / "images" / "photo1.png").read_bytes()
    )
    assert "not the image that the manifest of mine describes" in complaint(
        generate(advbench_command, imported, toy)
    )


def test_mask_of_another_size(pictures, tmp_path, advbench_command):
    (pictures / "masks" / "photo0.png").write_bytes(
        (pictures / "masks" / "photo4.png").read_bytes()
    )
    run = ("dataset", "import", "folder", pictures, "--name", "mine", "--out", tmp_path / "out")
    ran = advbench_command(*run)
    line = complaint(ran)
    assert "photo0.png: size-mismatch: its mask photo0.png is 40×33, the image 48×40" in line
    assert "--allow-exclude" in line
    file, check, value, _ = columns(ran.err)
    assert (file, check) == ("images/photo0.png", "size-mismatch")
    assert value == "itsmaskphoto0.pngis40×33,theimage48×40"
    assert advbench_command(*run, "--allow-exclude").code == 0


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("images/photo0.png", "../photo0.png", "stay inside the dataset folder"),
        (",fg_fraction,", ",fraction,", "column fg_fraction is missing"),
        (",test,1,", ",test,2,", "label"),
        ("photo1", "photo0", "stands twice"),
        (",none,", ",nine,", "mask_fix"),
    ],
)
def test_manifest_at_fault(old, new, expected, imported, *, toy, advbench_command):
    path = imported / "datasets" / "mine" / "manifest.csv"
    path.write_text(path.read_text().replace(old, new))
    line = complaint(generate(advbench_command, imported, toy))
    assert str(path) in line
    assert expected in line


def test_other_settings(imported, toy, advbench_command):
    assert generate(advbench_command, imported, toy).code == 0
    line = complaint(generate(advbench_command, imported, toy, "--seed", 1))
    assert "mine/toy/fgsm-1: made with other settings (seed 0 / 1)" in line


def test_damaged_shard_and_repair(imported, toy, advbench_command):
    assert generate(advbench_command, imported, toy).code == 0
    path = imported / "shards" / "mine" / "toy" / "fgsm-2" / "shard-000000.h5"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(bytes(data))
    ran = advbench_command("verify", "--out", imported)
    assert ran.code == 1
    assert "fgsm-2/shard-000000.h5" in ran.out
    for again in (
        generate(advbench_command, imported, toy),
        advbench_command("evaluate", "--out", imported, *toy[:2], "--victim", "toy"),
    ):
        assert f"{path}: damaged" in complaint(again)
    repaired = generate(advbench_command, imported, toy, "--repair")
    assert repaired.code == 0
    assert "repaired: mine/toy/fgsm-2/shard-000000.h5" in repaired.err
    assert advbench_command("verify", "--out", imported).code == 0


def test_output_is_a_file(imported, toy, tmp_path, advbench_command):
    (tmp_path / "file").write_text("")
    manifest = imported / "datasets" / "mine"
    arguments = ("--attack", "fgsm", "--dataset", manifest, *toy)
    line = complaint(advbench_command("generate", *arguments, "--out", tmp_path / "file" / "x"))
    assert "give another path" in line


def test_read_only_folder(imported, toy, advbench_command, monkeypatch):
    """As the operating system tells it; a superuser's tests cannot make a folder read-only."""
    real = Path.open

    def refusing(self, mode="r", *arguments, **options):
        if {"w", "x"} & set(mode):
            raise OSError(30, "Read-only file system", str(self))
        return real(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    assert "read-only file system; give a writable --out" in complaint(
        generate(advbench_command, imported, toy)
    )


def test_full_disk_keeps_what_is_whole_and_resumes(imported, toy, advbench_command):
    """A real failure of write(2): the process may not let files grow beyond 20 kB."""
    assert generate(advbench_command, imported, toy, "--limit", 2, "--eps", 1).code == 0
    arguments = ["--attack", "fgsm", "--dataset", "mine", "--out", str(imported), *toy]
    limited = subprocess.run(
        [sys.executable, "-m", "advbench", "generate", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        cwd=imported,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000)),
    )
    assert limited.returncode == 2
    assert "run the same command again, it resumes" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert advbench_command("verify", "--out", imported).code == 0
    assert generate(advbench_command, imported, toy).code == 0
    assert advbench_command("verify", "--out", imported).code == 0


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_lack_of_memory_is_told_with_its_remedy(error, monkeypatch, capsys):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main, "cli", SimpleNamespace(main=fail))
    monkeypatch.setattr("sys.argv", ["advbench", "generate"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    assert "advbench: error: out of memory with a single image; take" in capsys.readouterr().err
