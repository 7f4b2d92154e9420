"""Weights: put into a network where they fit, named by their sha256 and by where they came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from advbench.errors import AdvbenchError
from advbench.files import obstacle, user_path
from advbench.registry import VICTIMS
from advbench.texts import read_json
from advbench.victims.checkpoints import read_checkpoint, refuse_diverged

# Prefix that files put before every key, with what lies beside it and is dropped: DataParallel,
# torch.compile, Lightning; IF-OSN's detector beside its simulator of social networks.
_WRAPPERS: dict[str, tuple[str, ...]] = {
    **{"module.": (), "_orig_mod.": (), "model.": (), "net.": (), "network.": ()},
    "det_net.": ("osn_net.",),
}
# Counters that eval mode ignores; files of PyTorch before 0.4.1 lack them.
_OPTIONAL = ".num_batches_tracked"
_LIKENESS = 0.5
CARD_SUM = "card_sha256"


@dataclass(frozen=True)
class Weights:
    """Describe the weights that a victim carries.

    Attributes:
        sha256: of the file's bytes; of the tensors for random weights.
        label: ``builtin`` (trained by this project on the built-in data), ``random``, or
            ``file:`` with the first 12 hex digits of the sum.
    """

    sha256: str
    label: str


def builtin_path(victim: str, size: str) -> Path:
    """Name the file of a victim's shipped weights, whether or not they exist."""
    with resources.as_file(resources.files("advbench.victims") / "pretrained") as folder:
        return folder / f"{victim}-{size}.safetensors"


def load_network_weights(
    network: nn.Module,
    victim: str,
    size: str,
    source: str | None,
    *,
    seed: int,
    dead_keys: tuple[str, ...] = (),
) -> Weights:
    """Put weights into ``network``; ``source`` as in :meth:`Victim.load`.

    Raises:
        AdvbenchError: the file cannot be read, fits another network, or holds NaN or infinity.
    """
    if source is None:
        return Weights(state_sha256(network.state_dict()), f"random:{seed}")
    shipped = source == "builtin"
    path = builtin_path(victim, size) if shipped else user_path(source)
    if shipped and not path.is_file():
        raise AdvbenchError(
            f"{victim} ({size}): no builtin weights of that size; give --weights PATH"
        )
    sha256, content = read_checkpoint(path)
    if shipped:
        refuse_unlike_its_card(path, sha256)
    own = network.state_dict()
    state = _unwrapped(content, own, dead_keys)
    differences = _differences(own, state)
    if differences:
        asked = (victim, size)
        like = _lookalike(content, asked, _likeness(content, own, dead_keys))
        raise AdvbenchError(f"{path}: does not fit {victim} ({size}): {differences}{like}")
    refuse_diverged(path, state, own)
    network.load_state_dict(own | state)
    return Weights(sha256, label_of(path, sha256))


def label_of(path: Path, sha256: str) -> str:
    """The label of the card beside the file where its sum agrees, else ``file:…``."""
    label = own_card(path, sha256).get("label")
    return label if isinstance(label, str) else f"file:{sha256[:12]}"


def refuse_unlike_its_card(path: Path, sha256: str) -> None:
    """Check a shipped file against the sum in its card.

    Raises:
        AdvbenchError: one of the two is not what was shipped.
    """
    if card_of(path).get("sha256") != sha256:
        raise AdvbenchError(f"{path}: not the bytes that advbench ships; install advbench again")


def own_card(path: Path, sha256: str) -> dict[str, Any]:
    """The card beside a file of this sum; empty where there is none, or it is that of a file of the
    same name and another ending.

    Raises:
        AdvbenchError: as :func:`card_of`, or the file is not the one that its card names.
    """
    card = card_of(path)
    if card and card["sha256"] != sha256:
        if path.suffix == ".safetensors":
            raise AdvbenchError(
                f"{path}: not the file that {path.with_suffix('.json').name} beside it names by "
                "sha256; restore it, or remove that card"
            )
        return {}
    return card


