"""Names → plug-ins: built in, from entry points of installed packages, or named on the spot.

Nothing is imported before it is asked for, so listing names costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from advbench.errors import AdvbenchError, did_you_mean, first_line
from advbench.plugins import module_of


@dataclass(frozen=True)
class Entry:
    """Say where a plug-in is (``module:attribute``) and what it is, in a line."""

    target: str
    summary: str
    origin: str = "built in"


@dataclass
class Registry:
    """The plug-ins of one family.

    Attributes:
        kind: what one of them is called, as in ``attack``.
        base: ``module:Class`` that each of them derives from.
        entries: those known by name.
        planned: names of the benchmark that this version does not bring, with what to do instead.
        packages: by prefix, the functions that make the class of ``PREFIX:NAME`` of its name.
    """

    kind: str
    base: str
    entries: dict[str, Entry]
    planned: dict[str, str] = field(default_factory=dict)
    packages: dict[str, Entry] = field(default_factory=dict)
    _discovered: bool = False

    @property
    def group(self) -> str:
        """The entry-point group, such as ``advbench.attacks``."""
        return f"advbench.{self.kind}s"

    def names(self) -> list[str]:
        """All known names, the built-in ones first."""
        return list(self.all())

    def standard(self) -> list[str]:
        """The built-in names: what ``all`` means."""
        return [name for name, entry in self.entries.items() if entry.origin == "built in"]

    def all(self) -> dict[str, Entry]:
        """All entries, those of installed packages included."""
        if not self._discovered:
            for point in entry_points(group=self.group):
                origin = point.dist.name if point.dist else "entry point"
                self.add(point.name, Entry(point.value, f"from {origin}", origin))
            self._discovered = True
        return self.entries

    def shown(self) -> dict[str, Entry]:
        """All entries, those of other packages as ``PREFIX:NAME``."""
        return self.all() | {f"{prefix}:NAME": entry for prefix, entry in self.packages.items()}

    def add(self, name: str, entry: Entry) -> None:
        """Register a plug-in.

        Raises:
            AdvbenchError: the name is taken by another one.
        """
        present = self.entries.get(name)
        if present and present.target != entry.target:
            raise AdvbenchError(
                f"{self.kind} {name!r} of {entry.origin} is already taken by {present.origin}; "
                "rename one of them"
            )
        self.entries[name] = present or entry

    def get(self, name: str) -> Any:
        """The class behind a name.

        Raises:
            AdvbenchError: unknown (with the nearest names), broken, of another family or name.
        """
        if not isinstance(name, str):
            raise AdvbenchError(f"{self.kind}: give a name, not {name!r}")
        prefix, _, member = name.partition(":")
        entry = self.all().get(name) or (self.packages.get(prefix) if member else None)
        if entry is None:
            raise AdvbenchError(self.unknown(name))
        found = _class_of(load_target(entry.target, f"{self.kind} {name!r}"))
        if name not in self.entries:
            found = found(member)
        if not _derives(found, self.base):
            raise AdvbenchError(
                f"{self.kind} {name!r} ({entry.target}) does not derive from {self.base}"
            )
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        if missing:
            raise AdvbenchError(f"{self.kind} {name!r} ({entry.target}) does not define {missing}")
        if getattr(found, "name", None) != name:
            raise AdvbenchError(
                f"{self.kind} {name!r} ({entry.target}): the class needs the same name: "
                f"name = {name!r}"
            )
        return found

    def unknown(self, name: str) -> str:
        """Tell what is to be said of a name that is not known, with the nearest ones."""
        if name in self.planned:
            return f"{self.kind} {name!r} is not in this version; {self.planned[name]}"
        known = list(self.shown())
        return f"unknown {self.kind} {name!r}; {did_you_mean(name, known)}"


def load_target(target: str, what: str) -> Any:
    """Import ``module:attribute`` or ``./file.py:attribute``, see :func:`module_of`.

    Raises:
        AdvbenchError: no such module or attribute, or the module fails to import.
    """
    module_name, _, attribute = target.rpartition(":")
    if not module_name or not attribute:
        raise AdvbenchError(f"{what}: {target!r} is not of the form module:name or file.py:name")
    try:
        module = module_of(module_name)
    except AdvbenchError as error:
        raise AdvbenchError(f"{what}: {module_name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise AdvbenchError(
            f"{what}: cannot import {module_name} ({type(error).__name__}: {first_line(error)})"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise AdvbenchError(f"{what}: module {module_name} has no {attribute!r}")
    return found


def add_plugin(target: str) -> tuple[str, str]:
    """Register the class, or the wrapped victim, that ``module:name`` points to; returns its kind
    and its name.

    Raises:
        AdvbenchError: it is no attack, victim or defense, or its name is taken.
    """
    found = _class_of(load_target(target, "--plugin"))
    for registry in (ATTACKS, VICTIMS, DEFENSES):
        if _derives(found, registry.base):
            name = getattr(found, "name", None)
            if not isinstance(name, str):
                raise AdvbenchError(
                    f"--plugin {target}: the class has no name; give it one: "
                    f'name: ClassVar[str] = "{found.__name__.lower()}"'
                )
            registry.add(name, Entry(target, (found.__doc__ or "").split("\n")[0], "--plugin"))
            return registry.kind, name
    _refuse_bare_module(target, found)
    raise AdvbenchError(
        f"--plugin {target}: neither an attack, a victim nor a defense class, "
        "nor a victim of advbench.wrap"
    )


def _refuse_bare_module(target: str, found: Any) -> None:
    """Refuse a torch module, or its class, with the way to make it a victim."""
    attribute = target.rpartition(":")[2]
    for kind, call in ((found, f"{attribute}()"), (type(found), attribute)):
        if _derives(kind, "torch.nn.modules.module:Module"):
            raise AdvbenchError(
                f"--plugin {target}: a torch module; wrap it in that file: "
                f"victim = advbench.wrap({call}), and give the name victim in its place"
            )


def added_plugins() -> list[str]:
    """The targets that :func:`add_plugin` registered, for another process to do the same."""
    registries = (ATTACKS, VICTIMS, DEFENSES)
    return [e.target for r in registries for e in r.entries.values() if e.origin == "--plugin"]


def _class_of(found: Any) -> Any:
    """Return the class itself, or that which loads a wrapped victim."""
    return getattr(found, "plugin_class", found)


def _derives(found: Any, base: str) -> bool:
    return isinstance(found, type) and base in (
        f"{c.__module__}:{c.__name__}" for c in found.__mro__
    )


def families() -> Iterator[Registry]:
    """List the families that ``advbench list`` shows."""
    yield from (ATTACKS, VICTIMS, DEFENSES, DATASETS, SUITES)


# Built in, and no part of ``all``.
ON_DEMAND = "on demand"

ATTACKS = Registry(
    "attack",
    "advbench.attacks.base:Attack",
    {
        "fgsm": Entry("advbench.attacks.fgsm:FGSM", "one signed-gradient step"),
        "bim": Entry("advbench.attacks.bim:BIM", "iterated signed-gradient steps"),
        "pgd": Entry("advbench.attacks.pgd:PGD", "BIM from a random point of the ball"),
        "mifgsm": Entry("advbench.attacks.mifgsm:MIFGSM", "BIM with momentum"),
        "pgn": Entry(
            "advbench.attacks.pgn:PGN", "momentum over gradient-norm-penalised neighbours"
        ),
        "cw": Entry("advbench.attacks.cw:CW", "least noise towards the empty mask; steps, no eps"),
        "apgd": Entry(
            "advbench.attacks.apgd:APGD", "PGD whose step halves where it stops paying", ON_DEMAND
        ),
        "ensemble": Entry(
            "advbench.attacks.ensemble:Ensemble", "APGD on three losses, the strongest", ON_DEMAND
        ),
        "square": Entry(
            "advbench.attacks.queries:Square", "asks for maps alone: random squares", ON_DEMAND
        ),
        "stripes": Entry(
            "advbench.attacks.queries:Stripes", "sees the binary map alone: stripes", ON_DEMAND
        ),
        "noise": Entry(
            "advbench.attacks.noise:Noise", "random signs: the control of every attack", ON_DEMAND
        ),
        "minimal": Entry(
            "advbench.attacks.minimal:Minimal",
            "the smallest φ that halves an image's F1, by bisection",
            ON_DEMAND,
        ),
        "regrain": Entry(
            "advbench.attacks.counter_forensics:Regrain",
            "counter-forensics: denoise, then grain alike everywhere",
            ON_DEMAND,
        ),
        "seamblur": Entry(
            "advbench.attacks.counter_forensics:SeamBlur",
            "counter-forensics: blur around the forgery's border",
            ON_DEMAND,
        ),
        "recompress": Entry(
            "advbench.attacks.counter_forensics:Recompress",
            "counter-forensics: JPEG on a shifted grid",
            ON_DEMAND,
        ),
        "warp": Entry(
            "advbench.attacks.counter_forensics:Warp",
            "counter-forensics: a slight smooth warp",
            ON_DEMAND,
        ),
        "torchattacks": Entry(
            "advbench.attacks.torchattacks_adapter:TorchAttack",
            "any L∞ attack of that package, by --set method=NAME",
            "extra",
        ),
    },
    packages={
        "advlib": Entry(
            "advbench.attacks.advlib_adapter:advlib",
            "an L∞ segmentation attack of adversarial-library, such as advlib:pdpgd",
            "package adv_lib",
        ),
        "transferattack": Entry(
            "advbench.attacks.transferattack_adapter:transferattack",
            "a gradient attack of TransferAttack, such as transferattack:vmifgsm",
            "package transferattack",
        ),
    },
)

VICTIMS = Registry(
    "victim",
    "advbench.victims.base:Victim",
    {
        "mvssnet": Entry(
            "advbench.victims.mvssnet.victim:MVSSNet", "ResNets on image and noise, 512²"
        ),
        "ifosn": Entry("advbench.victims.ifosn.victim:IFOSN", "SCSE U-Net on SENet, native size"),
        "hdfnet": Entry(
            "advbench.victims.hdfnet.victim:HDFNet", "SRM transformers and fusion, 256²"
        ),
        "code": Entry("advbench.victims.code.victim:CoDE", "reinforcement-learnt rollout, 512²"),
    },
    packages={
        "imdlbenco": Entry(
            "advbench.victims.adapters.imdlbenco:imdlbenco",
            "a model of IMDLBenCo, such as imdlbenco:Mesorch",
            "package IMDLBenCo",
        ),
        "forensichub": Entry(
            "advbench.victims.adapters.forensichub:forensichub",
            "a localizer of ForensicHub, by its name there",
            "package ForensicHub",
        ),
        "photoholmes": Entry(
            "advbench.victims.adapters.photoholmes:photoholmes",
            "a method of photoholmes, such as photoholmes:trufor",
            "package photoholmes",
        ),
    },
)

DEFENSES = Registry(
    "defense",
    "advbench.defenses.base:Defense",
    {
        "none": Entry("advbench.defenses.none:NoDefense", "the image as it is"),
        "jpeg": Entry("advbench.defenses.jpeg:JPEG", "JPEG compression, by quality"),
        "resize": Entry("advbench.defenses.resize:Resize", "there and back, by scale"),
        "median": Entry("advbench.defenses.median:Median", "median filter, by kernel"),
        "gaussian": Entry("advbench.defenses.gaussian:Gaussian", "Gaussian noise, by sigma"),
        "ansm": Entry(
            "advbench.defenses.ansm.defense:ANSM",
            "noise suppression trained for a victim (advbench train ansm)",
        ),
        "ansm-multi": Entry(
            "advbench.defenses.ansm.defense:MultiANSM",
            "ANSM trained on several attacks and intensities (--set noise=several)",
            ON_DEMAND,
        ),
        "relocalise": Entry(
            "advbench.defenses.relocalise.defense:Relocalise",
            "a control: draws another localizer's map in the picture (train relocalise)",
            ON_DEMAND,
        ),
    },
)

_PUBLISHED = ("columbia", "casiav1", "casiav2", "imd20", "misd")
DATASETS = Registry(
    "dataset",
    "",
    {
        "builtin": Entry("", "forgeries made here from photographs inside installed packages"),
        "builtin1": Entry("", "its version 1: splices known by their noise"),
        "builtin2": Entry("", "its version 2: at least two traces in each forgery"),
    },
    {name: f"import it with: advbench dataset import {name} PATH" for name in _PUBLISHED}
    | {"open": "build it with: advbench dataset build open --photographs ROOT"},
)

# Files of manifests/suites.
SUITES = Registry(
    "suite",
    "",
    {
        "quick": Entry("", "every built-in attack and defense on four built-in images"),
        "leaderboard": Entry("", "all of it before four small victims: the committed leaderboard"),
        "leaderboard-authentic": Entry("", "authentic images of it, attacked to be marked"),
        "table3": Entry("", "Table III on built-in images, beside filters and controls"),
        "table3-authentic": Entry("", "what its defenses have marked where nothing is forged"),
        "paper": Entry("", "Table III of the ANSM paper: four datasets, four full-size victims"),
    },
)
