"""Evaluation: scores of the stored bytes, by an independent path, and each cell once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

import advbench
from advbench.cli.tables import write_tables
from advbench.errors import AdvbenchError, DamagedShardError
from advbench.pipelines import generate, sizes
from advbench.pipelines.evaluate import EvaluationJob, evaluate
from advbench.scores.protocols import protocol
from advbench.scores.records import read_records
from advbench.shards.reader import Shard
from advbench.shards.schema import Provenance
from advbench.shards.store import ShardStore
from advbench.shards.writer import encode


@pytest.fixture
def out(small_dataset, toy, tmp_path):
    """Shards of two attacks."""
    attacks = [
        advbench.load_attack("bim", eps=[1, 4]),
        advbench.load_attack("cw", steps=[3], lr=1e-3),
    ]
    rows = small_dataset.select("test", label=1)
    generate.generate(generate.GenerationJob(small_dataset, rows, toy, attacks, tmp_path / "out"))
    return tmp_path / "out"


@pytest.fixture
def job(out) -> EvaluationJob:
    defenses = [advbench.load_defense("median", kernel=3), advbench.load_defense("gaussian")]
    return EvaluationJob(out, defenses, protocol("f1/v1"))


def test_scores_are_in_fp32_whatever_the_caller_has_set(job, toy, out, monkeypatch):
    seen, plain = [], toy.probabilities

    def watched(images):
        seen.append((torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")))
        return plain(images)

    monkeypatch.setattr(toy, "probabilities", watched)
    before, threads = torch.backends.cudnn.allow_tf32, torch.get_num_threads()
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = True
    try:
        with torch.autocast("cpu", torch.bfloat16):
            evaluate(job, lambda identity: toy)
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before
        torch.set_num_threads(threads)
    assert set(seen) == {(False, False)}


def test_what_memory_cannot_hold_is_refused_before_any_pass(job, toy, out, monkeypatch):
    monkeypatch.setattr(sizes, "LARGE", 1)
    monkeypatch.setattr(sizes, "device_memory", lambda device: 1000)
    shapes = {item["sample_id"]: item["image"].shape[:2] for item in advbench.open_dataset(out)}
    height, width = max(shapes.values(), key=np.prod)
    with pytest.raises(AdvbenchError, match=rf"victim toy: .* of {width}×{height} whole, about"):
        evaluate(job, lambda identity: toy)
    assert not (out / "records").exists()


def test_records_equal_an_independent_computation(job, toy, out):
    evaluate(job, lambda identity: toy)
    records = read_records(out / "records")
    assert len(records) == 5 * (1 + 3) * (1 + 1 + 3)
    found = records.set_index(["sample_id", "variant", "defense", "strength"]).sort_index()
    median = advbench.load_defense("median", kernel=3)
    for item in advbench.open_dataset(out):
        pixels = torch.from_numpy(item["image"]).permute(2, 0, 1)[None]
        for name, x in (
            ("none", pixels.float() / 255),
            ("median", median(pixels, [item["sample_id"]])["median-3"]),
        ):
            map_ = toy.probabilities(x)[0, 0].numpy()
            truth, forged = item["mask"].ravel(), (map_ > 0.5).ravel()
            rows = found.loc[(item["sample_id"], item["variant"], name)]
            row = rows.iloc[0]
            assert row.f1 == pytest.approx(f1_score(truth, forged, zero_division=0), abs=1e-9)
            assert row.iou == pytest.approx(jaccard_score(truth, forged, zero_division=0), abs=1e-9)
            assert row.auc == pytest.approx(roc_auc_score(truth, map_.ravel()), abs=1e-9)
            assert row.tp + row.fp + row.fn + row.tn == truth.size
            noise = item["image"].astype(float) - item["original"]
            assert row.linf == np.abs(noise).max()
            assert row.l2 == pytest.approx(np.sqrt(((noise / 255) ** 2).sum()))


def test_undefended_scores_are_computed_once(job, toy):
    first = evaluate(replace(job, defenses=[]), lambda identity: toy)
    second = evaluate(job, lambda identity: toy)
    third = evaluate(job, lambda identity: toy)
    assert (first.scored, first.reused) == (20, 0)
    assert (second.scored, second.reused) == (80, 20)
    assert (third.scored, third.reused) == (0, 100)


def test_metrics_that_take_time_may_be_left_out(job, toy, out):
    """Fewer are served by records with more, and more are computed anew."""
    few = replace(job, metrics=("auc",))
    assert evaluate(few, lambda identity: toy).scored == 100
    found = read_records(out / "records")
    assert found.ssim.isna().all()
    assert found.auc.notna().all()
    assert write_tables(out).long.f1.notna().all()
    assert evaluate(replace(job, metrics=()), lambda identity: toy).reused == 100
    assert evaluate(job, lambda identity: toy).scored == 100
    assert evaluate(few, lambda identity: toy).reused == 100
    every = read_records(out / "records")
    assert every.ssim.notna().all()
    pd.testing.assert_series_equal(every.f1, found.f1)


def test_rp_is_relative_to_undefended_originals(job, toy, out):
    evaluate(job, lambda identity: toy)
    tables = write_tables(out)
    long, records = tables.long, read_records(out / "records")
    reference = records[(records.variant == "original") & (records.defense == "none")].f1.mean()
    row = long[(long.attack == "bim") & (long.intensity == 4) & (long.defense == "median")].iloc[0]
    chosen = records[(records.variant == "bim-4") & (records.defense == "median")]
    assert row.f1 == pytest.approx(chosen.f1.mean())
    assert row.rp == pytest.approx(100 * chosen.f1.mean() / reference)
    wide = tables.wide["tiny"].set_index(["defense", "strength"])
    both = long[(long.attack == "bim") & (long.defense == "median")]
    assert wide.loc[("median", 3.0)].bim_f1.item() == pytest.approx(both.f1.mean())
    assert (out / "tables" / "tiny.csv").is_file()


def test_results_do_not_depend_on_what_else_is_asked(job, toy, out, tmp_path):
    """A defense alone, after others, or with other strengths: the same scores."""
    evaluate(job, lambda identity: toy)
    together = read_records(out / "records").sort_values(["sample_id", "variant"])
    for path in (out / "records").rglob("gaussian*.parquet"):
        path.unlink()
    single = [advbench.load_defense("gaussian", sigma=[5, 2])]
    evaluate(replace(job, defenses=single), lambda identity: toy)
    alone = read_records(out / "records").sort_values(["sample_id", "variant"])
    for sigma in (2.0, 5.0):
        columns = ["sample_id", "variant", "tp", "fp", "f1", "auc"]
        ours = alone[alone.strength == sigma][columns].reset_index(drop=True)
        theirs = together[together.strength == sigma][columns].reset_index(drop=True)
        assert ours.equals(theirs)


def test_other_weights_are_refused(job, other_toy):
    with pytest.raises(AdvbenchError, match=r"made with weights random:3 .* not random:4"):
        evaluate(job, lambda identity: other_toy)


def test_damaged_shard_is_named_and_other_records_stay(job, toy, out):
    evaluate(replace(job, defenses=[]), lambda identity: toy)
    before = len(read_records(out / "records"))
    path = out / "shards" / "tiny" / "toy" / "cw-3" / "shard-000000.h5"
    data = bytearray(path.read_bytes())
    middle = data.index(b"x\x5e") if b"x\x5e" in data else len(data) // 2
    data[middle + 40] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedShardError, match=r"cw-3/shard-000000\.h5: damaged"):
        evaluate(job, lambda identity: toy)
    assert len(read_records(out / "records")) >= before


def test_limit_takes_the_first_images(job, toy, out):
    evaluate(replace(job, limit=2, defenses=[]), lambda identity: toy)
    records = read_records(out / "records")
    assert sorted(set(records.sample_id)) == ["tiny/photo0", "tiny/photo1"]


def test_a_limit_leaves_what_was_scored(job, toy, out):
    """The undefended originals of all images stay the reference of what was scored on all."""
    median = replace(job, defenses=job.defenses[:1])
    evaluate(median, lambda identity: toy)
    before = write_tables(out).long
    counts = evaluate(replace(job, limit=2), lambda identity: toy)
    assert (counts.scored, counts.reused) == (4 * 2 * 3, 4 * 2 * 2)
    after = write_tables(out).long
    assert set(after.defense) - set(before.defense) == {"gaussian"}
    kept = after[after.defense != "gaussian"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)
    evaluate(job, lambda identity: toy)
    assert len(read_records(out / "records")) == 100


def test_scoring_images_that_came_later_leaves_what_was_scored(job, toy, small_dataset, tmp_path):
    """As where a suite of authentic images follows one of forged ones with the same attack."""
    rows = small_dataset.select("test", label=1)
    attacks = [advbench.load_attack("bim", eps=2)]
    job = replace(job, out=tmp_path / "grown")
    known: set[str] = set()
    for part in (rows[:2], rows[2:]):
        generation = generate.GenerationJob(small_dataset, part, toy, attacks, job.out)
        generate.generate(generation)
        names = frozenset(row.sample_id for row in part)
        counts = evaluate(replace(job, samples=names), lambda identity: toy)
        assert counts.reused == 0
        known |= names
        assert set(read_records(job.out / "records").sample_id) == known
    counts = evaluate(job, lambda identity: toy)
    assert counts.scored == 0


def test_nothing_to_evaluate_is_told(job, toy, tmp_path):
    with pytest.raises(AdvbenchError, match="advbench generate"):
        evaluate(replace(job, out=tmp_path / "empty"), lambda identity: toy)
    with pytest.raises(AdvbenchError, match="no shards of what was asked"):
        evaluate(replace(job, datasets=["other"]), lambda identity: toy)


def test_a_shard_lost_after_scoring_is_named(job, toy, out):
    """Also when the store was taken as it is: scores of fewer images never stand beside others."""
    small = replace(job, defenses=[])
    evaluate(small, lambda identity: toy)
    tables = write_tables(out).long
    lost = out / "shards" / "tiny" / "toy" / "cw-3" / "shard-000000.h5"
    kept = lost.read_bytes()
    lost.unlink()
    with pytest.raises(AdvbenchError, match=r"are missing \(tiny/toy/cw-3/shard-000000\.h5\)"):
        evaluate(job, lambda identity: toy)
    evaluate(replace(small, variants=frozenset({"bim-1"})), lambda identity: toy)
    lost.write_bytes(kept)
    assert evaluate(small, lambda identity: toy).scored == 0
    pd.testing.assert_frame_equal(write_tables(out).long, tables)


def test_records_of_images_that_no_shard_holds_are_named(job, toy, out):
    small = replace(job, defenses=[])
    evaluate(small, lambda identity: toy)
    store = ShardStore(out / "shards")
    (entry,) = store.entries("tiny/toy/cw-3")
    with Shard(entry.path) as shard:
        originals = store.originals("tiny", "native")
        name = entry.sample_ids[0]
        fewer = [shard.record(0, originals.get(name)[0])]
        entry.path.write_bytes(encode(entry.settings, fewer, Provenance(**shard.provenance)))
    store.write_index(anew=True)
    with pytest.raises(AdvbenchError, match=r"cw-3/none\.parquet: scores 4 images that no shard"):
        evaluate(small, lambda identity: toy)


def test_records_of_another_run_are_taken_over(job, toy, out):
    """For fewer images too; but not if anything that decides differs."""
    evaluate(job, lambda identity: toy)
    every = read_records(out / "records")
    few = frozenset(sorted(set(every.sample_id))[:2])
    wanted = replace(job, samples=few, records=out / "own", known=out / "records")
    taken_over = evaluate(wanted, lambda identity: toy)
    assert (taken_over.scored, taken_over.reused) == (0, 2 * 4 * 5)
    taken = read_records(out / "own")
    expected = every[every.sample_id.isin(few)]
    order = ["variant", "defense", "strength", "sample_id"]
    pd.testing.assert_frame_equal(
        taken.sort_values(order, ignore_index=True), expected.sort_values(order, ignore_index=True)
    )
    other = replace(wanted, seed=1, records=out / "other")
    # Gaussian noise is drawn from the seed; the median filter has none.
    assert evaluate(other, lambda identity: toy).scored == 2 * 4 * 3