def card_of(path: Path) -> dict[str, Any]:
    """The JSON card beside a weights file; empty where there is none of advbench's own.

    Raises:
        AdvbenchError: it cannot be read, or is not what was written.
    """
    beside = path.with_suffix(".json")
    if path == beside or not beside.exists():
        return {}
    try:
        card = read_json(beside)
    except OSError as error:
        raise obstacle(beside, error) or error from error
    except AdvbenchError as error:
        raise AdvbenchError(f"{error}; restore this card of {path.name}, or remove it") from error
    if not isinstance(card, dict):
        return {}
    written = card.pop(CARD_SUM, None)
    if written not in (None, card_sha256(card)):
        raise AdvbenchError(f"{beside}: damaged; restore this card of {path.name}, or remove it")
    return card if isinstance(card.get("sha256"), str) else {}


def card_sha256(card: Mapping[str, Any]) -> str:
    """Hash what a card says, however it is laid out; it stands in the card as ``card_sha256``."""
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()


def _unwrapped(
    content: Mapping[str, Tensor], own: Collection[str], dead_keys: tuple[str, ...]
) -> dict[str, Tensor]:
    """Find what a file holds for a network of keys ``own``, under the network's names."""
    state = dict(content)
    for _ in range(len(_WRAPPERS)):  # one may stand within another
        for prefix, beside in _WRAPPERS.items():
            if not state.keys() & own and any(key.startswith(prefix) for key in state):
                inside = {key: value for key, value in state.items() if not key.startswith(beside)}
                state = {key.removeprefix(prefix): value for key, value in inside.items()}
    return {key: value for key, value in state.items() if not key.startswith(dead_keys)}


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """List what keeps a state from being loaded, empty where nothing does."""
    shapes = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    faults = []
    for what, keys in (
        ("missing keys", [k for k in own.keys() - state.keys() if not k.endswith(_OPTIONAL)]),
        ("unknown keys", list(state.keys() - own.keys())),
        ("keys of another shape", shapes),
    ):
        if keys:
            faults.append(f"{len(keys)} {what} (first: {min(keys):.80})")
    if shapes:
        first = min(shapes)
        faults[-1] += f", {list(state[first].shape)} instead of {list(own[first].shape)}"
    return ", ".join(faults)


def _lookalike(content: Mapping[str, Tensor], asked: tuple[str, str], likeness: float) -> str:
    """The registered network that a file fits best, where that is not the one asked for."""
    candidates = [(likeness, *asked), *_likenesses(content, asked)]
    likeness, victim, size = max(candidates, key=lambda candidate: candidate[0])
    if likeness <= _LIKENESS or (victim, size) == asked:
        return ""
    options = {f"--victim {victim}": asked[0] != victim, f"--size {size}": asked[1] != size}
    remedy = " ".join(option for option, differs in options.items() if differs)
    return f"; it looks like {victim} ({size}): give {remedy}"


def _likenesses(
    content: Mapping[str, Tensor], asked: tuple[str, str]
) -> Iterator[tuple[float, str, str]]:
    for victim in VICTIMS.names():
        for size in ("full", "small"):
            if (victim, size) == asked:
                continue
            try:
                found = VICTIMS.get(victim)
                with torch.device("meta"), torch.random.fork_rng(devices=[]), catch_warnings():
                    simplefilter("ignore")  # of values that meta tensors cannot take
                    own = found.build_network(size).state_dict()
            except Exception:  # broken, or not to be built without values: no candidate
                continue
            yield _likeness(content, own, found.dead_keys), victim, size


def _likeness(
    content: Mapping[str, Tensor], own: Mapping[str, Tensor], dead_keys: tuple[str, ...]
) -> float:
    """Share of keys of one shape in both, among all keys of either."""
    theirs, ours = (
        {(key, value.shape) for key, value in state.items() if not key.endswith(_OPTIONAL)}
        for state in (_unwrapped(content, own, dead_keys), own)
    )
    return len(theirs & ours) / max(1, len({key for key, _ in theirs | ours}))


def state_sha256(state: dict[str, Tensor]) -> str:
    """Hash keys and values of a state."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        value = state[key].detach().cpu().flatten()
        digest.update(value.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
