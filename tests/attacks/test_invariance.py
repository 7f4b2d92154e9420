"""What comes out for an image hangs on nothing but the image, its name, the attack and the seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advbench.attacks.base import Attack
from advbench.attacks.batch import Batch
from advbench.attacks.pgd import PGD
from advbench.attacks.pgn import PGN

from .toys import ALL, OPTIMISED, Flat, Pictures, Toy, floats, pictures, sized, wavy_net

DRAWING = {"noise", "pgd", "pgd-grid", "pgd-dice", "pgd-forged", "apgd", "pgn"}
SPLITS = {
    "singles": [[index] for index in range(8)],
    "uneven": [[0, 1, 2], [3], [4, 5, 6, 7]],
    "shuffled": [[6, 1, 4, 3, 0, 7, 5, 2]],
    "shuffled parts": [[7, 2, 5], [0], [6, 1, 4, 3]],
}


def by_name(attack: Attack, parts: list[Pictures], **settings: int) -> dict[tuple[str, str], bytes]:
    victim, found = Toy(wavy_net()), {}
    for part in parts:
        for variant, result in part.attacked(attack, victim, **settings).items():
            for name, image in zip(part.ids, result.images, strict=True):
                found[variant, name] = image.numpy().tobytes()
    return found


@pytest.mark.parametrize("name", ALL)
def test_any_split_and_order_gives_the_same_bytes(name: str) -> None:
    """Alone, in uneven parts or shuffled: byte for byte the same image."""
    batch = pictures(8)
    whole = by_name(ALL[name], [batch])
    assert len(set(whole.values())) == len(whole) == 16
    for split in SPLITS.values():
        assert by_name(ALL[name], [batch.take(part) for part in split]) == whole


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("batch_size", [3, 8])
def test_rows_that_meet_the_victim_together(name: str, batch_size: int) -> None:
    """Any explicit batch: sign attacks equal, C&W to 2e-7, as with one row at a time."""
    batch, victim = pictures(8), Toy(wavy_net().double())
    x, y = batch.x.double(), batch.y.double()
    one, many = (
        ALL[name].perturb(victim, Batch(x, y, batch.ids, 0, sized(size)))
        for size in (1, batch_size)
    )
    for intensity, rows in one.items():
        pairs = zip(rows, many[intensity], strict=True)
        far = max(float((a.float_image - b.float_image).abs().max()) for a, b in pairs)
        assert far <= (2e-7 if name in OPTIMISED else 0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("asked", [None, 1, 3])
def test_no_more_rows_than_asked_for(name: str, asked: int | None) -> None:
    """One row at a time on the CPU unless ``batch`` says otherwise, never above it."""
    rows: list[int] = []
    victim = Toy(wavy_net(), lambda images: rows.append(len(images)))
    pictures(4).attacked(ALL[name], victim, batch=asked)
    assert max(rows) == (asked or 1)


@pytest.mark.parametrize("name", ALL)
def test_intensities_do_not_know_of_each_other(name: str) -> None:
    """Each intensity asked for alone, or in another order, gives the same bytes."""
    attack, batch = ALL[name], pictures(2)
    whole = by_name(attack, [batch])
    backwards = attack.only(attack.intensities[::-1])
    assert by_name(backwards, [batch]) == whole
    alone: dict[tuple[str, str], bytes] = {}
    for intensity in attack.intensities:
        alone |= by_name(attack.only([intensity]), [batch])
    assert alone == whole


@pytest.mark.parametrize("name", ALL)
def test_no_images(name: str) -> None:
    nothing = pictures(1).take([]).attacked(ALL[name], Toy(wavy_net()))
    assert nothing.keys() == {ALL[name].variant_name(i) for i in ALL[name].intensities}
    for result in nothing.values():
        assert result.images.shape == (0, 3, 7, 11)


@pytest.mark.parametrize("name", ALL)
def test_seeds(name: str) -> None:
    """The same seed twice is the same; another seed differs only where something is drawn."""
    batch = pictures(2)
    first = by_name(ALL[name], [batch], seed=3)
    torch.manual_seed(99)
    assert by_name(ALL[name], [batch], seed=3) == first
    other = by_name(ALL[name], [batch], seed=4)
    differs = {key for key in first if first[key] != other[key]}
    assert differs == (set(first) if name in DRAWING else set())


def starts(attack: PGD, part: Pictures, seed: int = 0) -> dict[tuple[str, str], Tensor]:
    """Where PGD starts: a flat victim moves nothing."""
    results = part.attacked(attack, Toy(Flat()), seed=seed)
    return {
        (variant, name): image
        for variant, result in results.items()
        for name, image in zip(part.ids, floats(result), strict=True)
    }


@pytest.mark.parametrize("random_start", ["uniform", "grid"])
def test_pgd_starts_where_the_name_says(random_start: str) -> None:
    """The start belongs to the image, φ and seed, for any split; no two are alike."""
    attack = PGD(eps=(2, 5), iterations=1, random_start=random_start)
    twins = Pictures(
        torch.full((6, 3, 9, 13), 128).byte(), torch.ones(6, 9, 13).bool(), [*"abcdef"]
    )
    whole = starts(attack, twins)
    for split in ([5, 2], [0]), ([3, 1, 4],):
        for part in split:
            for key, image in starts(attack, twins.take(part)).items():
                assert torch.equal(image, whole[key])
    noises = [(image * 255 - 128) / float(key[0][4:]) for key, image in whole.items()]
    noises += [
        (image * 255 - 128) / float(key[0][4:]) for key, image in starts(attack, twins, 1).items()
    ]
    for index, noise in enumerate(noises):
        assert all((noise - other).abs().max() > 0.5 for other in noises[:index])


@pytest.mark.parametrize("random_start", ["uniform", "grid"])
@pytest.mark.parametrize("eps", [1, 2.5, 7])
def test_pgd_starts_fill_the_ball(random_start: str, eps: float) -> None:
    """Noise is spread evenly over [−φ, φ], or over its whole levels."""
    attack = PGD(eps=eps, iterations=1, random_start=random_start)
    part = Pictures(torch.full((1, 3, 40, 50), 128).byte(), torch.ones(1, 40, 50).bool(), ["a"])
    (image,) = starts(attack, part).values()
    noise = image * 255 - 128
    assert noise.abs().max() <= eps + 1e-4
    if random_start == "grid":
        levels, counts = noise.round().unique(return_counts=True)
        assert (noise - noise.round()).abs().max() < 1e-4
        assert levels.tolist() == list(range(-int(eps), int(eps) + 1))
        share = counts / counts.sum() * len(levels)
        assert ((share > 0.85) & (share < 1.15)).all()
    else:
        shares = torch.histc(noise, 10, -eps, eps) / noise.numel()
        assert ((shares > 0.08) & (shares < 0.12)).all()


def test_pgn_neighbours_belong_to_the_image() -> None:
    """The points where PGN takes gradients are the same alone and in company, in any order."""
    attack, batch = PGN(eps=(1, 3), iterations=2, neighbours=3), pictures(4)

    def visited(part: Pictures) -> dict[str, list[bytes]]:
        points: list[bytes] = []
        victim = Toy(wavy_net(), lambda images: points.append(images.detach().numpy().tobytes()))
        part.attacked(attack, victim)
        each = 2 * 3 * 2
        runs = [points[start : start + each] for start in range(0, len(points), each)]
        assert len(runs) == 2 * len(part.ids)
        return {name: runs[row] + runs[row + len(part.ids)] for row, name in enumerate(part.ids)}

    whole = visited(batch)
    points = [point for run in whole.values() for point in run]
    assert len(set(points)) == len(points)
    for part in ([2], [3, 0], [1, 2, 3]):
        assert all(run == whole[name] for name, run in visited(batch.take(part)).items())
