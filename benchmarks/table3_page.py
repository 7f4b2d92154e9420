"""Write docs/table3.md: the paper's Table III on the built-in data, beside filters and controls.

    advbench run table3 --victim ifosn --out runs/ifosn
    advbench run table3-authentic --victim ifosn --out runs/ifosn     # and the other victims
    python benchmarks/table3_page.py runs/ifosn ... [--check]

With folders, their records become benchmarks/results/table3.parquet first, and the localizer whose
map ``relocalise`` draws is scored on the same images for a row of its own. Without, the page is
written from that file; ``--check`` fails where it is not what the file gives.
"""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import click
import pandas as pd

import advbench
from advbench.pipelines.evaluate import EvaluationJob, evaluate
from advbench.scores.cells import ATTACKS, defense_label
from advbench.scores.protocols import protocol
from advbench.scores.published import published
from advbench.scores.records import read_records, write_merged
from advbench.scores.tables import long_table, wide_table

RECORDS = Path("benchmarks/results/table3.parquet")
PAGE = Path("docs/table3.md")
VICTIMS = ("mvssnet", "ifosn", "hdfnet", "code")
LOCALIZER = "localizer"
LAST = ("ansm", "ansm-multi", "relocalise", LOCALIZER)
NAMES = {"fgsm": "FGSM", "cw": "C&W", "bim": "BIM", "pgd": "PGD", "mifgsm": "MI-FGSM", "pgn": "PGN"}
HEAD = """# Table III on the built-in data

Written by `python benchmarks/table3_page.py` from the records of `advbench run table3` and
`advbench run table3-authentic`: forged images of the built-in test split
({images}),
and {authentic} authentic ones. Attacks know the victim alone; what an attacker who knows the
defense leaves is in [adaptive.md](adaptive.md). PGD and MI-FGSM take 10 steps, PGN 5 with
5 neighbours. `ansm` learnt FGSM alone, as the paper's rules ask, `ansm-multi` several attacks.
`relocalise` is no defense: it draws the map of another localizer into the picture, and
`{localizer}` is that localizer's own map of the same images, before which no attack was made.

RP in percent, each attack the mean over its intensities, with 95 % intervals over photographs.
*PSNR* in dB: how much a defense keeps of originals. *Removed*: the share of the attacks' noise that
it takes away along the noise's own direction. *Authentic*: percent marked where nothing is forged,
as the images are / after FGSM with φ = 3 that makes the victim mark them. *Paper*: mean of its four
datasets. An RP near 100 behind a redrawn picture (PSNR below 30 dB, nothing removed) is not
purification.
"""
BY_INTENSITY = """
## By intensity

RP in percent at φ = 1 / 2 / 3, of C&W after 50 / 100 / 150 / 200 / 250 steps.
"""


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--check", is_flag=True, help="Fail where the page is not what the records give.")
def main(folders: tuple[Path, ...], check: bool) -> None:
    """Write the page."""
    if folders:
        write_merged(RECORDS, pd.concat([collected(folder) for folder in folders]))
    text = page(pd.read_parquet(RECORDS))
    if not check:
        PAGE.write_text(text)
    elif PAGE.read_text() != text:
        raise click.ClickException(f"{PAGE} is not what the records give; run without --check")


def collected(folder: Path) -> pd.DataFrame:
    """Read one victim's records, and score the localizer of ``relocalise`` beside them."""
    records = read_records(folder / "records")
    (victim,) = records.victim.unique()
    drawn = records[records.defense == "relocalise"].defense_spec.iloc[0]
    own = advbench.load_victim(victim)
    disguised = copy.copy(advbench.load_victim(json.loads(drawn)["localizer"]["name"]))
    disguised.name, disguised.weights = own.name, own.weights
    with tempfile.TemporaryDirectory() as where:
        none = advbench.load_defense("none")
        job = EvaluationJob(folder, [none], protocol("f1/v1"), records=Path(where))
        evaluate(job, lambda identity: disguised)
        alone = read_records(Path(where)).assign(defense=LOCALIZER)
    every = pd.concat([records, alone], ignore_index=True)
    # A run that was cut has more images of some attacks than of others.
    seen = every.groupby("sample_id").variant.transform("nunique")
    return every[seen == seen.groupby(every.tp + every.fn > 0).transform("max")]


