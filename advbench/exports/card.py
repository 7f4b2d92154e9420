"""The data card: ``README.md``, from manifests, settings and provenance, never typed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2

import advbench
from advbench.escaping import markdown, markdown_address, markdown_code
from advbench.exports.citations import bibtex
from advbench.exports.columns import Column
from advbench.exports.format import Format
from advbench.exports.ledger import Ledger, ShardOrigin, setting_rows
from advbench.exports.selection import Group
from advbench.exports.terms import Terms


def card(
    form: Format,
    groups: Sequence[Group],
    terms: Mapping[str, Terms],
    ledger: Ledger,
    *,
    made: ShardOrigin,
    columns: Sequence[Column],
    url: str | None = None,
    scores: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The card's text; the same for the same shards, records and options.

    Args:
        scores: rows of :func:`advbench.exports.scored.scores_of`.
    """
    settings = setting_rows(groups)
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters |= {"cell": markdown, "code": markdown_code, "address": markdown_address}
    template = resources.files("advbench.exports").joinpath("card.md.jinja").read_text("utf-8")
    return environment.from_string(template).render(
        front_matter=_yaml(form.front_matter(groups)),
        format=form.name,
        settings=settings,
        attacks=_attacks(settings),
        victims=_victims(settings),
        ledger=ledger,
        made=made,
        terms=[terms[name] for name in sorted(terms)],
        issues=known_issues(groups, terms, ledger),
        with_residuals=any(not term.with_images for term in terms.values()),
        examples=_examples(form, groups, terms),
        columns=columns,
        version=advbench.__version__,
        url=url,
        scores=scores,
        bibtex=bibtex(str(row[key]) for row in settings for key in ("attack", "name")),
    )


def known_issues(groups: Sequence[Group], terms: Mapping[str, Terms], ledger: Ledger) -> list[str]:
    """List what the manifests know, and what follows from the shards."""
    issues = [
        f"{name}: {issue}"
        for name, term in sorted(terms.items())
        for issue in (term.info.known_issues if term.info else [])
    ]
    labels = {(row["name"], str(row["weights"]).partition(":")[0]) for row in setting_rows(groups)}
    for name, label in sorted(labels):
        if label.startswith("builtin"):
            issues.append(
                f"victim {name}: its weights are {label}, trained on advbench's built-in data "
                "and knowing nothing else; figures made with them belong in no table with "
                "published ones"
            )
        if label == "random":
            issues.append(f"victim {name}: its weights are random; it locates nothing")
    for dataset, samples in sorted(ledger.other_size.items()):
        issues.append(
            f"{dataset}: {len(samples)} photographs have a mask of another size than their working "
            "size; masks at the image's size are brought there by nearest neighbour, metrics "
            "belong to the native ones"
        )
    issues += [f"{name}: {term.sentence}" for name, term in sorted(terms.items()) if not term.info]
    return issues


def _attacks(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each variant's settings once, with the seeds and budgets that it was run with."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in settings:
        key = (row["attack"], row["variant"], row["attack_spec"])
        about = found.setdefault(key, {**row, "seeds": set(), "budgets": set()})
        about["seeds"].add(str(row["seed"]))
        about["budgets"].add("none" if row["budget"] is None else str(row["budget"]))
    return [
        about
        | {
            "seeds": ", ".join(sorted(about["seeds"])),
            "budgets": ", ".join(sorted(about["budgets"])),
        }
        for about in found.values()
    ]


def _victims(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = ("name", "size", "space", "weights", "weights_sha256")
    keys = sorted({tuple(str(row[name]) for name in names) for row in settings})
    return [dict(zip(names, key, strict=True)) for key in keys]


def _examples(
    form: Format, groups: Sequence[Group], terms: Mapping[str, Terms]
) -> list[dict[str, str]]:
    """Show how to load, once with images and once with residuals, as far as there are both."""
    found: dict[bool, dict[str, str]] = {}
    for group in groups:
        with_images = terms[group.dataset_id].with_images
        found.setdefault(
            with_images, {"what": group.dataset, "code": form.example(group, with_images)}
        )
    return list(found.values())


def _yaml(values: Mapping[str, object]) -> str:
    """YAML for the head of a card: a key a line, the values as JSON, which YAML includes."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())
