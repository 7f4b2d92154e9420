"""``export huggingface --push``: what reaches the Hub, and what is refused before or after."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest


@pytest.fixture
def hub(monkeypatch):
    """The Hub replaced: what it was asked, and an error to raise at the upload."""
    double = SimpleNamespace(made=[], files=None, error=None, token="t")

    class Api:
        def create_repo(self, repo_id, **options):
            double.made.append((repo_id, options))
            return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"me/{repo_id}")

        def upload_folder(self, *, folder_path, repo_id, repo_type, commit_message):
            if double.error:
                raise double.error
            folder = Path(folder_path)
            paths = (path for path in folder.rglob("*") if path.is_file())
            double.files = {path.relative_to(folder).as_posix() for path in paths}
            double.to = (repo_id, repo_type)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: double.token)
    return double


@pytest.fixture
def run(store, tmp_path, advbench_command):
    store.manifest()

    def export(*options, kind="huggingface"):
        return advbench_command(
            *("export", kind, "--out", store.out, "--to", tmp_path / "hub", *options)
        )

    return export


def test_the_whole_folder_is_pushed(run, hub, tmp_path):
    ran = run("--push", "me/forged", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["pushed"] == "https://huggingface.co/datasets/me/forged"
    assert hub.made == [("me/forged", {"repo_type": "dataset", "exist_ok": True})]
    assert hub.to == ("me/forged", "dataset")
    here = {p.relative_to(tmp_path / "hub").as_posix() for p in (tmp_path / "hub").rglob("*.*")}
    assert {"README.md", "croissant.json"} <= hub.files
    assert here - {"SHA256SUMS"} <= hub.files
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "https://huggingface.co/datasets/me/forged" in card


def test_a_name_without_owner_is_the_user_s(run, hub):
    ran = run("--push", "forged")
    assert ran.out.splitlines()[-1] == "pushed: https://huggingface.co/datasets/me/forged"


def test_nobody_is_logged_in(run, hub, tmp_path):
    hub.token = None
    ran = run("--push", "me/forged")
    assert ran.code == 2
    assert "nobody is logged in to Hugging Face; run: hf auth login" in ran.err
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("name", ["a/b/c", "bad name", "", "-x-/y"])
def test_a_name_that_is_none(run, hub, tmp_path, name):
    ran = run(f"--push={name}")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert "--push" in ran.err
    assert not (tmp_path / "hub").exists()


def test_another_format(run, hub, tmp_path):
    ran = run("--push", "me/forged", kind="png")
    assert ran.code == 2
    assert "--push is no option of png" in ran.err
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("403 Forbidden\nmore")])
def test_a_hub_that_refuses_leaves_the_export(run, hub, tmp_path, error):
    hub.error = error
    ran = run("--push", "me/forged")
    assert ran.code == 2
    assert str(error).splitlines()[0] in ran.err
    assert "hf upload me/forged" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert (tmp_path / "hub" / "README.md").is_file()
