"""Studies and arms of anything but models and recipes are refused when they are made."""

from __future__ import annotations

from typing import Any

import pytest

from dlsys_bench.errors import SpecError
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Study

ARM = Arm("plain", Model("m", (4,), (Dense(3),)), {"quick": Recipe()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 3}, "arm 3: the name is not a string"),
        ({"model": "m"}, "arm 'a': model is 'm'; expected a Model"),
        ({"recipes": Recipe()}, "expected the recipe of each tier, such as"),
        ({"recipes": {}}, "recipes is {}; expected the recipe of each tier"),
        ({"recipes": {"quick": None}}, "recipes is {'quick': None}; expected the recipe"),
    ],
)
def test_an_arm_has_a_model_and_recipes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Arm(**{"name": "a", "model": ARM.model, "recipes": ARM.recipes, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": None}, "study None: the name is not a string"),
        ({"dataset": 5}, "study 's': dataset is 5; expected a name, or"),
        ({"arms": ARM}, r"arms is Arm\(.*; expected a tuple, such as \(Arm\(...\),\)"),
        ({"arms": ("plain",)}, r"arms is \('plain',\); expected a tuple"),
    ],
)
def test_a_study_has_a_dataset_and_arms(options: dict[str, Any], message: str) -> None:
    known = {"name": "s", "title": "t", "source": "ours", "dataset": "digits", "arms": (ARM,)}
    with pytest.raises(SpecError, match=message):
        Study(**{**known, **options})
