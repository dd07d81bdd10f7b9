"""Prepared datasets are shared by the runs that can share them, within a limit on their memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlsys_bench.data import Splits, load
from dlsys_bench.runs.preparation import Cache, prepare_for, size_of
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
