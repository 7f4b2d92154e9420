"""The paper's figures as they are kept, and ours set beside them."""

from __future__ import annotations

from importlib import resources

import pandas as pd
import pytest

from advbench.scores.published import beside_published, published
from tests.scores.made import frame, row, scored


def test_table3_is_whole_and_its_rp_follows_from_f1():
    table = published("table3")
    assert len(table) == 4 * 4 * 7 * 2
    found = row(table, dataset="casiav1", victim="ifosn", attack="fgsm", defense="ansm")
    assert found.f1 == 0.540
    assert found.rp == pytest.approx(100 * 0.540 / 0.509)
    clean = table[(table.attack == "original") & (table.defense == "none")]
    assert (clean.rp - 100).abs().max() < 1e-9


def test_printed_rp_differs_in_four_places_only():
    """HDF-Net on CASIAv1 behind ANSM under C&W, BIM and PGD, and, by less than a tenth, CoDE under
    MI-FGSM; F1 has three digits."""
    path = resources.files("advbench.manifests") / "published" / "table3.csv"
    with path.open() as file:
        printed = pd.read_csv(file)
    table = published("table3")
    clean = table[(table.attack == "original") & (table.defense == "none")]
    reference = clean.set_index(["dataset", "victim"]).f1
    keys = pd.MultiIndex.from_frame(table[["dataset", "victim"]])
    # Half a digit of F1 on both sides of the ratio, and half a digit of RP.
    rounding = 0.05 + 100 * 0.0005 / reference.reindex(keys).to_numpy() * (1 + table.rp / 100)
    apart = table[(table.rp - printed.rp_percent).abs() > rounding]
    assert set(zip(apart.dataset, apart.victim, apart.attack, apart.defense, strict=True)) == {
        ("casiav1", "hdfnet", attack, "ansm") for attack in ("cw", "bim", "pgd")
    } | {("casiav1", "code", "mifgsm", "ansm")}


@pytest.mark.parametrize(
    ("table", "victim", "strategy", "attack", "f1", "rp"),
    [
        ("table4", "code", "shallow", "fgsm", 0.307, 41.7),
        ("table5", "ifosn", "pwr", "original", 0.441, 87.0),
        ("table6", "code", "ffa+mgr_pred", "mifgsm", 0.713, 96.9),
    ],
)
def test_ablations(table, victim, strategy, attack, *, f1, rp):
    found = row(published(table), victim=victim, strategy=strategy, attack=attack)
    assert (found.f1, found.rp) == (f1, rp)


def ours(dataset: str, **changes: str) -> pd.DataFrame:
    clean, attacked = {"a": 0.8, "b": 0.4}, {"a": 0.0, "b": 0.3}
    return frame(
        scored(clean, dataset=dataset, **changes),
        scored(attacked, "fgsm-1", dataset=dataset, **changes),
        scored({"a": 0.0, "b": 0.0}, "fgsm-3", dataset=dataset, **changes),
    )


def test_figures_of_the_same_dataset_or_the_mean_of_the_four():
    for dataset in ("casiav1", "mine"):
        found = beside_published(ours(dataset), "table3")
        assert list(found.attack) == ["original", "fgsm"]
        fgsm = row(found, attack="fgsm")
        assert fgsm.f1 == pytest.approx((0.15 + 0) / 2)
        assert fgsm.rp == pytest.approx((25 + 0) / 2)
        if dataset == "casiav1":
            assert fgsm.published_f1 == 0.2
            assert fgsm.published_rp == pytest.approx(100 * 0.2 / 0.509)
        else:
            paper = published("table3")
            same = (paper.victim == "ifosn") & (paper.attack == "fgsm") & (paper.defense == "none")
            assert pd.isna(fgsm.published_f1)
            assert fgsm.published_rp == pytest.approx(paper[same].rp.mean())


def test_strategies_in_the_papers_order_and_victims_that_it_has_not():
    records = [ours("mine")]
    records += [ours("mine", defense=name) for name in ("ffa", "pwr")]
    records += [ours("mine", victim="other", defense=name) for name in ("none", "ffa")]
    found = beside_published(pd.concat(records, ignore_index=True), "table5")
    ifosn = found[found.victim == "ifosn"]
    assert list(ifosn.strategy) == ["none"] * 2 + ["pwr"] * 2 + ["ffa"] * 2
    assert row(ifosn, strategy="pwr", attack="fgsm").published_rp == 49.3
    assert found[found.victim == "other"].published_rp.isna().all()
    assert (found.n == 2).all()