def page(records: pd.DataFrame) -> str:
    """Write the page as Markdown."""
    forged = records[records.tp + records.fn > 0]
    authentic = records[records.tp + records.fn == 0]
    head = HEAD.format(
        images=", ".join(counted(forged, victim) for victim in VICTIMS),
        authentic=authentic.sample_id.nunique(),
        localizer=LOCALIZER,
    )
    wide, long = wide_table(forged), long_table(forged)
    marked = long_table(authentic)
    parts = [head]
    parts += [means(wide, marked, victim) for victim in VICTIMS]
    parts.append(BY_INTENSITY)
    parts += [intensities(long, victim) for victim in VICTIMS]
    return "\n".join(parts)


def counted(forged: pd.DataFrame, victim: str) -> str:
    """Say on how many images and photographs one victim's figures rest."""
    own = forged[forged.victim == victim]
    return f"{victim} {own.sample_id.nunique()} of {own.source_group.nunique()} photographs"


def means(wide: pd.DataFrame, marked: pd.DataFrame, victim: str) -> str:
    """Write one victim: defenses down, the paper's below; attacks and controls across."""
    own = ordered(wide[wide.victim == victim])
    marked = marked[marked.victim == victim]
    titles = [victim, "original", *NAMES.values(), "PSNR", "removed", "authentic"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in own.to_dict("records"):
        rp = [
            f"{row[f'{a}_rp']:.0f} ({row[f'{a}_rp_low']:.0f} to {row[f'{a}_rp_high']:.0f})"
            for a in ATTACKS
        ]
        image = ["", ""]
        if row["defense"] not in ("none", LOCALIZER):
            image = [f"{row['kept_psnr']:.0f}", f"{100 * row['removed']:.0f} %"]
        same = marked[marked.defense == row["defense"]].set_index("attack").marked_authentic
        alarms = " / ".join(f"{100 * same[attack]:.0f}" for attack in ("original", "fgsm"))
        lines.append(f"| {' | '.join([label(row), *rp, *image, alarms])} |")
    theirs = published("table3")
    theirs = theirs[theirs.victim == victim].groupby(["defense", "attack"]).rp.mean()
    for defense in ("none", "ansm"):
        rp = [f"{theirs[defense, attack]:.0f}" for attack in ATTACKS]
        lines.append(f"| {' | '.join([f'paper: {defense}', *rp, '', '', ''])} |")
    return "\n".join(lines) + "\n"


def intensities(long: pd.DataFrame, victim: str) -> str:
    """Write one victim: defenses down, attacks across, intensities in a cell."""
    own = ordered(long[(long.victim == victim) & (long.attack != "original")])
    titles = [victim, *NAMES.values()]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for _, rows in own.groupby("place", sort=True):
        cells = [
            " / ".join(f"{rp:.0f}" for rp in rows[rows.attack == a].sort_values("intensity").rp)
            for a in NAMES
        ]
        lines.append(f"| {' | '.join([label(rows.iloc[0]), *cells])} |")
    return "\n".join(lines) + "\n"


def label(row: pd.Series | dict[str, object]) -> str:
    """Name a row: the defense, at its strength where it has one."""
    return defense_label(row["defense"], row["strength"])


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Put the undefended victim first, then filters by name, then what was trained."""
    names = sorted(set(table.defense) - {"none", *LAST})
    places = {name: place for place, name in enumerate(("none", *names, *LAST))}
    return table.assign(place=table.defense.map(places)).sort_values("place", kind="stable")


if __name__ == "__main__":
    main()
