"""The cases of the checks of replicas: a new layer or part of a recipe has to be in one of them."""

from __future__ import annotations

from dlsys_bench.conformance.checks.replicas import CASES
from dlsys_bench.spec.layers import LAYERS
from dlsys_bench.spec.recipe import PARTS, Recipe


def test_every_layer_is_in_a_model() -> None:
    kinds = {layer.kind for case in CASES.values() for layer in case.model.layers}
    kinds |= {row.layer.kind for case in CASES.values() for row in case.model.table}
    assert set(LAYERS) == kinds


def test_every_part_is_in_a_recipe() -> None:
    default = Recipe()
    for name in (*PARTS, "augment", "accumulate"):
        changed = [getattr(case.recipe, name) != getattr(default, name) for case in CASES.values()]
        assert any(changed), name
