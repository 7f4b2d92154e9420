"""Names to plug-ins: nearest names, planned ones, entry points, plug-ins named on the spot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import advbench
from advbench import registry
from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError
from advbench.registry import ATTACKS, DATASETS, DEFENSES, VICTIMS, Entry, Registry, add_plugin

PLUGINS = '''
from advbench.defenses.base import Defense

class Blur(Defense):
    """Blurs a little.

    More of it.
    """
    name = "blur"
    def defend(self, images, strength, keys):
        return images

class OtherJPEG(Blur):
    name = "jpeg"

class Nameless(Defense):
    def defend(self, images, strength, keys):
        return images

class Stranger:
    name = "stranger"

def function():
    pass

nothing = None
'''


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Registries, module paths and loaded plug-ins are put back after each test."""
    for family in (ATTACKS, VICTIMS, DEFENSES, DATASETS):
        monkeypatch.setattr(family, "entries", dict(family.entries))
        monkeypatch.setattr(family, "_discovered", False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for module in ("acme_plugins", "acme_broken", "acme_other"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme_plugins.py").write_text(PLUGINS)
    (tmp_path / "acme_broken.py").write_text("raise RuntimeError('no\\nlicence')")


def install(site: Path, group: str, **points: str) -> None:
    """A distribution on the path, as pip leaves it."""
    info = site / "acme_kit-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-kit\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    sys.path.insert(0, str(site))


def refusal(family: Registry, name: str) -> str:
    with pytest.raises(AdvbenchError) as caught:
        family.get(name)
    text = str(caught.value)
    assert "\n" not in text
    assert repr(name) in text
    return text


def test_built_in_names() -> None:
    """Those of the design that this version brings; every one of them loads."""
    assert set(ATTACKS.standard()) == {"fgsm", "bim", "pgd", "mifgsm", "pgn", "cw"}
    assert set(DEFENSES.entries) | set(DEFENSES.planned) == {
        *("none", "jpeg", "resize", "median", "gaussian", "ansm", "ansm-multi", "relocalise")
    }
    assert set(VICTIMS.entries) | set(VICTIMS.planned) == {"mvssnet", "ifosn", "hdfnet", "code"}
    assert set(DATASETS.entries) | set(DATASETS.planned) == {
        *("builtin", "builtin1", "builtin2", "open"),
        *("columbia", "casiav1", "casiav2", "imd20", "misd"),
    }
    for family in (ATTACKS, VICTIMS, DEFENSES):
        for name, entry in family.entries.items():
            assert family.get(name).name == name
            assert entry.summary


@pytest.mark.parametrize(
    ("family", "name", "near"),
    [(ATTACKS, "pdg", "pgd"), (ATTACKS, "mi-fgsm", "mifgsm"), (DEFENSES, "jpg", "jpeg")],
)
def test_did_you_mean(family: Registry, name: str, near: str) -> None:
    """A slip is answered with what was meant."""
    text = refusal(family, name)
    assert text.startswith(f"unknown {family.kind}")
    assert near in text.partition("did you mean ")[2].rstrip("?").split(", ")


@pytest.mark.parametrize("name", ["", "zzzzzz", "PGD!?*"])
def test_nothing_near(name: str) -> None:
    """What resembles nothing is answered with all there is, or with the nearest."""
    text = refusal(ATTACKS, name)
    assert "did you mean" in text or all(known in text for known in ATTACKS.names())


def test_planned() -> None:
    """A name of the benchmark that is not there yet says so, and what to do instead."""
    planned = [
        (family, name) for family in (VICTIMS, DEFENSES, DATASETS) for name in family.planned
    ]
    assert planned
    for family, name in planned:
        text = refusal(family, name)
        assert "not in this version" in text
        assert family.planned[name] in text
        assert name not in family.names()


def test_added_by_name() -> None:
    """A class in the current folder is a defense from then on, described by its first line."""
    assert add_plugin("acme_plugins:Blur") == ("defense", "blur")
    assert DEFENSES.all()["blur"] == Entry("acme_plugins:Blur", "Blurs a little.", "--plugin")
    assert isinstance(advbench.load_defense("blur"), Defense)
    assert DEFENSES.names()[-1] == "blur"
    assert add_plugin("acme_plugins:Blur") == ("defense", "blur")


REFUSED = [
    ("acme_plugins:OtherJPEG", "built in"),
    ("acme_plugins:Nameless", "no name"),
    ("acme_plugins:Stranger", "neither an attack, a victim nor a defense"),
    ("acme_plugins:function", "neither an attack, a victim nor a defense"),
    ("acme_plugins:nothing", "nothing"),
    ("acme_plugins:Missing", "Missing"),
    ("acme_absent:Blur", "acme_absent"),
    ("acme_broken:Blur", "RuntimeError"),
    ("acme_plugins", "module:name"),
    ("acme_plugins:", "module:name"),
    (":Blur", "module:name"),
    ("", "module:name"),
    (".relative:Blur", "relative"),
    ("advbench.defenses.base:Defense", "no name"),
]


@pytest.mark.parametrize(("target", "part"), REFUSED)
def test_no_plugin(target: str, part: str) -> None:
    """What cannot be added is refused in one line, and nothing is replaced."""
    before = dict(DEFENSES.entries)
    with pytest.raises(AdvbenchError) as caught:
        add_plugin(target)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert DEFENSES.entries == before


def test_entry_point_of_an_installed_package(tmp_path: Path) -> None:
    """Found without touching advbench, listed after the built-in ones with its origin."""
    install(tmp_path / "site", "advbench.defenses", blur="acme_plugins:Blur")
    before = list(DEFENSES.entries)
    assert DEFENSES.names() == [*before, "blur"]
    assert DEFENSES.all()["blur"].origin == "acme-kit"
    assert "acme_plugins" not in sys.modules
    assert DEFENSES.get("blur").name == "blur"
    assert "blur" not in ATTACKS.names()


def test_entry_point_that_takes_a_name(tmp_path: Path) -> None:
    """A package cannot replace a built-in defense; both are named."""
    install(tmp_path / "site", "advbench.defenses", jpeg="acme_plugins:OtherJPEG")
    with pytest.raises(AdvbenchError, match=r"jpeg.*acme-kit.*built in"):
        DEFENSES.names()


def test_entry_point_that_takes_a_name_is_told_every_time(tmp_path: Path) -> None:
    """Nor are the plug-ins behind it lost without a word when a second call is made."""
    install(
        tmp_path / "site",
        "advbench.defenses",
        jpeg="acme_plugins:OtherJPEG",
        blur="acme_plugins:Blur",
    )
    with pytest.raises(AdvbenchError):
        DEFENSES.names()
    try:
        names = DEFENSES.names()
    except AdvbenchError:
        return
    assert "blur" in names


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("acme_plugins:Stranger", "does not derive from advbench.defenses.base:Defense"),
        ("advbench.attacks.pgd:PGD", "does not derive"),
        ("acme_broken:Blur", "RuntimeError"),
        ("acme_absent:Blur", "acme_absent"),
        ("acme_plugins:Missing", "Missing"),
    ],
)
def test_broken_entry_point(tmp_path: Path, target: str, part: str) -> None:
    """It is listed, as listing imports nothing; asked for, it is refused in one line."""
    install(tmp_path / "site", "advbench.defenses", broken=target)
    assert "broken" in DEFENSES.names()
    assert part in refusal(DEFENSES, "broken")
    assert DEFENSES.get("jpeg").name == "jpeg"


def test_entry_points_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search through installed packages is not repeated."""
    groups: list[str] = []

    def entry_points(group: str) -> list[object]:
        groups.append(group)
        return []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    for _ in range(3):
        ATTACKS.names()
        ATTACKS.get("pgd")
    assert groups == ["advbench.attacks"]


LISTING = """
import sys
from advbench.registry import families
names = [name for family in families() for name in family.names()]
assert "pgd" in names and "jpeg" in names and "ifosn" in names and "builtin" in names
heavy = {"torch", "numpy", "cv2", "pandas", "pydantic", "h5py", "timm", "advbench.attacks.pgd"}
print(sorted(heavy & set(sys.modules)))
"""


def test_listing_imports_nothing_heavy() -> None:
    """In a fresh interpreter, all names are known before torch or NumPy is."""
    found = subprocess.run(
        [sys.executable, "-c", LISTING], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == "[]"
