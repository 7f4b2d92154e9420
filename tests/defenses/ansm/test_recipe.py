"""Recipes of ANSM: what cannot be trained, and the presets."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from pydantic import ValidationError

from advbench.defenses.ansm.recipe import AnsmRecipe, preset


@pytest.mark.parametrize(
    "fields",
    [
        {"epochs_first": 0, "epochs_mgr": 0},
        {"crop": 32, "batch": 1},
        {"crop": 31},
        {"depth": "deep"},
        {"epochs": 3},
        {"lr_first": 0},
    ],
    ids=str,
)
def test_recipes_that_cannot_be_trained(fields):
    with pytest.raises(ValidationError):
        AnsmRecipe(**fields)


def test_presets_are_those_of_the_paper():
    path = Path(__file__).parents[4] / "shared" / "paper" / "table2.csv"
    if not path.is_file():
        pytest.skip("no tables of the paper here")
    for row in csv.DictReader(io.StringIO(path.read_text())):
        recipe = AnsmRecipe(**preset(row["victim"], "full"))
        assert recipe.crop == int(row["size"])
        assert (recipe.lr_first, recipe.lr_mgr) == (float(row["lr_ffa"]), float(row["lr_mgr"]))
        assert recipe.epochs_first == int(row["epochs_ffa"])
        assert recipe.epochs_mgr == int(row["epochs_mgr"])
        assert (recipe.depth, recipe.first, recipe.target) == ("middle", "ffa", "prediction")
        assert (recipe.eps, recipe.mask_weight) == (3, 0.3)
        assert recipe.forged_share == 0  # crops at random


def test_small_victims_have_a_crop_that_they_take():
    assert AnsmRecipe(**preset("hdfnet", "small")).crop == 256
    assert preset("ifosn", "small") == {}
