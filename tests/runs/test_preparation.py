"""Prepared datasets are shared by the runs that can share them, within a limit on their memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlsys_bench.data import Dataset, Splits, join_inputs, load
from dlsys_bench.errors import DataError
from dlsys_bench.runs.preparation import Cache, check_data, prepare_for, size_of
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import Dense, Flatten
from dlsys_bench.spec.losses import SparseCategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

DIGITS = load("digits")
RECIPE = Recipe(validation_split=0.1)


def test_runs_share_what_their_recipes_prepare_alike() -> None:
    first = prepare_for(RECIPE, DIGITS, "float32", 1)
    assert prepare_for(replace(RECIPE, epochs=3), DIGITS, "float32", 2) is first
    others = [
        prepare_for(RECIPE, DIGITS, "float64", 1),
        prepare_for(replace(RECIPE, scaling="standard"), DIGITS, "float32", 1),
        prepare_for(replace(RECIPE, samples=100), DIGITS, "float32", 1),
        prepare_for(RECIPE, replace(DIGITS), "float32", 1),
    ]
    assert first not in others


def test_a_random_split_depends_on_the_seed() -> None:
    recipe = replace(RECIPE, split="random")
    one, other = (prepare_for(recipe, DIGITS, "float32", seed) for seed in (1, 2))
    assert prepare_for(recipe, DIGITS, "float32", 2) is other
    assert not np.array_equal(one.train.y, other.train.y)


def test_the_memory_is_limited_and_freed_with_the_dataset() -> None:
    made: list[int] = []
    splits = prepare_for(RECIPE, DIGITS, "float32", 1)
    cache, dataset = Cache(2 * size_of(splits)), replace(DIGITS)

    def make() -> Splits:
        made.append(number)
        return splits

    for number in (1, 2, 1, 3, 1, 2):
        assert cache.get(dataset, number, make) is splits
    # The third dropped the second, which was used least recently.
    assert made == [1, 2, 3, 2]
    small = Cache(size_of(splits) - 1)
    assert small.get(dataset, 1, lambda: splits) is splits
    assert not small.kept[dataset]
    del dataset
    assert not cache.kept


def test_sequences_of_floats_need_the_name_that_an_error_advises() -> None:
    """A dataset takes x (N, T, C) for images of one channel, so that x has the right shape."""
    x, y = np.zeros((8, 5, 2)), np.arange(8) % 2
    data, layers = Dataset("d", x, y, x, y, ("a", "b")), (Flatten(), Dense(2))
    loss = SparseCategoricalCrossEntropy()
    with pytest.raises(DataError) as error:
        check_data(data, Model("m", (5, 2), layers), loss)
    assert str(error.value).endswith(
        "but model 'm' takes (5, 2); x (N, T, C) are images (N, H, W) unless the input has a name: "
        'data.join_inputs({"x": x}) fits a model of inputs=(Input("x", (5, 2)),)'
    )
    named = join_inputs({"x": x})
    sequences = Dataset("d", named, y, named, y, ("a", "b"))
    check_data(sequences, Model("m", inputs=(Input("x", (5, 2)),), layers=layers), loss)
