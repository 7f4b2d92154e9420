"""docs/performance.md for users and docs/experiments/performance.md for developers, from the tables
in benchmarks/results, which the other scripts write.

python benchmarks/performance_page.py
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from timing import grid_ratios

from advbench.pipelines.agreement import ATTACKS as GATED
from advbench.pipelines.agreement import MOST_RP

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
NOTES = ROOT / "docs" / "experiments" / "performance.md"

HEAD = """# Performance

What attacks, defenses and whole suites cost. For a suite of your own, `advbench plan SUITE`
measures it on your machine beforehand. [What was tried](experiments/performance.md) to be faster.

Made by `python benchmarks/performance_page.py` from the tables in
[benchmarks/results](../benchmarks/results); each table names the script that wrote it. Machine:
two shared cores, no GPU, torch 2.12, two threads, small victims on built-in images of 256².
Absolute seconds say little elsewhere; both sides of a ratio were measured in turns, in one run.
"""

NOTES_HEAD = """# Performance: what was tried, and how it grows

Made by `python benchmarks/performance_page.py`, as [the page for users](../performance.md), on the
same machine.
"""

SECTIONS = {
    "attack_speed": (
        "Attacks",
        "python benchmarks/attack_speed.py --images 2 --iterations 5 --cw-steps 2",
        "Two images, φ = 3; iterated attacks have five steps, PGN one, C&W ten, five snapshots. "
        "Seconds of our attack at `--numerics exact`, and ratios, each the median of three turns "
        "(smallest to largest): `user`, a peer on the network in PyTorch's default layout, as its "
        "users have it, over ours; `layout`, the same peer on our channels-last network, over "
        "ours; `over_bare`, ours over as many passes with nothing around them; `fast`, exact over "
        "`--numerics fast`; `fast_over_bare`, fast over bare passes of the folded network. Peers "
        "are torchattacks, a plain transcription for PGN, and for C&W five runs, where ours takes "
        "five snapshots of one.",
    ),
    "parity": (
        "What exactness costs",
        "python benchmarks/parity.py",
        "Against the victim as it is, channels-last and not folded. Folding is faster, but its "
        "roundings turn signs, and PGD's steps carry that on, so `--numerics exact` does without "
        "it and `fast` has it; `torch.compile` (`compiled`) pays for neither. `pixels` is the "
        "share of pixels that differ, `f1` the largest difference on one of four images.",
    ),
    "strength": (
        "How strong fast attacks are",
        "python benchmarks/strength.py",
        "`--numerics fast` beside `exact` on 32 images of the built-in test split: `rp` is the "
        "difference of the mean F1 in RP points, `low` to `high` its paired 95 % interval over "
        "source photographs, `signs` the share of the gradient that keeps its sign, `faster` the "
        "ratio for one gradient in one thread, beside other work. An iterated attack carries the "
        "roundings of either on, so its images differ, and F1 with them, in either direction.",
    ),
    "defense_speed": (
        "What a defense adds",
        "python benchmarks/defense_speed.py",
        "One image of 512².",
    ),
    "victim_speed": (
        "Memory of the full victims",
        "python benchmarks/victim_speed.py --batch 1 --batch 4 --threads 1 --repeats 1",
        "What a batch adds to the loaded network at its peak, in MiB: `forward` scores, `both` is "
        "an attack's gradient. On the CPU images go one by one, each on a thread of its own, so "
        "what counts is batch 1 × threads; on a GPU the batch that fits is found.",
    ),
    "end_to_end": (
        "generate and evaluate",
        "python benchmarks/end_to_end.py --images 80 --repeats 1",
        "`alone` is the attack, or the victim's forward passes, on images that are in memory. "
        "Behind ANSM the difference is its network, else decoding and scores, some 10 ms of a core "
        "an image, beside 14 ms of the small victim's pass. The evaluations are of a second run "
        "with `--attack fgsm`.",
    ),
    "storage": (
        "Storage",
        "python benchmarks/storage.py",
        "64 originals, 64 adversarial images of ±3 levels, and masks.",
    ),
    "growth": (
        "Growth",
        "python benchmarks/growth.py",
        "`exponent` against the row above: 1 where twice as much takes twice as long.",
    ),
    "engines_speed": (
        "Threads, processes and Ray",
        "python benchmarks/engines_speed.py",
        "`generate` of 40 images before ifosn, PGD at three φ. `times` is against one thread; "
        "`start_s` is a run with nothing left to do, for which no processes are started, but Ray "
        "is. Workers of processes and of Ray have one thread each. The content is equal. The last "
        "row is what the machine gives: gradients in two processes, with nothing around them.",
    ),
    "table3_cost": (
        "The whole of Table III",
        "python benchmarks/table3_cost.py",
        "3,317 images × four full victims × 20 variants, undefended and behind ANSM, with attacks "
        "at `--numerics exact` and `fast`; scores are exact always. Passes and operations are "
        "counted. Assumed, as no GPU was at hand: that an H100 sustains 35 % of its 67 TFLOP/s "
        "outside the tensor cores, and at `fast` 10 % of the 495 of TF32 inside them (small "
        "networks such as `hdfnet` will sustain less); the sizes of images where a victim works "
        "at native size; an even spread over the GPUs. Other assumptions: `--peak`, `--share`, "
        "`--fast-peak`, `--fast-share`.",
    ),
}

# What goes into the notes.
DEVELOPERS = ("parity", "growth")

# Of a table that has more than a page needs. A column with a smallest and a largest beside it is
# shown as one.
COLUMNS = {
    "attack_speed": [
        "victim",
        "attack",
        "exact_s",
        *(
            f"{name}{end}"
            for name in ("user", "layout", "over_bare", "fast", "fast_over_bare")
            for end in ("", "_min", "_max")
        ),
    ],
    "victim_speed": ["victim", "side", "batch", "network_mib", "forward_peak_mib", "both_peak_mib"],
}


def main() -> None:
    """Write the two pages."""
    users = [name for name in SECTIONS if name not in DEVELOPERS]
    PAGE.write_text(page(HEAD, users), encoding="utf-8")
    NOTES.write_text(page(NOTES_HEAD, DEVELOPERS), encoding="utf-8")


def page(head: str, names: Iterable[str]) -> str:
    """Write the sections of the tables that are there."""
    parts = [head]
    for name in names:
        title, command, text = SECTIONS[name]
        path = RESULTS / f"{name}.csv"
        if path.is_file():
            table = pd.read_csv(path, usecols=COLUMNS.get(name))
            parts.append(f"## {title}\n\n`{command}`\n\n{text}\n\n{markdown(spread(table))}")
            if name == "attack_speed":
                parts.append(grids(pd.read_csv(path)))
            if name == "strength":
                parts.append(verdicts(table))
    return "\n".join(parts)


def markdown(table: pd.DataFrame) -> str:
    """Write a table of Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns)]
    for row in table.itertuples(index=False):
        cells = ["" if pd.isna(value) else value for value in row]
        rows.append([f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """Join a column with its ``_min`` and ``_max``, to two digits behind the point."""
    shown = table.copy()
    for name in [column for column in table if f"{column}_min" in table]:
        ends = (table[name], table[f"{name}_min"], table[f"{name}_max"])
        joined = [f"{a:.2f} ({b:.2f} to {c:.2f})" for a, b, c in zip(*ends, strict=True)]
        shown[name] = joined
        shown = shown.drop(columns=[f"{name}_min", f"{name}_max"])
    return shown


def grids(table: pd.DataFrame) -> str:
    """Say what the paper's grid of 20 variants takes, by victim, rows weighed as it has them."""
    lines = []
    rows = table.to_dict("records")
    for victim in table.victim.unique():
        times = grid_ratios(rows, victim)
        lines.append(
            f"The whole grid, {victim}: {times['user']:.2f} times as fast as its peers as users "
            f"have them, {times['layout']:.2f} times as fast as those on our layout; `fast` "
            f"{times['fast']:.2f} times as fast again."
        )
    return "\n".join(f"- {line}" for line in lines) + "\n"


def verdicts(table: pd.DataFrame) -> str:
    """Say what the gate before ``generate`` would make of these figures, victim by victim."""
    gated = table[table.attack.isin(attack.variant_name(attack.intensities[0]) for attack in GATED)]
    largest = (
        gated.set_index("attack")
        .groupby("victim", sort=False)
        .rp.agg(lambda rp: rp[rp.abs().idxmax()])
    )
    lines = [
        f"{victim}: {rp:+.2f} at most, {'passed' if abs(rp) <= MOST_RP else 'refused'}."
        for victim, rp in largest.items()
    ]
    names = ", ".join(sorted(set(gated.attack)))
    rule = f"The gate before `generate` allows {MOST_RP} under {names}. By these figures:"
    return "\n".join([rule, "", *(f"- {line}" for line in lines)]) + "\n"


if __name__ == "__main__":
    main()
